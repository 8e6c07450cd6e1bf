"""A foreign graph, ready to run: uint8 RGB pictures in, logits out, whatever it takes and gives itself."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from adapt.data.classes import MOST_CLASSES
from adapt.errors import InputError
from export.fold.session import open_session
from export.foreign.convention import Intake, Layout, Told, fixed_size, intake
from export.foreign.endings import Ending, find_logits
from export.foreign.graph import FLOATS, UnknownError, cut_at, picture_input, read_graph, value_type
from export.foreign.queries import find_queries, with_map
from serve.inference.runtime import failed, first_line
from serve.media.images import Image

MASKED = -1e9
"""What a logit of -inf counts as: nothing beside others of any scale, and a number to interpolate with."""
_STRIDES = (32, 64, 128)
"""Multiples of the picture's sides that are tried: nearly every network takes one of them."""


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


class Network:
    """An open foreign graph."""

    def __init__(
        self,
        path: Path,
        model: onnx.ModelProto,
        intake: Intake,
        outlet: Outlet,
        ending: Ending | None = None,
    ) -> None:
        """`model` is cut at its logits; use `open_network`, or `restore_network` with what is known."""
        self.path = path
        self.model = model
        self.intake = intake
        self.outlet = outlet
        self.ending = ending or Ending(outlet.name)
        """What stood behind the logits, where that was found out."""
        self._session = open_session(model, str(path))
        self._input = picture_input(model, path)

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(height, width), if the graph itself takes no other."""
        return fixed_size(self._input, self.intake.layout)

    def logits(self, images: Image) -> NDArray[np.float32]:
        """Logits [N, C, h, w] of images [N, H, W, 3], of each padded at the bottom and right to the stride.

        Padding is zero after normalisation. Logits of -inf are MASKED, as in the graph that is folded. A
        graph of a fixed size needs images of that size.

        Raises:
            InputError: the graph fails on pictures of this size.
        """
        taken, outlet = self.intake, self.outlet
        height, width = images.shape[1:3]
        mean, std = np.array(taken.mean), np.array(taken.std)
        pixels = images * (1 / (255 * std)).astype(np.float32) - (mean / std).astype(np.float32)
        pads = ((0, 0), (0, -height % outlet.stride), (0, -width % outlet.stride), (0, 0))
        pixels = np.pad(pixels, pads)
        if taken.channel_order == "BGR":
            pixels = pixels[..., ::-1]
        if taken.layout == "NCHW":
            pixels = pixels.transpose(0, 3, 1, 2)
        found = np.concatenate([self._run(image[None]) for image in pixels])
        np.maximum(found, np.float32(MASKED), out=found)  # NaN stays
        return found if outlet.layout == "NCHW" else np.ascontiguousarray(found.transpose(0, 3, 1, 2))

    def _run(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return _run(self._session, self._input, pixels, self.path)


def open_network(path: Path, told: Told, output: str | None) -> Network:
    """Open a foreign graph and find out what was not told.

    Raises:
        InputError: not a segmenter that can be used, or something that can't be found out; see
            `export.foreign.graph` and `export.foreign.convention`.
        UnknownError: what only the person can tell, of pictures and logits at once.
    """
    whole = read_graph(path)
    try:
        whole, ending = _with_logits(whole, output, path)
    except UnknownError as unknown:
        try:
            intake(whole, told, path)
        except UnknownError as other:
            raise UnknownError(*unknown.asked, *other.asked) from None
        raise
    model = cut_at(whole, ending.name, path)
    taken = intake(model, told, path)
    outlet = _outlet(model, taken, told, path)
    if ending.queries is not None:
        outlet = replace(outlet, name=ending.queries)
    return Network(path, model, taken, outlet, ending)


def restore_network(path: Path, taken: Intake, outlet: Outlet) -> Network:
    """Open the graph that `taken` and `outlet` were found for.

    Raises:
        InputError: it is not that graph.
    """
    return Network(path, _cut(path, outlet.name), taken, outlet)


def _cut(path: Path, name: str) -> onnx.ModelProto:
    model, ending = _with_logits(read_graph(path), name, path)
    return cut_at(model, ending.name, path)


def _with_logits(model: onnx.ModelProto, output: str | None, path: Path) -> tuple[onnx.ModelProto, Ending]:
    """The graph and its logits; of a query model, which has none, with nodes more that make them."""
    queries = find_queries(model, output, path)
    if queries is None:
        return model, find_logits(model, output, path)
    whole, name = with_map(model, queries, path)
    return whole, Ending(name, queries=queries.name)


def describe(network: Network) -> str:
    """What was found out, in one line for a person."""
    outlet = network.outlet
    logits = f"{outlet.classes} logits at stride {outlet.output_stride} from {outlet.name}{behind(network)}"
    return "; ".join([*network.intake.found, logits])


def behind(network: Network) -> str:
    """What is left out behind the logits, in words; empty if that is nothing."""
    ending = network.ending
    if ending.queries is not None:
        return ' (logarithm of the queries\' classes, without "no object", times their masks)'
    if not ending.behind:
        return ""
    left = f" (before {', '.join(ending.behind)})"
    if ending.resizes_probabilities:
        left += ", upsampled before the softmax where the file does it after, so borders differ a little"
    return left


def _outlet(model: onnx.ModelProto, taken: Intake, told: Told, path: Path) -> Outlet:
    """Find strides, layout and number of classes by running the graph once or a few times."""
    session = open_session(model, str(path))
    picture = picture_input(model, path)
    strides = (told.stride,) if told.stride else _STRIDES
    # A fixed size needs no padding, a chosen one is padded to a multiple; 5 and 7 tell height from width.
    trials = [(stride, (5 * stride, 7 * stride)) for stride in strides]
    fixed = fixed_size(picture, taken.layout)
    if fixed:
        trials = [(1, fixed)]
    problem = InputError("")
    for stride, (height, width) in trials:
        shape = (1, 3, height, width) if taken.layout == "NCHW" else (1, height, width, 3)
        try:
            values = _run(session, picture, np.zeros(shape, np.float32), path)
            return _read_outlet(values, stride, (height, width), model.graph.output[0].name, path)
        except InputError as error:
            problem = error
    raise problem


def _read_outlet(
    values: NDArray[np.float32], stride: int, size: tuple[int, int], name: str, path: Path
) -> Outlet:
    if values.ndim != 4:
        raise InputError(
            f"{path}: the output {name} has {values.ndim} dimensions, logits have 4; see --output."
        )
    height, width = size
    layouts: tuple[tuple[Layout, int, int, int], ...] = (("NCHW", 1, 2, 3), ("NHWC", 3, 1, 2))
    for layout, channel, row, column in layouts:
        C, h, w = (values.shape[axis] for axis in (channel, row, column))
        if height % h or width % w or height // h != width // w or C < 2:
            continue
        if C > MOST_CLASSES:
            raise InputError(
                f"{path} gives {C} logits per pixel, {MOST_CLASSES} are the most that can be used."
            )
        if stride % (height // h) and stride > 1:
            continue
        _refuse_probabilities(values, channel, name, path)
        return Outlet(name, layout, C, stride, height // h, bool(np.isneginf(values).any()))
    raise InputError(
        f"{path}: for a picture of {height}x{width} the output {name} is {list(values.shape)}, but logits "
        "are [N, C, h, w], C at least 2, at a whole stride; see --output and --stride."
    )


def _refuse_probabilities(values: NDArray[np.float32], axis: int, name: str, path: Path) -> None:
    if values.min() >= 0 and np.allclose(values.sum(axis), 1, atol=1e-3):
        raise InputError(
            f"{path}: the output {name} holds probabilities, but logits are needed; name what goes into the "
            "softmax with --output."
        )


def _run(
    session: Any, picture: onnx.ValueInfoProto, pixels: NDArray[np.float32], path: Path
) -> NDArray[np.float32]:
    """Output of the graph for one picture [1, ...], in the layout and scale of its input."""
    if value_type(picture) == FLOATS[1]:
        feed: NDArray[Any] = pixels.astype(np.float16)
    elif value_type(picture) == FLOATS[0]:
        feed = np.ascontiguousarray(pixels)
    else:
        feed = np.rint(pixels).astype(np.uint8)
    try:
        values = session.run(None, {picture.name: feed})[0]
    except Exception as error:  # as above
        if not failed(error):
            raise
        raise InputError(
            f"{path} fails on pictures of shape {list(feed.shape)} ({first_line(error)}); "
            "give the --size it takes, or the --stride of which sides must be multiples."
        ) from error
    return np.asarray(values, np.float32)
