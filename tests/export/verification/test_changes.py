"""What a new file says otherwise than the one before."""

import numpy as np
import pytest
from serve_graphs import halves, write_graph

from export.verification.changes import Changes, changes


def test_labels_are_compared_pixel_by_pixel(tmp_path):
    """Of two graphs, one of which sees red as blue where nothing is brighter."""
    before, after = write_graph(tmp_path / "a.onnx"), write_graph(tmp_path / "b.onnx", runtime_tau=True)
    assert changes(before, after, [halves()]).changed == 0
    dim = halves() // 3
    dim[:10] = 255
    found = changes(before, before, [halves(), dim])
    assert found.counts.sum() == 2 * 72 * 96 and found.changed == 0


def test_shares_are_said_largest_change_first():
    found = Changes(("a", "bc", "d"), np.array([[60, 0, 10], [0, 20, 0], [0, 2, 8]]))
    assert found.changed == pytest.approx(0.12)
    first, *rest = found.report().splitlines()
    assert "12.00% of 100 labels" in first
    assert [line.split() for line in rest] == [
        ["a", "70.00%", "->", "60.00%"],
        ["d", "10.00%", "->", "18.00%"],
        ["bc", "20.00%", "->", "22.00%"],
    ]
