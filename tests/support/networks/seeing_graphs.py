"""A graph that sees a known number of cells around a pixel, and a picture for it."""

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from serve_graphs import card

from serve.card import GraphInfo, to_metadata


def write_network(
    path: Path, *, reach: int, scores: bool, size: tuple[int, int] | None = None, unit: int = 4
) -> Path:
    """A graph as exports are: pad to the stride, score by a filter that sees `reach` cells, upsample."""
    height, width = size or ("H", "W")
    side = 2 * reach + 1
    rng = np.random.default_rng(7)
    weights = rng.normal(0, 1, (3, 3, side, side)).astype(np.float32)
    constants = {
        "weights": weights,
        "scales": np.array([1, 1, unit, unit], np.float32),
        "unit": np.array([unit], np.int64),
        "less": np.array([unit - 1], np.int64),
        "zeros": np.zeros(6, np.int64),
        "two": np.array([2], np.int64),
        "four": np.array([4], np.int64),
        "corner": np.zeros(2, np.int64),
        "axes": np.array([2, 3], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["plain"], perm=[0, 3, 1, 2]),
        node("Shape", ["plain"], ["shape"]),
        node("Slice", ["shape", "two", "four"], ["size"]),
        node("Add", ["size", "less"], ["up"]),
        node("Div", ["up", "unit"], ["cells"]),
        node("Mul", ["cells", "unit"], ["whole"]),
        node("Sub", ["whole", "size"], ["missing"]),
        node("Concat", ["zeros", "missing"], ["pads"], axis=0),
        node("Pad", ["plain", "pads"], ["padded"]),
        node("AveragePool", ["padded"], ["small"], kernel_shape=[unit, unit], strides=[unit, unit]),
        node("Conv", ["small", "weights"], ["scores"], pads=[reach] * 4),
        node("Resize", ["scores", "", "scales"], ["large"], mode="linear"),
        node("Slice", ["large", "corner", "size", "axes"], ["cropped"]),
        node("ArgMax", ["cropped"], ["wide"], axis=1, keepdims=0),
        node("Cast", ["wide"], ["labels"], to=TensorProto.UINT8),
    ]
    outputs = [helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", height, width])]
    if scores:
        outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3, "h", "w"]))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, 3])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "network", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, to_metadata(GraphInfo(card(size))))
    onnx.save(model, path)
    return path


def scene(height: int, width: int) -> np.ndarray:
    """Smooth random colours, uint8 [H, W, 3]."""
    coarse = np.random.default_rng(5).integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
