"""The demo in a real Chromium, without a network, and the files that a visitor has."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, resize
from demo_server import Demo, demo
from PIL import Image
from selenium.webdriver import Chrome
from serve_graphs import halves, write_clip, write_graph
from visitor import STREET, wait_for_the_example


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graphs, pictures and a clip; `examples/` is what the demo offers."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "examples").mkdir()
    write_graph(folder / "sliding.onnx", runtime_tau=True, extras=True)
    write_graph(folder / "plain.onnx")
    Image.fromarray(STREET).save(folder / "street.png")
    Image.fromarray(STREET[:, ::-1]).save(folder / "examples" / "mirrored.png")
    write_clip(folder / "clip.mp4", times=range(36), picture=halves(144, 192), sound="aac")
    write_clip(folder / "long.mp4", times=range(900), picture=halves(360, 480))
    (folder / "renamed.png").write_text("This is no picture.\n")
    with (folder / "large.png").open("wb") as large:
        large.truncate(4 * 2**30)  # a hole: it takes no room on the disk
    return folder


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[Demo]:
    models = (files / "sliding.onnx", files / "plain.onnx")
    with demo(files / "server", *models, "--examples", files / "examples") as running:
        yield running


@pytest.fixture(scope="module")
def window() -> Iterator[Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def page(window: Chrome, server: Demo) -> Chrome:
    """The page, freshly loaded, at desktop width."""
    resize(window, 1280, 900)
    window.get(server.url)
    wait_for_the_example(window)
    return window
