"""Opening a session: threads, memory, and a session that is open already."""

import onnxruntime
import pytest
from onnx import TensorProto, helper
from serve_graphs import halves, write_graph

from serve.inference import opening
from serve.inference.segmenter import Segmenter


def nothing() -> bytes:
    """A graph that gives what it gets."""
    value = (TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "nothing",
        [helper.make_tensor_value_info("x", *value)],
        [helper.make_tensor_value_info("y", *value)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("cores", "machine", "wanted", "expected"),
    [(1, 4, 0, 1), (2, 64, 0, 2), (4, 4, 0, 0), (1, 4, 3, 3), (2, None, 0, 0)],
)
def test_no_more_threads_than_cores(cores, machine, wanted, expected, monkeypatch):
    """0 is ONNX Runtime's own number, one for each core of the machine."""
    monkeypatch.setattr(opening, "cores", lambda: cores)
    monkeypatch.setattr(opening.os, "cpu_count", lambda: machine)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = wanted
    opening.open_session(nothing(), "nothing", options=options)
    assert options.intra_op_num_threads == expected


def test_a_session_that_seldom_runs_plans_no_memory():
    for seldom in (False, True):
        options = onnxruntime.SessionOptions()
        opening.open_session(nothing(), "nothing", options=options, seldom=seldom)
        assert options.enable_mem_pattern is not seldom


def test_a_session_that_is_open_segments_as_the_file_does(tmp_path):
    path = write_graph(tmp_path / "model.onnx", runtime_tau=True)
    session = opening.open_session(str(path), str(path), seldom=True)
    opened, file = Segmenter(opening.runtime_of(path, session)), Segmenter(path, provider="cpu")
    assert opened.runtime.session is session
    assert opened.card == file.card and opened.provider == "cpu"
    for tau in (None, 0.0, 1.5):
        assert (opened(halves(), tau).labels == file(halves(), tau).labels).all()
