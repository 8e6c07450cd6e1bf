"""What a foreign graph's logits are like: found by running it once or a few times on an empty picture."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from adapt.data.classes import MOST_CLASSES
from adapt.errors import InputError
from export.fold.session import open_session
from export.foreign.beside import read_beside
from export.foreign.convention import Intake, Layout, Told, fixed_size
from export.foreign.graph import FLOATS, picture_input, value_type
from serve.card import Upsampling
from serve.inference.opening import silent
from serve.inference.runtime import failed, first_line

_STRIDES = (32, 64, 128)
"""Multiples of the picture's sides that are tried: nearly every network takes one of them."""
_COARSEST = 64
"""Most pixels per logit along a side."""
_PREFIX = "whole_stride/"
_LEAST = 2.0**-24
"""Least probability, and least of the others, that logarithms are taken of: what float32 can tell from 1."""
_LEAST_SUM = 1e-30
"""Of what is no probability, but a sum; see export/foreign/queries.py."""


@dataclass(frozen=True)
class Outlet:
    """What a graph's logits are like."""

    name: str
    layout: Layout
    classes: int
    """C"""
    stride: int
    """The sides of pictures must be multiples of it; others are padded at the bottom and right."""
    output_stride: int
    """Input pixels per logit pixel along each side; 1 if the graph itself upsamples."""
    masked: bool = False
    """Whether some logits are -inf, as those of a class that must never win: they count as MASKED."""
    resized: tuple[int, int] | None = None
    """(height, width) that logits are brought to where their stride is not whole: the picture's."""
    upsampling: Upsampling = field(default_factory=Upsampling)
    """What is upsampled for labels, and how; where logits are resized, inside the graph already."""
    unlike: str = ""
    """How the graph itself resizes behind its softmax, in words, where that can't be had here."""


def find_outlet(model: onnx.ModelProto, taken: Intake, told: Told, path: Path) -> Outlet:
    """Strides, layout and number of classes; where the stride is not whole, `with_size` makes it so.

    Raises:
        InputError: it fails on all sizes that are tried, or what it gives are no logits.
    """
    session, picture = open_session(model, str(path)), picture_input(model, path)
    name = model.graph.output[0].name
    known = told.stride or read_beside(model, path).stride
    strides = (known,) if known else _STRIDES
    # A fixed size needs no padding, a chosen one is padded to a multiple; 5 and 7 tell height from width.
    trials = [(stride, (5 * stride, 7 * stride)) for stride in strides]
    fixed = fixed_size(picture, taken.layout)
    if fixed or taken.size:
        trials = [*([] if fixed else trials), (1, fixed or taken.size or (0, 0))]
    problem = InputError("")
    for stride, (height, width) in trials:
        shape = (1, 3, height, width) if taken.layout == "NCHW" else (1, height, width, 3)
        try:
            values = run_once(session, picture, np.zeros(shape, np.float32), path)
            outlet = _read_outlet(values, stride, (height, width), name, path)
        except InputError as error:
            problem = error
            continue
        _check_repeatable(values, run_once(session, picture, np.zeros(shape, np.float32), path), path)
        return outlet
    raise problem


def _check_repeatable(values: NDArray[np.float32], again: NDArray[np.float32], path: Path) -> None:
    """Raises InputError if a graph says something else of the same picture each time."""
    finite = values[np.isfinite(values)]
    near = 1e-2 * float(np.std(finite)) if finite.size else 0.0
    if not np.allclose(values, again, rtol=1e-2, atol=near, equal_nan=True):
        raise InputError(
            f"{path} says something else of the same picture each time, as a dropout in training mode does; "
            "export it in evaluation mode (model.eval() in torch)."
        )


def _read_outlet(
    values: NDArray[np.float32], stride: int, size: tuple[int, int], name: str, path: Path
) -> Outlet:
    if values.ndim != 4:
        raise InputError(
            f"{path}: the output {name} has {values.ndim} dimensions, logits have 4; see --output."
        )
    height, width = size
    layouts: tuple[tuple[Layout, int, int, int], ...] = (("NCHW", 1, 2, 3), ("NHWC", 3, 1, 2))
    uneven: Outlet | None = None
    for layout, channel, row, column in layouts:
        C, h, w = (values.shape[axis] for axis in (channel, row, column))
        whole = not (height % h or width % w) and height // h == width // w
        if C < 2 or h * w < 2 or not (whole or _nearly(height, h, width, w)):
            continue
        if C > MOST_CLASSES:
            raise InputError(
                f"{path} gives {C} logits per pixel, {MOST_CLASSES} are the most that can be used."
            )
        masked = bool(np.isneginf(values).any())
        if not whole:  # sizes are only fixed where no multiple of a stride is taken
            if stride == 1 and uneven is None:
                uneven = Outlet(name, layout, C, 1, 1, masked, size)
            continue
        if stride % (height // h) and stride > 1:
            continue
        _refuse_probabilities(values, channel, name, path)
        return Outlet(name, layout, C, stride, height // h, masked)
    if uneven is not None:
        _refuse_probabilities(values, 1 if uneven.layout == "NCHW" else 3, name, path)
        return uneven
    raise InputError(
        f"{path}: for a picture of {height}x{width} the output {name} is {list(values.shape)}, but logits "
        "are [N, C, h, w], C at least 2, at one stride along both sides; see --output and --stride."
    )


def _nearly(height: int, h: int, width: int, w: int) -> bool:
    """Whether both sides are divided by about the same, as 513 is by 8 where 65 are left."""
    rows, columns = height / h, width / w
    return 1 < rows <= _COARSEST and 1 < columns <= _COARSEST and abs(rows / columns - 1) < 0.1


def with_size(model: onnx.ModelProto, outlet: Outlet) -> onnx.ModelProto:
    """A copy in which logits have the size that `outlet` says; the graph itself, if it says nothing.

    They are resized bilinearly, pixels lying as `outlet.upsampling` has them. Where that is of probabilities,
    these are resized in their place, and the log-odds of what comes out are the logits.
    """
    if outlet.resized is None:
        return model
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph, name = whole.graph, model.graph.output[0].name
    upsampling, of = outlet.upsampling, outlet.upsampling.of
    if of == "probabilities":
        name = _with_probabilities(graph, name, outlet)
    ends = [(0, 2), None] if outlet.layout == "NCHW" else [(0, 1), None, (3, 4)]
    graph.initializer.append(numpy_helper.from_array(np.array(outlet.resized), _PREFIX + "sides"))
    graph.node.append(helper.make_node("Shape", [name], [_PREFIX + "shape"], _PREFIX + "shape"))
    parts = []
    for number, part in enumerate(ends):
        if part is None:
            parts.append(_PREFIX + "sides")
            continue
        given = [_PREFIX + f"{what}{number}" for what in ("from", "to")]
        graph.initializer.extend(
            numpy_helper.from_array(np.array([v]), n) for v, n in zip(part, given, strict=True)
        )
        parts.append(_PREFIX + f"part{number}")
        graph.node.append(helper.make_node("Slice", [_PREFIX + "shape", *given], parts[-1:], parts[-1]))
    sizes, roi, out = _PREFIX + "sizes", _PREFIX + "roi", _PREFIX + of
    graph.node.append(helper.make_node("Concat", parts, [sizes], sizes, axis=0))
    graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.float32), roi))
    given = [name, roi, roi, sizes]
    how = {"mode": "linear", "coordinate_transformation_mode": upsampling.coordinates}
    graph.node.append(helper.make_node("Resize", given, [out], out, **how))
    graph.output[0].name = out if of == "scores" else _with_odds(graph, out, upsampling.uncorrected)
    return whole


def _with_probabilities(graph: onnx.GraphProto, logits: str, outlet: Outlet) -> str:
    """Nodes more that make probabilities of logits; channels last, where old opsets have a softmax too."""
    kind = {"softmax": "Softmax", "sigmoid": "Sigmoid", "exp": "Exp"}[outlet.upsampling.uncorrected]
    steps: list[tuple[str, dict[str, Any]]] = [(kind, {"axis": 3} if kind == "Softmax" else {})]
    if outlet.layout == "NCHW":
        last, first = {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]}
        steps = [("Transpose", last), *steps, ("Transpose", first)]
    for number, (operator, given) in enumerate([("Cast", {"to": FLOATS[0]}), *steps]):
        value = f"{_PREFIX}step{number}"
        graph.node.append(helper.make_node(operator, [logits], [value], value, **given))
        logits = value
    graph.output[0].type.tensor_type.elem_type = FLOATS[0]
    return logits


def _with_odds(graph: onnx.GraphProto, probabilities: str, kind: str) -> str:
    """Nodes more that make log-odds of probabilities; logarithms, where they were made of such."""
    ends = (_LEAST, 1 - _LEAST) if kind != "exp" else (_LEAST_SUM, np.finfo(np.float32).max)
    least, most, one = (_PREFIX + name for name in ("least", "most", "one"))
    for name, value in ((least, ends[0]), (most, ends[1]), (one, 1)):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))

    def add(operator: str, inputs: list[str], name: str) -> str:
        graph.node.append(helper.make_node(operator, inputs, [_PREFIX + name], _PREFIX + name))
        return _PREFIX + name

    inside = add("Min", [add("Max", [probabilities, least], "at_least"), most], "at_most")
    logarithm = add("Log", [inside], "logarithms")
    if kind == "exp":
        return logarithm
    against = add("Log", [add("Sub", [one, inside], "against")], "logarithms_against")
    return add("Sub", [logarithm, against], "odds")


def _refuse_probabilities(values: NDArray[np.float32], axis: int, name: str, path: Path) -> None:
    if values.min() >= 0 and np.allclose(values.sum(axis), 1, atol=1e-3):
        raise InputError(
            f"{path}: the output {name} holds probabilities, but logits are needed; name what goes into the "
            "softmax with --output."
        )


def run_once(
    session: Any, picture: onnx.ValueInfoProto, pixels: NDArray[np.float32], path: Path
) -> NDArray[np.float32]:
    """Output of the graph for one picture [1, ...], in the layout and scale of its input.

    Raises:
        InputError: it fails on pictures of this size.
    """
    if value_type(picture) == FLOATS[1]:
        feed: NDArray[Any] = pixels.astype(np.float16)
    elif value_type(picture) == FLOATS[0]:
        feed = np.ascontiguousarray(pixels)
    else:
        feed = np.rint(pixels).astype(np.uint8)
    try:
        values = session.run(None, {picture.name: feed}, silent())[0]
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        if not failed(error):
            raise
        raise InputError(
            f"{path} fails on pictures of shape {list(feed.shape)} ({first_line(error)}); "
            "give the --size it takes, or the --stride of which sides must be multiples."
        ) from error
    return np.asarray(values, np.float32)
