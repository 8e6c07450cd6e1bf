"""What people's files have that the colour classifier has not: further nodes, other types, other outputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
UP = np.array([1, 1, 4, 4], np.float32)
Step = tuple[str, dict[str, Any]]


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write it."""
    onnx.save(model, path)


def end_with(path: Path, steps: list[Step]) -> Path:
    """The model at a path with further nodes behind its output, as its opset has them."""
    model = onnx.load(path)
    graph, version = model.graph, model.opset_import[0].version
    name, kind, rank = graph.output[0].name, FLOAT, 4
    for number, (operator, attributes) in enumerate(steps):
        constants, outputs, given = [], [f"end{number}"], dict(attributes)
        if operator == "Squeeze":
            rank -= len(given["axes"])
            constants = [("axes", np.array(given.pop("axes")))] if version >= 13 else []
            given = {} if version >= 13 else given
        if operator == "TopK":
            constants, outputs = [("k", np.array([given.pop("k")]))], [f"best{number}", f"end{number}"]
        if operator == "Resize":
            constants, given = [("roi", np.zeros(0, np.float32)), ("scales", UP)], {"mode": "linear"}
        rank -= operator == "ArgMax" and given.get("keepdims", 1) == 0
        graph.initializer.extend(numpy_helper.from_array(v, f"{n}{number}") for n, v in constants)
        inputs = [name, *(f"{label}{number}" for label, _ in constants)]
        graph.node.append(helper.make_node(operator, inputs, outputs, **given))
        kind = {"ArgMax": INT64, "TopK": INT64}.get(operator, given.get("to", kind))
        name = outputs[-1]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, kind, [f"d{i}" for i in range(rank)]))
    onnx.save(model, path)
    return path


def bias_of(model: onnx.ModelProto) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if list(t.dims) == [4])


def biased(more: np.ndarray) -> Callable[[onnx.ModelProto, Path], None]:
    def change(model: onnx.ModelProto, path: Path) -> None:
        bias = bias_of(model)
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + more, bias.name))
        onnx.save(model, path)

    return change


def scaled(factor: float) -> Callable[[onnx.ModelProto, Path], None]:
    return lambda model, path: save(behind(model, "Mul", np.array(factor, np.float32)), path)


def behind(model: onnx.ModelProto, kind: str, *constants: np.ndarray, **settings: Any) -> onnx.ModelProto:
    names = [f"more{i}" for i in range(len(constants))]
    model.graph.initializer.extend(
        numpy_helper.from_array(v, n) for v, n in zip(constants, names, strict=True)
    )
    inputs = [model.graph.output[0].name, *names]
    model.graph.node.append(helper.make_node(kind, inputs, ["changed"], **settings))
    model.graph.output[0].name = "changed"
    return model


def external(model: onnx.ModelProto, path: Path) -> None:
    location = path.with_suffix(".data").name
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)


def function(model: onnx.ModelProto, path: Path) -> None:
    own = [helper.make_opsetid("", 18)]
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    model.functions.append(helper.make_function("own", "Twice", ["x"], ["z"], nodes, own))
    model.opset_import.append(helper.make_opsetid("own", 1))
    save(behind(model, "Twice", domain="own"), path)


def quantised(model: onnx.ModelProto, path: Path) -> None:
    """Logits and weights in steps, as a static quantisation leaves them."""
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4 and t.dims[0] == 4)
    values = numpy_helper.to_array(weight)
    step = np.abs(values).max().astype(np.float32) / 127
    weight.CopyFrom(numpy_helper.from_array(np.rint(values / step).astype(np.int8), weight.name))
    constants = {"step": step, "zero": np.int8(0), "wide": np.float32(1.0)}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v), n) for n, v in constants.items())
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    model.graph.node.insert(
        0, helper.make_node("DequantizeLinear", [conv.input[1], "step", "zero"], ["real"])
    )
    conv.input[1] = "real"
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("QuantizeLinear", [last, "wide", "zero"], ["whole"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["whole", "wide", "zero"], ["changed"]))
    model.graph.output[0].name = "changed"
    onnx.save(model, path)


def contributed(model: onnx.ModelProto, path: Path) -> None:
    """What an optimised file holds."""
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    save(behind(model, "Gelu", domain="com.microsoft"), path)


def auxiliary(model: onnx.ModelProto, path: Path) -> None:
    last, shape = model.graph.output[0].name, ["n", "a", "b", "c"]
    for kind, name in (("Identity", "out"), ("Neg", "aux")):
        model.graph.node.append(helper.make_node(kind, [last], [name]))
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, shape) for name in ("out", "aux"))
    onnx.save(model, path)


def listed_inputs(model: onnx.ModelProto, path: Path) -> None:
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, path)


def unsaid_channels(model: onnx.ModelProto, path: Path) -> None:
    """A shape of names alone, as optimum writes it."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, name in zip(dims, ("batch_size", "a", "b", "c"), strict=True):
        dim.dim_param = name
    onnx.save(model, path)


def labels_beside(model: onnx.ModelProto, path: Path) -> None:
    model.graph.node.append(helper.make_node("ArgMax", [model.graph.output[0].name], ["labels"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("labels", INT64, ["n", "a", "b", "c"]))
    onnx.save(model, path)


def queries(model: onnx.ModelProto, path: Path) -> None:
    rng, last = np.random.default_rng(0), model.graph.output[0].name
    weights = {
        "mix": rng.normal(0, 0.5, (7, 4, 1, 1)).astype(np.float32),
        "said": 4 * np.eye(4, dtype=np.float32)[np.arange(7) % 3][None],
        "none": np.zeros((), np.float32),
    }
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in weights.items())
    names = ("class_queries_logits", "masks_queries_logits")
    model.graph.node.append(helper.make_node("Add", ["said", "none"], [names[0]]))
    model.graph.node.append(helper.make_node("Conv", [last, "mix"], [names[1]]))
    del model.graph.output[:]
    for name, shape in zip(names, ([1, 7, 4], ["n", 7, "h", "w"]), strict=True):
        model.graph.output.append(helper.make_tensor_value_info(name, FLOAT, shape))
    onnx.save(model, path)


def ort_format(path: Path) -> Path:
    """The beginning of what onnxruntime.tools.convert_onnx_models_to_ort writes."""
    path.write_bytes(bytes.fromhex("14000000") + b"ORTM" + bytes(64))
    return path


def text(path: Path) -> Path:
    path.write_text("no graph")
    return path


def second_input(model: onnx.ModelProto, path: Path) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", FLOAT, ["n", 1, "h", "w"]))
    onnx.save(model, path)


def second_picture(model: onnx.ModelProto, path: Path) -> None:
    model.graph.input.append(helper.make_tensor_value_info("before", FLOAT, ["n", 3, "h", "w"]))
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("ReduceMean", ["before"], ["mean"]))
    model.graph.node.append(helper.make_node("Add", [last, "mean"], ["changed"]))
    model.graph.output[0].name = "changed"
    onnx.save(model, path)


def boxes(model: onnx.ModelProto, path: Path) -> None:
    model.graph.node.append(helper.make_node("Flatten", [model.graph.output[0].name], ["dets"], axis=2))
    model.graph.output.append(helper.make_tensor_value_info("dets", FLOAT, ["a", "b"]))
    onnx.save(model, path)


def first_channel(model: onnx.ModelProto, path: Path) -> None:
    ends = (np.array([0]), np.array([1]), np.array([1]))
    save(behind(model, "Slice", *ends), path)


def hidden(model: onnx.ModelProto, path: Path) -> None:
    ends = (np.array(1e-7, np.float32), np.array(1, np.float32))
    save(behind(behind_softmax(model), "Clip", *ends), path)


def readable(model: onnx.ModelProto, value: onnx.ValueInfoProto) -> None:
    """A bfloat16 output as float, in place: numpy has no such type."""
    if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
        model.graph.node.append(helper.make_node("Cast", [value.name], ["readable"], to=FLOAT))
        value.name, value.type.tensor_type.elem_type = "readable", FLOAT


def behind_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node.append(helper.make_node("Softmax", [model.graph.output[0].name], ["shares"], axis=1))
    model.graph.output[0].name = "shares"
    return model


def pooled(model: onnx.ModelProto, path: Path) -> None:
    pooled = behind(model, "GlobalAveragePool")
    pooled.graph.node.append(helper.make_node("Flatten", ["changed"], ["class"]))
    del pooled.graph.output[:]
    pooled.graph.output.append(helper.make_tensor_value_info("class", FLOAT, ["n", 4]))
    onnx.save(pooled, path)
