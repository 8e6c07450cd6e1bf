"""How a foreign graph wants its pictures and gives its logits: told, or found out.

Layout, size and type come from the graph's input, the strides from a trial run. Normalisation is taken from,
in this order: the options, the input's being uint8, what stands in or beside the file
(export/foreign/beside.py), the graph's own first operations. If none of them says, the person is asked: a
wrong guess would give plausible and useless statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

from adapt.errors import InputError
from export.foreign.beside import Beside, read_beside
from export.foreign.graph import UnknownError, constants_of, describe, picture_input, sizes, value_type
from export.foreign.inputs.fixed import Fixed
from serve.card import Upsampled

Layout = Literal["NCHW", "NHWC"]
ChannelOrder = Literal["RGB", "BGR"]
Triple = tuple[float, float, float]

COMMON = (
    "most often --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 (ImageNet), or --mean 0.5 --std 0.5, or "
    "--mean 0 --std 1 where the graph does it itself; add --range 255 if they are of pixels from 0 to 255"
)
_PASSING = ("Cast", "Transpose", "Identity", "Gather", "Unsqueeze", "Squeeze", "Reshape")
_AFFINE = ("Sub", "Add", "Mul", "Div")
_SAME_AXES = (
    *_AFFINE,
    "Cast",
    "Identity",
    "Gather",
    "Pad",
    "Resize",
    "Clip",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
)
_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv", "FusedConv")
_CHANNELS = 16
"""No side of a picture is as small as that."""
_LEAST_UNIT_SCALE = 0.2
_LARGEST_UNIT_OFFSET = 2.0
"""Pixels on [0, 1] are divided by standard deviations below 1, those on [0, 255] by tens; means likewise."""


@dataclass(frozen=True)
class Told:
    """What the person said; None leaves it to be found out. `mean` and `std` come together."""

    layout: Layout | None = None
    channel_order: ChannelOrder | None = None
    size: tuple[int, int] | None = None
    stride: int | None = None
    mean: Triple | None = None
    std: Triple | None = None
    range: int = 1
    """1 or 255: the pixel values that mean and std are of."""
    inputs: tuple[str, ...] = ()
    """NAME=VALUE of what the graph takes beside the picture, see export/foreign/inputs/."""
    upsample: Upsampled | None = None
    """What is brought to the pictures' size: scores, or probabilities of them."""


@dataclass(frozen=True)
class Intake:
    """What a graph's input takes."""

    layout: Layout
    channel_order: ChannelOrder
    mean: Triple
    """RGB mean on [0, 1] that is subtracted before the graph."""
    std: Triple
    """RGB standard deviation on [0, 1] that is divided by before the graph."""
    size: tuple[int, int] | None
    """(height, width) that pictures are brought to; None keeps their own."""
    batch: int | None
    """Pictures per run: 1, or None for any number."""
    found: tuple[str, ...]
    """How it is known, in words."""
    inputs: tuple[Fixed, ...] = ()
    """What the graph takes beside the picture."""


def intake(model: onnx.ModelProto, told: Told, path: Path) -> Intake:
    """What the graph takes.

    Raises:
        InputError: options that contradict the graph.
        UnknownError: something that can't be found out.
    """
    picture = picture_input(model, path, [given.partition("=")[0] for given in told.inputs])
    dims = sizes(picture)
    beside = read_beside(model, path)
    try:
        layout = told.layout or _layout(model, picture, path)
    except UnknownError as unknown:
        raise UnknownError(*unknown.asked, *_asked(model, picture, told, beside, path)) from None
    channels, other = (dims[1], dims[3]) if layout == "NCHW" else (dims[3], dims[1])
    if channels != 3 and (channels is not None or other == 3):
        raise InputError(f"{path} has no 3 channels as {layout}: its input is {describe([picture])}.")
    if dims[0] not in (1, None):
        raise InputError(f"{path} takes {dims[0]} pictures at once only; export it for 1, or for any number.")
    fixed = fixed_size(picture, layout)
    if fixed and told.size and fixed != told.size:
        raise InputError(
            f"--size is {told.size[0]}x{told.size[1]}, but {path} takes only {fixed[0]}x{fixed[1]}; "
            "leave it out."
        )
    mean, std, words = _normalisation(model, picture, told, beside, path)
    order = told.channel_order or beside.order or "RGB"
    size = fixed or told.size or beside.size
    by = f" ({beside.sized_by})" if beside.sized_by and not (fixed or told.size) else ""
    found = (f"input {layout}, {order}", words, f"size {size[0]}x{size[1]}{by}" if size else f"any size{by}")
    # A range that is taken from what runs makes the labels of a picture those of its whole batch.
    alone = any(node.op_type == "DynamicQuantizeLinear" for node in model.graph.node)
    return Intake(layout, order, mean, std, size, 1 if alone else dims[0], found)


def fixed_size(picture: onnx.ValueInfoProto, layout: Layout) -> tuple[int, int] | None:
    """(height, width) that a graph's input takes; None if it takes any."""
    dims = sizes(picture)
    height, width = dims[2:] if layout == "NCHW" else dims[1:3]
    return None if height is None or width is None else (height, width)


def _layout(model: onnx.ModelProto, picture: onnx.ValueInfoProto, path: Path) -> Layout:
    """From the shape of the input; where that leaves the channels open, from its first convolutions."""
    dims = sizes(picture)
    if dims[1] == 3:
        return "NCHW"
    if dims[3] == 3:
        return "NHWC"
    if dims[1] is None or dims[3] is None:
        read = _channels_read(model, picture.name)
        if read in (1, 3) and dims[read] is None:
            return "NCHW" if read == 1 else "NHWC"
    if other := [size for size in (dims[1], dims[3]) if size is not None and size <= _CHANNELS]:
        raise InputError(
            f"{path} takes pictures of {other[0]} channel{'s' * (other[0] > 1)}, but those of --target have "
            "3: red, green and blue."
        )
    raise UnknownError(f"{path} does not say where its 3 channels are; give --layout NCHW or --layout NHWC.")


def _asked(
    model: onnx.ModelProto, picture: onnx.ValueInfoProto, told: Told, beside: Beside, path: Path
) -> tuple[str, ...]:
    """What has to be asked about the normalisation; nothing where it is known."""
    try:
        _normalisation(model, picture, told, beside, path)
    except UnknownError as unknown:
        return unknown.asked
    return ()


def _normalisation(
    model: onnx.ModelProto, picture: onnx.ValueInfoProto, told: Told, beside: Beside, path: Path
) -> tuple[Triple, Triple, str]:
    """Mean and standard deviation on [0, 1], and how they are known."""
    if told.mean is not None and told.std is not None:
        return _on_unit(told.mean, told.std, told.range, "normalisation as given")
    if value_type(picture) == TensorProto.UINT8:
        return _on_unit(_triple(0), _triple(1), 255, "pixels from 0 to 255, since the input is uint8")
    if beside.mean is not None and beside.std is not None:
        return beside.mean, beside.std, beside.words
    limit = _range_inside(model, picture.name)
    if limit is None:
        raise UnknownError(
            f"how {path} wants its pictures normalised is not known; give --mean and --std, {COMMON}."
        )
    return _on_unit(
        _triple(0), _triple(1), limit, f"pixels from 0 to {limit}: the graph normalises by itself"
    )


def _on_unit(mean: Triple, std: Triple, limit: int, words: str) -> tuple[Triple, Triple, str]:
    if min(std) <= 0:
        raise InputError(f"--std is {min(std):g}, but a standard deviation is above 0.")
    if limit == 1 and max(mean) > 1:
        raise InputError(
            f"--mean is {max(mean):g}, but pixels are from 0 to 1; add --range 255 if mean and std are of "
            "pixels from 0 to 255."
        )
    if limit == 255 and max(std) < 1:
        raise InputError(
            f"--std is {max(std):g} of pixels from 0 to 255; leave --range 255 out if mean and std are of "
            "pixels from 0 to 1."
        )
    return _triple([m / limit for m in mean]), _triple([s / limit for s in std]), words


def _triple(value: float | Sequence[float]) -> Triple:
    red, green, blue = np.broadcast_to(np.asarray(value, float), 3).tolist()
    return red, green, blue


def _range_inside(model: onnx.ModelProto, name: str) -> int | None:
    """Largest pixel value, 1 or 255, that the graph's own normalisation is made for; None if it has none."""
    constants = constants_of(model)
    scale, offset, found = 1.0, 0.0, False
    while True:
        readers = [node for node in model.graph.node if name in node.input and node.op_type != "Shape"]
        if len(readers) != 1 or readers[0].op_type not in (*_PASSING, *_AFFINE):
            break
        node = readers[0]
        if node.op_type in _AFFINE:
            other = next((i for i in node.input if i != name), "")
            if other not in constants:
                break
            found, value = True, float(np.abs(np.asarray(constants[other], float)).mean())
            if node.op_type in ("Add", "Sub"):
                offset = max(offset, value / scale)  # in units of the input
            else:
                scale *= value if node.op_type == "Mul" else 1 / value
        name = node.output[0]
    if not found:
        return None
    return 255 if scale < _LEAST_UNIT_SCALE or offset > _LARGEST_UNIT_OFFSET else 1


def _channels_read(model: onnx.ModelProto, name: str) -> int | None:
    """Axis of the input that convolutions read as channels, behind what moves and scales; None if unclear."""
    axes: set[int] = set()
    open_values: list[tuple[str, tuple[int, ...]]] = [(name, (0, 1, 2, 3))]
    while open_values:
        value, order = open_values.pop()  # order[i]: axis of the input that stands at place i
        for node in (node for node in model.graph.node if value in node.input):
            if node.op_type in _CONVOLUTIONS and value == node.input[0]:
                axes.add(order[1])
            elif node.op_type == "Transpose":
                perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), [3, 2, 1, 0])
                if len(perm) == len(order):
                    open_values.append((node.output[0], tuple(order[i] for i in perm)))
            elif node.op_type in _SAME_AXES:
                open_values.append((node.output[0], order))
    return axes.pop() if len(axes) == 1 else None
