"""Two demos, the one for requests that make no sense and the other for load that hurts, with their files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_server import Demo, demo, log, upload
from fuzzed import Site
from PIL import Image
from serve_graphs import halves, write_clip, write_graph, write_slow_graph


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    models = (
        write_graph(folder / "sliding.onnx", runtime_tau=True, extras=True),
        write_graph(folder / "plain.onnx"),
    )
    (folder / "examples").mkdir()
    picture, clip = folder / "examples" / "street.png", folder / "examples" / "drive.mp4"
    Image.fromarray(halves(32, 40)).save(picture)
    write_clip(clip, times=range(2), picture=halves(32, 40))
    with demo(folder / "server", *models, "--examples", folder / "examples") as running:
        yield Site(running, upload(running, picture), upload(running, clip))


@pytest.fixture
def nothing_in_the_log(site: Site) -> Iterator[None]:
    before = len(log(site.server))
    yield
    new = log(site.server)[before:]
    assert "Traceback" not in new and "ERROR" not in new, new
    assert site.server.process.poll() is None


@pytest.fixture(scope="module")
def slow_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes minutes per picture."""
    return write_slow_graph(tmp_path_factory.mktemp("slow") / "slow.onnx", 600)


@pytest.fixture(scope="module")
def server(slow_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """For short videos only."""
    folder = tmp_path_factory.mktemp("load")
    with demo(
        folder / "server", write_graph(folder / "quick.onnx"), slow_graph, "--max-seconds", 4
    ) as running:
        yield running


@pytest.fixture(scope="module")
def picture(server: Demo, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("picture") / "street.png"
    Image.fromarray(halves(64, 64)).save(path)
    return upload(server, path)


@pytest.fixture(scope="module")
def clip(server: Demo, tmp_path_factory: pytest.TempPathFactory) -> str:
    return upload(server, write_clip(tmp_path_factory.mktemp("clip") / "drive.mp4", times=range(24)))
