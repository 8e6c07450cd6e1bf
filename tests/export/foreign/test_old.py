"""Graphs of other ages, sizes and types: taken, or refused before any footage is read."""

import numpy as np
import onnx
import pytest
from calibrated_models import call
from foreign_segmenters import write_pictures, write_segmenter
from onnx import TensorProto

from export.foreign.adapters import logits_graph_of
from export.foreign.convention import Told
from export.foreign.network import open_network


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_whole_numbers_need_no_cast_that_tensorrt_lacks(layout, tmp_path):
    path = write_segmenter(tmp_path / "model.onnx", inside=255, dtype=TensorProto.UINT8, layout=layout)
    model = logits_graph_of(open_network(path, Told(), None))
    casts = [a.i for node in model.graph.node if node.op_type == "Cast" for a in node.attribute]
    assert casts == [TensorProto.FLOAT]


def test_whole_numbers_that_stay_such_are_made_so(tmp_path):
    path = write_segmenter(tmp_path / "model.onnx", inside=255, dtype=TensorProto.UINT8)
    model = onnx.load(path)
    model.graph.node.insert(0, onnx.helper.make_node("Max", ["picture", "picture"], ["same"]))
    model.graph.node[1].input[0] = "same"
    onnx.save(model, path)
    whole = logits_graph_of(open_network(path, Told(), None))
    casts = [a.i for node in whole.graph.node if node.op_type == "Cast" for a in node.attribute]
    assert casts == [TensorProto.UINT8, TensorProto.FLOAT]


def test_a_conversion_that_says_something_else_is_refused_early(tmp_path, monkeypatch):
    path = write_segmenter(tmp_path / "model.onnx", inside=1, opset=11)
    footage = write_pictures(tmp_path / "footage", count=1)
    converter = onnx.version_converter.convert_version

    def wrong(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        changed = converter(model, version)
        bias = next(t for t in changed.graph.initializer if list(t.dims) == [4])
        bias.CopyFrom(onnx.numpy_helper.from_array(np.float32([1, 2, 3, 4]), bias.name))
        return changed

    monkeypatch.setattr(onnx.version_converter, "convert_version", wrong)
    said = call("balance", path, "--target", footage / "images", "-o", tmp_path / "out.onnx")
    assert said.exit_code == 2 and "says something else when it is converted" in said.output
    assert "[2/5]" not in said.output
