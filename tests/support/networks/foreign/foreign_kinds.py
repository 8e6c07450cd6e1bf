"""The kinds of files that people have: one colour classifier, exported in every way that is known of.

Each comes with what its own user would compute. Where a kind is refused, it comes with words of the sentence.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import foreign_alterations as alter
import numpy as np
import onnx
import onnxruntime
import torch
from foreign_inputs import BESIDE
from foreign_odd import ODD
from foreign_segmenters import MEAN, NAMES, STD, write_segmenter
from onnx import TensorProto

FLOAT, HALF, UINT8, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64
SIZE = (64, 96)
NHWC, NCHW, SWAP = {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]}, {"perm": [0, 3, 2, 1]}
Step = tuple[str, dict[str, Any]]

ENDINGS: dict[str, list[Step]] = {
    "logits": [],
    "softmax": [("Softmax", {"axis": 1})],
    "log-softmax": [("LogSoftmax", {"axis": 1})],
    "sigmoid": [("Sigmoid", {})],
    "softmax between transposes": [("Transpose", NHWC), ("Softmax", {"axis": 3}), ("Transpose", NCHW)],
    "softmax of swapped axes": [("Transpose", SWAP), ("Softmax", {"axis": 3}), ("Transpose", SWAP)],
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
    feed: Mapping[str, np.ndarray] = MappingProxyType({})
    """What the file takes beside the picture."""
    read: Callable[[list[np.ndarray]], np.ndarray] | None = None
    """Scores or labels of the outputs, where that is not the first one as it is."""


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
    model = onnx.load(path)
    for value in model.graph.output:
        alter.readable(model, value)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    taken = [value.name for value in session.get_inputs()]
    others = {name: value for name, value in kind.feed.items() if name in taken}
    outputs = session.run(None, {taken[0]: np.ascontiguousarray(feed)[None], **others})
    if kind.read is not None:
        return kind.read(outputs)
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
    for name, (change, settings, more) in {**ODD, **BESIDE}.items():
        yield name, _changed(change, **settings)._replace(**more)


def _kind(steps: list[Step], **settings: Any) -> Kind:
    inside, dtype = settings["inside"], settings.get("dtype", FLOAT)
    options: dict[str, Any] = {} if inside else {"mean": MEAN, "std": STD}
    order, layout = settings.get("order", "RGB"), settings.get("layout", "NCHW")
    if order == "BGR":
        options["channel_order"] = "BGR"

    def write(path: Path) -> Path:
        write_segmenter(path, **settings)
        return alter.end_with(path, steps) if steps else path

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


def _unusual() -> Iterator[tuple[str, Kind]]:
    for masked in (-np.inf, -1e9, -1e4):
        yield f"a class at {masked:g}", _changed(alter.biased(np.float32([0, 0, 0, masked])))
    for factor in (0.05, 20.0):
        yield f"logits times {factor:g}", _changed(alter.scaled(factor))
    yield "logits plus 100", _changed(alter.biased(np.full(4, 100, np.float32)))
    yield "external data", _changed(alter.external)
    yield "a local function", _changed(alter.function)
    yield "an int8 model in QDQ form", _changed(alter.quantised)
    yield "an operator of ONNX Runtime's own", _changed(alter.contributed)
    yield "a head for training alone", _changed(alter.auxiliary)
    yield "initialisers listed as inputs", _changed(alter.listed_inputs)
    yield "labels beside logits", _changed(alter.labels_beside)
    yield "queries", _changed(alter.queries)
    for layout in ("NCHW", "NHWC"):
        yield f"channels not said, {layout}", _changed(alter.unsaid_channels, layout=layout, inside=255)
    unread = {"mask": np.zeros((1, 1, *SIZE), np.float32)}
    yield "an input that nothing reads", _changed(alter.second_input)._replace(feed=unread)
    yield "a stride that is not whole", _kind([], inside=1, size=(67, 98))


def _refused() -> Iterator[tuple[str, Kind]]:
    plain = _kind([], inside=1)
    yield "ONNX Runtime's format", plain._replace(write=alter.ort_format, refused="ONNX Runtime's own format")
    yield "text", plain._replace(write=alter.text, refused="is not an ONNX file")
    yield (
        "two pictures",
        _changed(alter.second_picture)._replace(refused="must have one that takes a picture"),
    )
    yield "boxes", _changed(alter.boxes)._replace(refused="is no semantic segmenter: it gives boxes")
    yield "one map", _changed(alter.first_channel)._replace(refused="C at least 2")
    yield "hidden probabilities", _changed(alter.hidden)._replace(refused="holds probabilities")
    yield "a picture's class", _changed(alter.pooled)._replace(refused="no output that leads to logits")
    yield "two heads", _kind([], inside=1, tail="two")._replace(refused="several outputs that may be logits")
    yield (
        "not normalised, not said",
        _kind([], inside=0)._replace(options={}, refused="give --mean and --std"),
    )
    yield (
        "two pictures at once",
        _kind([], inside=1, batch=2, size=SIZE)._replace(refused="2 pictures at once"),
    )
