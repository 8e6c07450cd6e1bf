"""A model on one thread."""

import pytest
from serve_graphs import write_graph

from serve import Segmenter


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(write_graph(tmp_path_factory.mktemp("graph") / "m.onnx", extras=True), threads=1)
