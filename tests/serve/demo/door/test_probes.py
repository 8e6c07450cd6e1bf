"""/health and /metrics: what they tell to whom. What asks under a foreign name is in test_hosts.py."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio_client
import pytest
from api_client import segment
from attacked import KNOWN_AS, Site, answer_to, ask
from demo_server import demo, file_data, log, result, submit
from metrics_text import metrics_of, of_class
from serve_graphs import CLASSES, write_graph

from serve.demo.door.login import Accounts
from serve.demo.door.probes import Probes
from serve.gathering.rule import Rule

SECRET = "let me in"


def test_health_is_said_to_everybody_and_nothing_else_with_it(site: Site) -> None:
    for method, text in (("GET", "ok\n"), ("HEAD", "")):
        for host in (f"127.0.0.1:{site.port}", KNOWN_AS):
            status, said, headers = answer_to(site, method, "/health", Host=host)
            assert (status, said) == (200, text) and headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/health", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_they_can_be_read_only(site: Site, method: str, path: str) -> None:
    status, text = ask(site, method, path, b"{}")
    assert (status, text) == (405, "This can be read only.\n")


@pytest.mark.parametrize(
    "path",
    [
        "/health/",
        "/metrics/",
        "//metrics",
        "/metrics/../config",
        "/Metrics",
        "/metrics%00",
        "/metrics%2f",
        "/gradio_api/metrics",
        "/metricsx",
    ],
)
def test_other_spellings_are_not_there(site: Site, path: str) -> None:
    assert ask(site, "GET", path) == (404, "This page has nothing of that name.\n")


def test_metrics_count_requests(site: Site) -> None:
    picture = file_data(site.uploaded)
    before = metrics_of(ask(site, "GET", "/metrics")[1])
    right, wrong = (
        submit(site.server, "segment_image", "plain.onnx", picture, None, opacity, []) for opacity in (0.5, 7)
    )
    result(site.server, "segment_image", right)
    with pytest.raises(AssertionError, match="error"):
        result(site.server, "segment_image", wrong)
    status, text, headers = answer_to(site, "GET", "/metrics")
    assert status == 200 and headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    after = metrics_of(text)
    for outcome in ("answered", "refused"):
        labels = (("handler", "segment_image"), ("outcome", outcome))
        name = "blda_demo_requests_total"
        assert after[name, labels] == before.get((name, labels), 0) + 1
    assert after["blda_demo_requests_waiting", ()] == after["blda_demo_requests_at_work", ()] == 0
    assert not any("gathered" in name for name, _ in after)


def test_names_from_requests_do_not_get_into_metrics(site: Site) -> None:
    """Each would be a series of its own: memory of the server's, and of whoever scrapes it."""
    for number in range(3):
        body = json.dumps({"data": []}).encode()
        ask(site, "POST", f"/gradio_api/call/segment_{number}", body)
        ask(site, "GET", f"/metrics?name=segment_{number}", X_Forwarded_Host=f"segment_{number}")
    text = ask(site, "GET", "/metrics")[1]
    handlers = {dict(labels).get("handler") for _, labels in metrics_of(text)} - {None}
    assert handlers <= {"segment_image", "segment_video", "page"}


@pytest.mark.parametrize(
    "address",
    ["192.0.2.1", "2001:db8::1", "127.0.0.1, 192.0.2.1", "::ffff:192.0.2.1", "unknown", "10.0.0.1"],
)
def test_without_a_password_metrics_are_for_this_machine(site: Site, address: str) -> None:
    """A visitor who comes by a proxy; counts before and after a picture would tell of it."""
    status, text = ask(site, "GET", "/metrics", X_Forwarded_For=address)
    assert status == 403 and "this machine only" in text and "blda_" not in text
    assert ask(site, "GET", "/health", X_Forwarded_For=address)[0] == 200


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A demo with a password, which gathers."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "accounts").write_text(f"ada:{SECRET}\n")
    rule = Rule(-0.25, 1.0, (0.0, 0.0, 0.0))
    graph = write_graph(folder / "sliding.onnx", runtime_tau=True, extras=True, gather=rule)
    options = ("--gather", folder / "f", "--gather-every", 1, "--gather-save", 1000)
    with demo(folder / "server", graph, *options, "--auth", folder / "accounts") as running:
        yield Site(running, folder, folder, "")


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def read(
    site: Site, authorization: str | None, address: str = "192.0.2.9"
) -> tuple[int, str, dict[str, str]]:
    given = {} if authorization is None else {"Authorization": authorization}
    return answer_to(site, "GET", "/metrics", X_Forwarded_For=address, **given)


def test_with_accounts_metrics_take_a_password_from_everybody(locked: Site) -> None:
    assert ask(locked, "GET", "/health") == (200, "ok\n")
    for address in ("127.0.0.1", "192.0.2.9"):
        status, text, headers = read(locked, None, address)
        assert status == 401 and "blda_" not in text
        assert headers["www-authenticate"].startswith("Basic ")
        assert read(locked, basic("ada", SECRET), address)[0] == 200


WRONG = (
    "",
    "Basic",
    "Basic ",
    "Basic !!!",
    "Basic /w==",
    "Basic YWRh",
    f"Bearer {SECRET}",
    "Basic " + "A" * 4000,
    basic("ada", "wrong"),
    basic("", ""),
    basic("ada", ""),
    basic("", SECRET),
    basic("ada\0", SECRET),
)


@pytest.mark.parametrize(("number", "header"), list(enumerate(WRONG)))
def test_what_is_no_name_and_password_is_refused(locked: Site, number: int, header: str) -> None:
    status, text, _ = read(locked, header, address=f"198.51.100.{number}")
    assert status == 401 and "blda_" not in text
    assert "Traceback" not in log(locked.server)


def test_wrong_passwords_slow_down_who_gives_them(locked: Site) -> None:
    status, tries = 401, 0
    while status != 429:  # the wait doubles, so that it comes to this however slow the machine is
        assert status == 401 and tries < 20
        status, tries = read(locked, basic("ada", f"wrong {tries}"), "203.0.113.5")[0], tries + 1
    status, text, headers = read(locked, basic("ada", SECRET), "203.0.113.5")
    assert (status == 200) == ("blda_" in text) and status in (200, 429)
    assert status == 200 or int(headers["retry-after"]) >= 1
    assert read(locked, basic("ada", SECRET), "203.0.113.6")[0] == 200


def test_two_authorizations_are_none() -> None:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    given = (b"authorization", basic("ada", SECRET).encode())
    scope = {"method": "GET", "path": "/metrics", "headers": [given, given], "client": ("192.0.2.1", 1)}
    asyncio.run(Probes(lambda: "secret", Accounts({"ada": SECRET}))(scope, send))
    assert said[0]["status"] == 401 and b"secret" not in said[1]["body"]


@pytest.mark.usefixtures("downloads_go_with_the_test")
def test_metrics_say_what_is_gathered(locked: Site, picture: Path) -> None:
    segment(gradio_client.Client(locked.server.url, auth=("ada", SECRET), verbose=False), picture)
    found = of_class(metrics_of(read(locked, basic("ada", SECRET))[1]))
    assert found["blda_gathered_frames_total", ""] == 1
    for name, counted in (
        (
            "pixels_total",
            [20 * 12, 20 * 13, 0],
        ),  # the label at a logit pixel's centre, which is at the border
        ("uncorrected_pixels_total", [20 * 13, 20 * 12, 0]),
        ("agreed_pixels_total", [20 * 12, 20 * 12, 0]),
        ("confidence_count", [20 * 13, 20 * 12, 0]),
    ):
        assert [found[f"blda_gathered_{name}", of] for of in CLASSES] == counted
    assert found["blda_gathered_failed", ""] == found["blda_gathered_outside_total", ""] == 0
    for name in ("last_frame", "saved"):
        assert found[f"blda_gathered_{name}_timestamp_seconds", ""] > 1e9
