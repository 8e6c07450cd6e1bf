"""A model and a folder of pictures."""

from pathlib import Path

import pytest
from PIL import Image
from serve_graphs import halves, write_graph


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.onnx", extras=True)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size in {"a.png": (72, 96), "b.jpg": (100, 81), "c.png": (20, 30)}.items():
        Image.fromarray(halves(*size)).save(folder / name)
    return folder
