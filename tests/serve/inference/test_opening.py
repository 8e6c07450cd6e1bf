"""Opening a session: as many threads as there are cores for this process."""

import onnxruntime
import pytest
from onnx import TensorProto, helper

from serve.inference import opening


@pytest.mark.parametrize(
    ("cores", "machine", "wanted", "expected"),
    [(1, 4, 0, 1), (2, 64, 0, 2), (4, 4, 0, 0), (1, 4, 3, 3), (2, None, 0, 0)],
)
def test_no_more_threads_than_cores(cores, machine, wanted, expected, monkeypatch):
    """0 is ONNX Runtime's own number, one for each core of the machine."""
    value = (TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "nothing",
        [helper.make_tensor_value_info("x", *value)],
        [helper.make_tensor_value_info("y", *value)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    monkeypatch.setattr(opening, "cores", lambda: cores)
    monkeypatch.setattr(opening.os, "cpu_count", lambda: machine)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = wanted
    opening.open_session(model.SerializeToString(), "nothing", options=options)
    assert options.intra_op_num_threads == expected
