"""The kinds of files that people have: one colour classifier, exported in every way that is known of.

Each comes with what its own user would compute. Where a kind is refused, it comes with words of the sentence.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from foreign_segmenters import MEAN, NAMES, STD, write_segmenter
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, UINT8, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64
SIZE = (64, 96)
NHWC, NCHW = {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]}
UP = np.array([1, 1, 4, 4], np.float32)
Step = tuple[str, dict[str, Any]]

ENDINGS: dict[str, list[Step]] = {
    "logits": [],
    "softmax": [("Softmax", {"axis": 1})],
    "log-softmax": [("LogSoftmax", {"axis": 1})],
    "sigmoid": [("Sigmoid", {})],
    "softmax between transposes": [("Transpose", NHWC), ("Softmax", {"axis": 3}), ("Transpose", NCHW)],
    "softmax, channels last": [("Softmax", {"axis": 1}), ("Transpose", NHWC)],
    "softmax and casts": [("Softmax", {"axis": 1}), ("Cast", {"to": HALF}), ("Cast", {"to": FLOAT})],
    "argmax": [("ArgMax", {"axis": 1, "keepdims": 0})],
    "argmax of softmax": [("Softmax", {"axis": 1}), ("ArgMax", {"axis": 1})],
    "small argmax without a batch": [
        ("ArgMax", {"axis": 1}),
        ("Cast", {"to": UINT8}),
        ("Squeeze", {"axes": [0, 1]}),
    ],
    "TopK": [("TopK", {"axis": 1, "k": 1})],
    "logits without a batch": [("Squeeze", {"axes": [0]})],
    "upsampled, argmax": [("Resize", {}), ("ArgMax", {"axis": 1, "keepdims": 0})],
    "upsampled, softmax": [("Resize", {}), ("Softmax", {"axis": 1})],
}
RANKS = {"Squeeze": -1}


class Kind(NamedTuple):
    """One file."""

    write: Callable[[Path], Path]
    options: Mapping[str, Any] = MappingProxyType({})
    """Of `balance`, where the file leaves something open: mean and std, channel_order, size."""
    refused: str = ""
    """Words of the sentence, if that is what it gets."""
    scale: float = 1.0
    """Largest pixel value that the file takes; 0: normalised by the caller."""
    order: str = "RGB"
    layout: str = "NCHW"
    dtype: int = FLOAT


def own_output(kind: Kind, path: Path, image: np.ndarray) -> np.ndarray:
    """The last output, as its user runs it: scores [C, h, w] or labels [h, w]."""
    pixels = image / 255
    pixels = (pixels - MEAN) / STD if kind.scale == 0 else pixels * kind.scale
    pixels = pixels[..., ::-1] if kind.order == "BGR" else pixels
    pixels = pixels.transpose(2, 0, 1) if kind.layout == "NCHW" else pixels
    feed = np.rint(pixels).astype(np.uint8) if kind.dtype == UINT8 else pixels.astype(np.float32)
    feed = feed.astype(np.float16) if kind.dtype == HALF else feed
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(feed)[None]})
    if session.get_outputs()[0].name == "class_queries_logits":
        shares, masks = (torch.from_numpy(out[0].astype(np.float64)) for out in outputs)
        return torch.einsum("qc,qhw->chw", shares.softmax(-1)[:, :-1], masks.sigmoid()).numpy()
    found = outputs[0]
    while found.ndim > 2 and found.shape[0] == 1:
        found = found[0]
    if found.ndim == 3 and found.shape[-1] == len(NAMES):
        found = found.transpose(2, 0, 1)
    return found


def labels_of(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels [H, W] of scores [C, h, w], upsampled as torch does it."""
    full = torch.from_numpy(scores.astype(np.float64))[None]
    return torch.nn.functional.interpolate(full, size=size, mode="bilinear").argmax(1)[0].numpy()


# ---- the kinds --------------------------------------------------------------------------------------------


def kinds() -> dict[str, Kind]:
    """All of them, by name."""
    return dict(_all())


def _all() -> Iterator[tuple[str, Kind]]:
    for opset in (11, 13, 18, 22):
        for ending, steps in ENDINGS.items():
            if opset == 11 and ending in (
                "softmax",
                "softmax, channels last",
                "log-softmax",
                "softmax and casts",
            ):
                continue  # of that age, over all but the batch: nobody's labels
            if opset == 11 and ending in ("argmax of softmax", "upsampled, softmax"):
                continue
            yield f"opset {opset}, {ending}", _kind(steps, inside=1, opset=opset)
    for opset in (7, 9, 10, 17, 20, 21, 23, 24):
        yield f"opset {opset}", _kind([], inside=1, opset=opset)
        yield f"opset {opset}, NHWC, 255", _kind([], inside=255, layout="NHWC", opset=opset)
    yield "opset 6", _kind([], inside=1, opset=6)._replace(refused="opset 6, the least that can be used is 7")
    for layout in ("NCHW", "NHWC"):
        for order in ("RGB", "BGR"):
            for inside in (1, 255, 0):
                out = "NHWC" if order == "BGR" else "NCHW"
                settings = {"inside": inside, "layout": layout, "order": order, "out_layout": out}
                yield f"{layout}, {order}, of {inside}", _kind([], **settings)
        for dtype, name in ((UINT8, "uint8"), (HALF, "half")):
            yield f"{name}, {layout}", _kind([], inside=255, layout=layout, dtype=dtype)
            yield f"{name}, {layout}, opset 13", _kind([], inside=255, layout=layout, dtype=dtype, opset=13)
    for name, steps in (("logits", []), ("argmax", ENDINGS["argmax"]), ("softmax", ENDINGS["softmax"])):
        yield f"one size and picture, {name}", _kind(steps, inside=1, size=SIZE, batch=1)
        yield f"upsamples itself, {name}", _kind(steps, inside=1, upsample=True)
        yield (
            f"upsamples itself, channels last, {name}",
            _kind([], inside=1, upsample=True, out_layout="NHWC"),
        )
    yield from _unusual()
    yield from _refused()


def _kind(steps: list[Step], **settings: Any) -> Kind:
    inside, dtype = settings["inside"], settings.get("dtype", FLOAT)
    options: dict[str, Any] = {} if inside else {"mean": MEAN, "std": STD}
    order, layout = settings.get("order", "RGB"), settings.get("layout", "NCHW")
    if order == "BGR":
        options["channel_order"] = "BGR"

    def write(path: Path) -> Path:
        write_segmenter(path, **settings)
        return end_with(path, steps) if steps else path

    return Kind(write, options, "", float(inside), order, layout, dtype)


def _changed(change: Callable[[onnx.ModelProto, Path], None], **settings: Any) -> Kind:
    """The classifier, altered."""
    plain = _kind([], **{"inside": 1, **settings})

    def write(path: Path) -> Path:
        plain.write(path)
        model = onnx.load(path)
        change(model, path)
        return path

    return plain._replace(write=write)


def _save(model: onnx.ModelProto, path: Path) -> None:
    onnx.save(model, path)


def _unusual() -> Iterator[tuple[str, Kind]]:
    for masked in (-np.inf, -1e9, -1e4):
        yield f"a class at {masked:g}", _changed(_biased(np.float32([0, 0, 0, masked])))
    for factor in (0.05, 20.0):
        yield f"logits times {factor:g}", _changed(_scaled(factor))
    yield "logits plus 100", _changed(_biased(np.full(4, 100, np.float32)))
    yield "external data", _changed(_external)
    yield "a local function", _changed(_function)
    yield "an int8 model in QDQ form", _changed(_quantised)
    yield "an operator of ONNX Runtime's own", _changed(_contributed)
    yield "a head for training alone", _changed(_auxiliary)
    yield "initialisers listed as inputs", _changed(_listed_inputs)
    yield "labels beside logits", _changed(_labels_beside)
    yield "queries", _changed(_queries)
    yield "a stride that is not whole", _kind([], inside=1, size=(67, 98))


def _refused() -> Iterator[tuple[str, Kind]]:
    plain = _kind([], inside=1)
    yield "text", plain._replace(write=_text, refused="is not an ONNX file")
    yield "two inputs", _changed(_second_input)._replace(refused="it must have one, a float or uint8 picture")
    yield "boxes", _changed(_boxes)._replace(refused="is no semantic segmenter: it gives boxes")
    yield "one map", _changed(_first_channel)._replace(refused="C at least 2")
    yield "hidden probabilities", _changed(_hidden)._replace(refused="holds probabilities")
    yield "a picture's class", _changed(_pooled)._replace(refused="no output that leads to logits")
    yield "two heads", _kind([], inside=1, tail="two")._replace(refused="several outputs that may be logits")
    yield (
        "not normalised, not said",
        _kind([], inside=0)._replace(options={}, refused="give --mean and --std"),
    )
    yield (
        "two pictures at once",
        _kind([], inside=1, batch=2, size=SIZE)._replace(refused="2 pictures at once"),
    )


# ---- alterations ------------------------------------------------------------------------------------------


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


def _bias_of(model: onnx.ModelProto) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if list(t.dims) == [4])


def _biased(more: np.ndarray) -> Callable[[onnx.ModelProto, Path], None]:
    def change(model: onnx.ModelProto, path: Path) -> None:
        bias = _bias_of(model)
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + more, bias.name))
        onnx.save(model, path)

    return change


def _scaled(factor: float) -> Callable[[onnx.ModelProto, Path], None]:
    return lambda model, path: _save(_behind(model, "Mul", np.array(factor, np.float32)), path)


def _behind(model: onnx.ModelProto, kind: str, *constants: np.ndarray, **settings: Any) -> onnx.ModelProto:
    names = [f"more{i}" for i in range(len(constants))]
    model.graph.initializer.extend(
        numpy_helper.from_array(v, n) for v, n in zip(constants, names, strict=True)
    )
    inputs = [model.graph.output[0].name, *names]
    model.graph.node.append(helper.make_node(kind, inputs, ["changed"], **settings))
    model.graph.output[0].name = "changed"
    return model


def _external(model: onnx.ModelProto, path: Path) -> None:
    location = path.with_suffix(".data").name
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)


def _function(model: onnx.ModelProto, path: Path) -> None:
    own = [helper.make_opsetid("", 18)]
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    model.functions.append(helper.make_function("own", "Twice", ["x"], ["z"], nodes, own))
    model.opset_import.append(helper.make_opsetid("own", 1))
    _save(_behind(model, "Twice", domain="own"), path)


def _quantised(model: onnx.ModelProto, path: Path) -> None:
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


def _contributed(model: onnx.ModelProto, path: Path) -> None:
    """What an optimised file holds."""
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    _save(_behind(model, "Gelu", domain="com.microsoft"), path)


def _auxiliary(model: onnx.ModelProto, path: Path) -> None:
    last, shape = model.graph.output[0].name, ["n", "a", "b", "c"]
    for kind, name in (("Identity", "out"), ("Neg", "aux")):
        model.graph.node.append(helper.make_node(kind, [last], [name]))
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, shape) for name in ("out", "aux"))
    onnx.save(model, path)


def _listed_inputs(model: onnx.ModelProto, path: Path) -> None:
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, path)


def _labels_beside(model: onnx.ModelProto, path: Path) -> None:
    model.graph.node.append(helper.make_node("ArgMax", [model.graph.output[0].name], ["labels"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("labels", INT64, ["n", "a", "b", "c"]))
    onnx.save(model, path)


def _queries(model: onnx.ModelProto, path: Path) -> None:
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


def _text(path: Path) -> Path:
    path.write_text("no graph")
    return path


def _second_input(model: onnx.ModelProto, path: Path) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", FLOAT, ["n", 1, "h", "w"]))
    onnx.save(model, path)


def _boxes(model: onnx.ModelProto, path: Path) -> None:
    model.graph.node.append(helper.make_node("Flatten", [model.graph.output[0].name], ["dets"], axis=2))
    model.graph.output.append(helper.make_tensor_value_info("dets", FLOAT, ["a", "b"]))
    onnx.save(model, path)


def _first_channel(model: onnx.ModelProto, path: Path) -> None:
    ends = (np.array([0]), np.array([1]), np.array([1]))
    _save(_behind(model, "Slice", *ends), path)


def _hidden(model: onnx.ModelProto, path: Path) -> None:
    _save(_behind(_behind_softmax(model), "Mul", np.array(1, np.float32)), path)


def _behind_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.node.append(helper.make_node("Softmax", [model.graph.output[0].name], ["shares"], axis=1))
    model.graph.output[0].name = "shares"
    return model


def _pooled(model: onnx.ModelProto, path: Path) -> None:
    pooled = _behind(model, "GlobalAveragePool")
    pooled.graph.node.append(helper.make_node("Flatten", ["changed"], ["class"]))
    del pooled.graph.output[:]
    pooled.graph.output.append(helper.make_tensor_value_info("class", FLOAT, ["n", 4]))
    onnx.save(pooled, path)
