"""What a file leaves open about its pictures, and what can be found out all the same."""

import json

import numpy as np
import onnx
import pytest
from foreign_alterations import unsaid_channels
from foreign_segmenters import write_segmenter
from onnx import helper, numpy_helper

from export.foreign.convention import Told, intake
from export.foreign.graph import UnknownError
from export.foreign.network import open_network


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_where_channels_are_is_seen_from_the_first_convolution(layout, order, tmp_path):
    path = write_segmenter(tmp_path / "model.onnx", inside=255, layout=layout, order=order)
    unsaid_channels(onnx.load(path), path)
    assert intake(onnx.load(path), Told(), path).layout == layout


def test_where_no_convolution_reads_them_it_is_asked(tmp_path):
    path = tmp_path / "model.onnx"
    shape = ["n", "a", "b", "c"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["picture", "mix"], ["scores"])],
        "mix",
        [helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.ones((3, 4), np.float32), "mix")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    with pytest.raises(UnknownError, match="give --layout NCHW or --layout NHWC"):
        intake(onnx.load(path), Told(), path)


def test_a_graph_that_takes_the_size_beside_it_alone_is_opened_without_a_word(tmp_path, capfd):
    """As DPT and BEiT are, whose positions were written down at that size: other sizes are tried in vain."""
    path, size = tmp_path / "model.onnx", (80, 112)
    model = onnx.load(write_segmenter(path, inside=1))
    shape = numpy_helper.from_array(np.array([1, 3, *size]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, helper.make_node("Reshape", ["picture", "shape"], ["only"]))
    model.graph.node[1].input[0] = "only"
    onnx.save(model, path)
    said = {"do_rescale": True, "size": {"height": size[0], "width": size[1]}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    opened = open_network(path, Told(), None)
    assert opened.intake.size == size and opened.outlet.output_stride == 4
    assert capfd.readouterr() == ("", ""), "ONNX Runtime prints what it raises"


def test_where_ranges_are_taken_from_what_runs_pictures_run_alone(tmp_path):
    """A dynamic quantisation: beside a brighter picture, one would get other labels."""
    path = write_segmenter(tmp_path / "model.onnx", inside=1)
    assert intake(onnx.load(path), Told(), path).batch is None
    model = onnx.load(path)
    last = model.graph.output[0].name
    parts = ["whole", "step", "zero"]
    model.graph.node.append(helper.make_node("DynamicQuantizeLinear", [last], parts))
    model.graph.node.append(helper.make_node("DequantizeLinear", parts, ["changed"]))
    model.graph.output[0].name = "changed"
    assert intake(model, Told(), path).batch == 1
