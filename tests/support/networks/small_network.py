"""A small transformer-like logits graph, written by hand, and pictures that it tells apart."""

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_segmenters import MEAN, STD


def small_network(classes: int = 3, width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Patches, a depthwise convolution, attention over channels, a classifier: [n,3,H,W] -> [n,C,H/4,W/4]."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)
        return numpy_helper.from_array(values.astype(np.float32), name)

    constants = [
        weight("patch", width, 3, 4, 4),
        weight("patch_bias", width),
        weight("spatial", width, 1, 3, 3),
        numpy_helper.from_array(np.ones(width, np.float32), "gain"),
        numpy_helper.from_array(np.zeros(width, np.float32), "shift"),
        weight("query", width, width),
        weight("value", width, width),
        weight("mix", width, 2 * width, 1, 1),
        weight("classes", classes, width, 1, 1),
        weight("classes_bias", classes),
    ]
    constants[-2].CopyFrom(
        numpy_helper.from_array(6 * numpy_helper.to_array(constants[-2]), "classes")
    )  # logits a few units apart, as trained ones are
    nodes = [
        helper.make_node("Conv", ["x", "patch", "patch_bias"], ["a"], name="patches", strides=[4, 4]),
        helper.make_node("Conv", ["a", "spatial"], ["b"], name="depthwise", group=width, pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 3, 1]),
        helper.make_node("LayerNormalization", ["c", "gain", "shift"], ["d"], name="norm", axis=-1),
        helper.make_node("MatMul", ["d", "query"], ["e"], name="query_product"),
        helper.make_node("Softmax", ["e"], ["f"], axis=-1),
        helper.make_node("MatMul", ["d", "value"], ["g"], name="value_product"),
        helper.make_node("Mul", ["f", "g"], ["h"]),
        helper.make_node("Transpose", ["h"], ["i"], perm=[0, 3, 1, 2]),
        helper.make_node("Concat", ["i", "a"], ["j"], axis=1),
        helper.make_node("Conv", ["j", "mix"], ["k"], name="mixing"),
        helper.make_node("Relu", ["k"], ["m"]),
        helper.make_node("Conv", ["m", "classes", "classes_bias"], ["y"], name="classifier"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "height", "width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes, "rows", "columns"])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def smooth_pictures(count: int = 3, height: int = 96, width: int = 128, seed: int = 0) -> list[np.ndarray]:
    """Colour fields, uint8 [H, W, 3]: unlike noise, most pixels are clear cases."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 3, 4, 3), dtype=np.uint8)
    return [cv2.resize(colours, (width, height), interpolation=cv2.INTER_CUBIC) for colours in coarse]


def write_pictures(folder: Path, pictures: list[np.ndarray]) -> list[Path]:
    """As PNG files; returns them."""
    folder.mkdir(parents=True)
    paths = [folder / f"{position}.png" for position in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return paths


def pixels_of(picture: np.ndarray) -> np.ndarray:
    """A picture as the network takes it, [1, 3, H, W]; sides are multiples of 8 already."""
    return ((picture / 255 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
