"""The demo and web pages elsewhere, in a real Chromium: names made to point here, requests sent across."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import AVAILABLE, MISSING, chromium, until
from demo_server import Demo, demo
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from serve_graphs import halves, write_graph

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=MISSING)

KNOWN, FOREIGN = "demo.example.org", "evil.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    graph = write_graph(folder / "plain.onnx")
    with demo(folder / "server", graph, "--allow-host", KNOWN) as running:
        yield running


@pytest.fixture(scope="module")
def window() -> Iterator[Chrome]:
    with chromium(names=[KNOWN, FOREIGN]) as driver:
        yield driver


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an empty page on another server, under the foreign name."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "index.html").write_text("<title>elsewhere</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder))) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://{FOREIGN}:{other.server_port}/"
        other.shutdown()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _port(server: Demo) -> str:
    return server.url.rpartition(":")[2]


def _uploads(server: Demo) -> list[Path]:
    return [path for path in server.temporary.rglob("*") if path.is_file()]


def test_without_examples_it_says_what_to_do(window, server):
    window.get(server.url)
    until(lambda: "Give a picture" in window.find_element(By.CSS_SELECTOR, "#legend").text, "hint", 60)
    assert not window.find_element(By.CSS_SELECTOR, "#downloads").is_displayed()


def test_the_page_works_under_a_name_that_was_allowed(window, server, tmp_path):
    Image.fromarray(halves(80, 100)).save(tmp_path / "street.png")
    window.get(f"http://{KNOWN}:{_port(server)}/")
    field = until(
        lambda: window.find_element(By.CSS_SELECTOR, "#picture input[type=file]"), "upload field", 60
    )
    field.send_keys(str(tmp_path / "street.png"))
    legend = until(lambda: window.find_element(By.CSS_SELECTOR, "#legend tbody").text, "legend")
    assert "red 50.0" in " ".join(legend.split())


def test_a_foreign_name_that_points_here_is_refused(window, server):
    window.get(f"http://{FOREIGN}:{_port(server)}/")
    assert f"This page is not known as {FOREIGN}" in window.find_element(By.TAG_NAME, "body").text


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_a_page_elsewhere_can_send_nothing(window, server, elsewhere, mode):
    """Neither with the browser's question before the request nor as a form, about which it does not ask."""
    before = _uploads(server)
    window.get(elsewhere)
    assert window.title == "elsewhere"
    script = """
        const [address, mode, done] = arguments, body = new FormData();
        body.append("files", new Blob([mode]), "sent.png");
        fetch(address, {method: "POST", mode, body}).then(a => done(a.status), error => done(String(error)));
    """
    window.execute_async_script(script, f"http://127.0.0.1:{_port(server)}/gradio_api/upload", mode)
    assert _uploads(server) == before
