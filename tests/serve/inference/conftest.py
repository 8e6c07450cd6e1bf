"""A network with a bounded view."""

from pathlib import Path

import pytest
from seeing_graphs import write_network

REACH = 3  # cells of 4 pixels


@pytest.fixture(params=[False, True], ids=["labels", "scores"])
def network(request, tmp_path: Path) -> Path:
    """A network with a bounded view, without and with scores."""
    return write_network(tmp_path / "m.onnx", reach=REACH, scores=request.param)
