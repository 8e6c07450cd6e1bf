"""A demo, a client of its API, and a picture."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import gradio_client
import pytest
from demo_server import Demo, demo
from PIL import Image
from serve_graphs import halves, write_graph


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    return (
        write_graph(folder / "sliding.onnx", runtime_tau=True, extras=True),
        write_graph(folder / "plain.onnx"),
    )


@pytest.fixture(scope="module")
def server(graphs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("server"), *graphs, "--max-seconds", 60, "--max-upload", 20) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Demo) -> gradio_client.Client:
    return gradio_client.Client(server.url, verbose=False)


@pytest.fixture
def downloads_go_with_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gradio_client leaves a folder in the temporary one for every file that it fetched."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(halves(80, 100)).save(tmp_path / "street.png")
    return tmp_path / "street.png"
