"""A model, and streams as cameras send them."""

from pathlib import Path

import pytest
from live_sources import write_stream
from serve_graphs import write_graph

from serve import Segmenter


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "m.onnx")


@pytest.fixture(scope="session")
def segmenter(graph: Path) -> Segmenter:
    return Segmenter(graph, threads=1)


@pytest.fixture(scope="session")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("streams")
    return {
        "long": write_stream(folder / "long.ts", 1500),
        "first": write_stream(folder / "first.ts", 50, sound="aac"),
        "second": write_stream(folder / "second.ts", 50, first=50, sound="aac"),
        "large": write_stream(folder / "large.ts", 50, first=50, sound="aac", size=128),
        "stereo": write_stream(folder / "stereo.ts", 50, first=50, sound="aac", layout="stereo"),
    }
