"""The tables that a graph makes when it is opened are those of its knots, however many there are."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_segmenters import statistics

import export.fold.tables
from export.fold.nodes import PREFIX, Builder
from export.fold.rows import Tabled, rows_of_one
from export.fold.tables import LookupTable, lookup_table

TAU = 0.5


def opened(b: Builder, names: list[str]) -> list[np.ndarray]:
    """Values of nodes that read no input."""
    graph = helper.make_graph(
        b.nodes,
        "tables",
        [],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        b.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, {})


def at_all_bins(table: LookupTable) -> np.ndarray:
    """D [l, bins, c] by numpy."""
    k, C = np.arange(table.bins), len(table.knots)
    return np.stack(
        [[np.interp(k, table.knots[l], table.shift[c, l]) for c in range(C)] for l in range(C)]
    ).transpose(0, 2, 1)


@pytest.mark.parametrize("most", [None, 2982, 5000, 4096])
def test_the_nodes_say_what_the_knots_say(most, monkeypatch):
    """Also where the number of bins is no square, and channels have different numbers of knots."""
    if most is not None:
        monkeypatch.setattr(export.fold.tables, "MAX_BYTES", 4 * 3 * 3 * most)
    table = lookup_table(statistics(3, 4), TAU, 0.01)
    assert most is None or table.bins == most
    assert (table.knots[:, -1] >= table.bins).any()  # spare ones
    b = Builder()
    rows_of_one(b, [Tabled(table, TAU)], runtime=False, wide=True)
    exponents, own = opened(b, [PREFIX + "exponents", PREFIX + "own_of_all"])
    exact, C = at_all_bins(table), 3
    offsets = (np.arange(table.bins) - (table.bins - 1) / 2) * table.width
    expected = TAU * exact + offsets[:, None]
    others = ~np.eye(C, dtype=bool)[:, None].repeat(table.bins, 1)
    assert np.abs(exponents - expected)[others].max() < 2e-5
    assert exponents[~others].max() < -1e37
    middle = table.start + (table.bins - 1) / 2 * table.width
    mine = TAU * exact[np.arange(C), :, np.arange(C)].reshape(-1) - middle
    assert np.abs(own - mine).max() < 2e-5


def test_no_value_has_a_number_for_every_pair_of_a_knot_and_a_bin():
    table = lookup_table(statistics(3, 4), TAU, 0.001)
    C, M, bins = *table.knots.shape, table.bins
    b = Builder()
    rows_of_one(b, [Tabled(table, TAU)], runtime=False, wide=False)
    names = [node.output[0] for node in b.nodes]
    graph = helper.make_graph(
        b.nodes, "tables", [], [helper.make_empty_tensor_value_info(name) for name in names], b.initializers
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    largest = max(value.size for value in session.run(names, {}))
    assert largest <= 2 * max(C * C * bins, C * M * (int(bins**0.5) + 1)) < C * bins * M
