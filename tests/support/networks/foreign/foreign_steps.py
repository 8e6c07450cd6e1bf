"""Nodes behind, before and inside the colour classifier: what the odd kinds of files are made with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, UINT8, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64
DOUBLE, BFLOAT16 = TensorProto.DOUBLE, TensorProto.BFLOAT16
MAP = (16, 24)
"""(h, w) of the logits of the picture that is tried."""
UP = np.array([1, 1, 4, 4], np.float32)
EMPTY = np.zeros(0, np.float32)
PALETTE = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [9, 9, 99]], np.uint8)
NHWC = [0, 2, 3, 1]
Change = Callable[[onnx.ModelProto, Path], None]


class Step(NamedTuple):
    """A node behind the last one."""

    kind: str
    constants: tuple[Any, ...] = ()
    settings: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    reads: tuple[str, ...] = ("$",)
    """Its inputs before the constants; $ is what the step before it gave."""
    name: str = ""
    outputs: int = 1
    """Of which the last one goes on."""


def step(kind: str, *constants: Any, **settings: Any) -> Step:
    return Step(kind, constants, settings)


def ends(*steps: Step, kind: int = FLOAT, rank: int = 4, first: str = "") -> Change:
    """The classifier with further nodes.

    Args:
        kind, rank: of the output.
        first: another value to put out, before it.
    """

    def change(model: onnx.ModelProto, path: Path) -> None:
        graph = model.graph
        last = logits = graph.output[0].name
        for number, each in enumerate(steps):
            names = [f"odd{number}_{i}" for i in range(len(each.constants))]
            tensors = (
                numpy_helper.from_array(np.asarray(c), n) for c, n in zip(each.constants, names, strict=True)
            )
            graph.initializer.extend(tensors)
            inputs = [{"$": last, "logits": logits}.get(name, name) for name in each.reads] + names
            outputs = [f"odd{number}" + "_" * (each.outputs - 1 - i) for i in range(each.outputs)]
            outputs[-1] = each.name or outputs[-1]
            graph.node.append(helper.make_node(each.kind, inputs, outputs, **each.settings))
            last = outputs[-1]
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info(last, kind, [f"d{i}" for i in range(rank)]))
        if first:
            graph.output.insert(0, helper.make_tensor_value_info(first, FLOAT, ["n", "a", "b", "c"]))
        onnx.save(model, path)

    return change


def argmax(axis: int = 1, **more: Any) -> Step:
    return step("ArgMax", axis=axis, **more)


def softmax(axis: int = 1) -> Step:
    return step("Softmax", axis=axis)


def resize(**settings: Any) -> Step:
    return step("Resize", EMPTY, UP, **settings)


def flat(*shape: int) -> Step:
    return step("Reshape", np.array(shape))


def labels(*steps: Step, kind: int = INT64, rank: int = 4) -> Change:
    return ends(*steps, kind=kind, rank=rank)


# ---- what is done inside ----------------------------------------------------------------------------------


def before(*nodes: tuple[str, list[str], str, dict[str, Any]], **constants: Any) -> Change:
    """The classifier with further nodes in front; they read `picture` and end in `ready`."""

    def change(model: onnx.ModelProto, path: Path) -> None:
        graph = model.graph
        graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items())
        own = list(graph.node)
        own[0].input[0] = "ready"
        more = [helper.make_node(kind, reads, [gives], **settings) for kind, reads, gives, settings in nodes]
        del graph.node[:]
        graph.node.extend([*more, *own])
        onnx.save(model, path)

    return change


def branch(kind: str, name: str, reads: list[str]) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(name, FLOAT, None)
    return helper.make_graph([helper.make_node(kind, reads, [name])], name, [], [value])


def looped(model: onnx.ModelProto, path: Path) -> None:
    """Adds a half three times."""
    nodes = [
        helper.make_node("Add", ["x", "odd_half"], ["more"]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    values = [("i", INT64, []), ("go", TensorProto.BOOL, []), ("x", FLOAT, None)]
    body = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info(*value) for value in values],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", FLOAT, None),
        ],
    )
    constants = {"odd_half": np.float32(0.5), "odd_times": np.int64(3), "odd_go": np.array(True)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items())
    ends(step("Loop", body=body)._replace(reads=("odd_times", "odd_go", "$")))(model, path)


def quantised_operators(model: onnx.ModelProto, path: Path) -> None:
    """The convolution as QLinearConv, whose whole numbers are put out."""
    graph = model.graph
    conv = next(node for node in graph.node if node.op_type == "Conv")
    weight, bias = (next(t for t in graph.initializer if t.name == name) for name in conv.input[1:])
    values = numpy_helper.to_array(weight)
    pixel, steps, out = np.float32(0.02), np.float32(np.abs(values).max() / 127), np.float32(0.25)
    constants = {
        **{"pixel": pixel, "middle": np.uint8(128), "steps": steps, "none": np.int8(0), "out": out},
        "whole": np.rint(values / steps).astype(np.int8),
        "added": np.rint(numpy_helper.to_array(bias) / (pixel * steps)).astype(np.int32),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items())
    graph.node.append(helper.make_node("QuantizeLinear", [conv.input[0], "pixel", "middle"], ["pixels8"]))
    reads = ["pixels8", "pixel", "middle", "whole", "steps", "none", "out", "middle", "added"]
    graph.node.append(helper.make_node("QLinearConv", reads, ["logits8"], strides=[4, 4]))
    graph.node.remove(conv)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits8", UINT8, ["n", "c", "h", "w"]))
    onnx.save(model, path)


def sparse(model: onnx.ModelProto, path: Path) -> None:
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(t for t in model.graph.initializer if t.name == conv.input[1])
    values = numpy_helper.to_array(weight)
    model.graph.initializer.remove(weight)
    stored = numpy_helper.from_array(values.ravel(), weight.name)
    places = numpy_helper.from_array(np.arange(values.size), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(stored, places, list(values.shape)))
    onnx.save(model, path)


def picture(**changes: Any) -> Change:
    """The classifier that declares another picture."""

    def change(model: onnx.ModelProto, path: Path) -> None:
        dims = model.graph.input[0].type.tensor_type.shape.dim
        for axis, size in changes["dims"].items():
            dims[axis].dim_value = size
        onnx.save(model, path)

    return change


SUBGRAPHS = {
    "then_branch": branch("Mul", "small", ["picture", "odd_one"]),
    "else_branch": branch("Identity", "large", ["picture"]),
}
CHOSEN = before(
    ("Shape", ["picture"], "odd_shape", {}),
    ("Gather", ["odd_shape", "odd_place"], "odd_height", {}),
    ("Less", ["odd_height", "odd_limit"], "odd_small", {}),
    ("If", ["odd_small"], "ready", SUBGRAPHS),
    **{"odd_one": np.float32(1), "odd_place": np.array(2), "odd_limit": np.int64(2000)},
)
PAINT = step("Gather")._replace(reads=("odd_palette", "$"))


def painted(kind: int) -> Change:
    """Colours by a table, which is the first input of its Gather."""

    def change(model: onnx.ModelProto, path: Path) -> None:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        model.graph.initializer.append(numpy_helper.from_array(PALETTE.astype(dtype), "odd_palette"))
        ends(argmax(keepdims=0), PAINT, kind=kind)(model, path)

    return change


SIZE_OF_PICTURE = (
    step("Shape")._replace(reads=("picture",)),
    step("Gather", np.array([2, 3]), axis=0)._replace(name="odd_sides"),
    step("Shape")._replace(reads=("logits",)),
    step("Gather", np.array([0, 1]), axis=0)._replace(name="odd_rest"),
    step("Concat", axis=0)._replace(reads=("odd_rest", "odd_sides"), name="odd_size"),
    step("Identity")._replace(reads=("odd_size",)),
    step("Cast", to=INT64)._replace(name="odd_sizes"),
)
RESIZED = Step("Resize", (), {"mode": "linear"}, ("logits", "", "", "odd_sizes"))
