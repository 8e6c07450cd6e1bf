"""A foreign graph, ready to run: uint8 RGB pictures in, logits out, whatever it takes and gives itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.fold.session import open_session
from export.foreign.convention import Intake, Told, fixed_size, intake
from export.foreign.endings import Ending, find_logits
from export.foreign.graph import UnknownError, cut_at, picture_input, read_graph
from export.foreign.inputs.fixed import check_given, fixed_inputs, with_fixed
from export.foreign.outlet import Outlet as Outlet
from export.foreign.outlet import find_outlet, run_once, with_size
from export.foreign.queries import find_queries, with_map
from serve.media.images import Image

MASKED = -1e9
"""What a logit of -inf counts as: nothing beside others of any scale, and a number to interpolate with."""


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
        return run_once(self._session, self._input, pixels, self.path)


def open_network(path: Path, told: Told, output: str | None) -> Network:
    """Open a foreign graph and find out what was not told.

    Raises:
        InputError: not a segmenter that can be used, or something that can't be found out; see
            `export.foreign.graph` and `export.foreign.convention`.
        UnknownError: what only the person can tell, of pictures and logits at once.
    """
    whole = read_graph(path)
    check_given(told.inputs, whole, path)
    try:
        whole, ending = _with_logits(whole, output, path)
    except UnknownError as unknown:
        raise UnknownError(*unknown.asked, *_asked(whole, told, path)) from None
    model = cut_at(whole, ending.name)
    try:
        fixed, words = fixed_inputs(model, told.inputs, path)
    except UnknownError as unknown:
        raise UnknownError(*unknown.asked, *_asked(model, told, path)) from None
    model = with_fixed(model, fixed, path)
    taken = intake(model, told, path)
    taken = replace(taken, inputs=tuple(fixed), found=(*words, *taken.found))
    model, outlet = find_outlet(model, taken, told, path)
    outlet = replace(outlet, name=ending.queries or ending.name)
    return Network(path, model, taken, outlet, ending)


def _asked(model: onnx.ModelProto, told: Told, path: Path) -> tuple[str, ...]:
    """What else is to be asked, of the pictures."""
    try:
        intake(model, told, path)
    except UnknownError as unknown:
        return unknown.asked
    return ()


def restore_network(path: Path, taken: Intake, outlet: Outlet) -> Network:
    """Open the graph that `taken` and `outlet` were found for.

    Raises:
        InputError: it is not that graph.
    """
    model, ending = _with_logits(read_graph(path), outlet.name, path)
    model = with_fixed(cut_at(model, ending.name), taken.inputs, path)
    return Network(path, with_size(model, outlet), taken, outlet)


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
    if network.outlet.resized is not None:
        return (
            f", brought to the picture's {'x'.join(map(str, network.outlet.resized))} from a stride not whole"
        )
    if ending.queries is not None:
        return ' (logarithm of the queries\' classes, without "no object", times their masks)'
    if not ending.behind:
        return ""
    left = f" (before {', '.join(ending.behind)})"
    if ending.resizes_probabilities:
        left += ", upsampled before the softmax where the file does it after, so borders differ a little"
    if ending.changes_labels:
        kinds = ", ".join(dict.fromkeys(ending.changes_labels))
        left += f"; labels are the numbers of its logits, from 0, not what {kinds} makes of them"
    return left
