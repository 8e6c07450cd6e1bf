"""What of a foreign graph's scores is upsampled: as the file itself does it, as the person says, or scores.

A file that resizes behind its Softmax or Sigmoid gives its user the best of upsampled probabilities. Which of
its Resize's ways it is (pixels between centres, corners aligned, or neither) is read off the graph, and
believed if it gives what the graph gives, on a picture of noise. What stands behind a LogSoftmax are logits
less a number that all classes share, so labels are those of logits.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from adapt.errors import InputError
from export.fold.session import open_session
from export.foreign.convention import Intake, Told
from export.foreign.endings import Ending
from export.foreign.graph import cut_at, opset, picture_input
from export.foreign.inputs.fixed import with_fixed
from export.foreign.outlet import Outlet, run_once
from serve.card import Card, Upsampled, Upsampling
from serve.inference.sizes import Behind, between, probabilities

ALIKE = 0.01
"""Most that a file's upsampled values may differ from ours, as a share of their range."""
_NAMES = {"pytorch_half_pixel": "half_pixel"}
"""But for sides of one pixel, which are no pictures, it is the same."""


def with_upsampling(
    model: onnx.ModelProto, ending: Ending, cut: onnx.ModelProto, taken: Intake, outlet: Outlet, path: Path
) -> Ending:
    """The ending of a file, with how it upsamples behind its Softmax, LogSoftmax or Sigmoid, if it does.

    Args:
        model: the whole graph; `cut` is cut at its logits, before their size is changed.
    """
    if not ending.resizing:
        return ending
    made = next(node for node in model.graph.node if ending.resizing[0] in node.output)
    said = {a.name: helper.get_attribute_value(a) for a in made.attribute}
    mode = _text(said.get("mode", b"nearest"))
    coordinates = _text(said.get("coordinate_transformation_mode", b"half_pixel"))
    if made.op_type == "Upsample" or opset(model) < 11:
        coordinates = "asymmetric"
    coordinates = _NAMES.get(coordinates, coordinates)
    kinds = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "softmax"}
    of = "probabilities" if ending.resizes_probabilities else "scores"
    if ending.resizes_logarithms and "Sigmoid" in ending.rising:
        return ending._replace(unlike="logarithms of a sigmoid")
    if len(ending.resizing) > 1 or len(ending.rising) > 1:
        return ending._replace(unlike="in several steps")
    if mode != "linear" or coordinates not in ("half_pixel", "align_corners", "asymmetric"):
        return ending._replace(unlike=f"by a Resize of mode {mode}, {coordinates}")
    own = Upsampling(of, kinds[ending.rising[0]], coordinates)  # type: ignore[arg-type]
    if not _alike(model, ending, cut, taken, outlet, own, path):
        return ending._replace(
            unlike="to another size than the picture's, or in a way that was not recognised"
        )
    return ending._replace(upsampling=own)


def chosen(ending: Ending, outlet: Outlet, told: Told, path: Path) -> Upsampling:
    """What the balanced file upsamples, and how.

    Raises:
        InputError: probabilities are wanted where there are none to upsample, or not in the file's own way.
    """
    kind = "exp" if ending.queries is not None else "sigmoid" if "Sigmoid" in ending.rising else "softmax"
    own = ending.upsampling or Upsampling(uncorrected=kind)  # type: ignore[arg-type]
    of = told.upsample or own.of
    check_upsampled(told.upsample, ending.unlike, str(path))
    if outlet.resized is None:
        _check_any(told.upsample, outlet.output_stride, path)
    return Upsampling(of, own.uncorrected, own.coordinates)


def upsampled(card: Card, wanted: Upsampled | None, path: Path) -> Card:
    """A card of a file that upsamples what is wanted. Raises InputError if it upsamples nothing at all."""
    _check_any(wanted, card.output_stride, path)
    return card if wanted is None else replace(card, upsampling=replace(card.upsampling, of=wanted))


def _check_any(wanted: Upsampled | None, output_stride: int, path: Path) -> None:
    if wanted == "probabilities" and output_stride == 1:
        raise InputError(
            f"--upsample probabilities has nothing to upsample: the logits of {path} are as large as its "
            "pictures; leave it out."
        )


def check_upsampled(wanted: str | None, unlike: str, name: str) -> None:
    """Raise InputError if probabilities are wanted that the file itself upsamples as we can't."""
    if wanted == "probabilities" and unlike:
        raise InputError(
            f"--upsample probabilities is bilinear, in one step, but {name} itself resizes {unlike}, so the "
            "labels of its user can't be had that way; leave it out for scores."
        )


def _alike(
    model: onnx.ModelProto,
    ending: Ending,
    cut: onnx.ModelProto,
    taken: Intake,
    outlet: Outlet,
    own: Upsampling,
    path: Path,
) -> bool:
    """Whether a picture of noise is upsampled by the file as it is here."""
    size = outlet.resized or taken.size or (5 * outlet.stride, 7 * outlet.stride)
    size = (-(-size[0] // outlet.stride) * outlet.stride, -(-size[1] // outlet.stride) * outlet.stride)
    mean, std = (np.array(part).reshape(3, 1, 1) for part in (taken.mean, taken.std))
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, *size)) / 255
    pixels = ((noise - mean) / std).astype(np.float32)
    if taken.layout == "NHWC":
        pixels = pixels.transpose(0, 2, 3, 1)
    try:
        resized = with_fixed(cut_at(model, ending.resizing[0]), taken.inputs, path)
        logits, theirs = (
            run_once(open_session(graph, str(path)), picture_input(graph, path), pixels, path).astype(float)
            for graph in (cut, resized)
        )
    except InputError:  # it depends on an input more, such as the size to resize to
        return False
    logits = logits[0] if outlet.layout == "NCHW" else logits[0].transpose(2, 0, 1)
    ours = _values(logits, own, ending.resizes_logarithms)
    for axis, full in enumerate(size, start=1):
        lines = between(ours.shape[axis], full, own.coordinates)
        ours = np.moveaxis(lines.of(np.moveaxis(ours, axis, 0)), 0, axis)
    for there in (theirs, theirs.transpose(0, 3, 1, 2) if theirs.ndim == 4 else theirs):
        if there.shape == (1, *ours.shape):
            factor = float((there[0] * ours).sum() / (ours**2).sum())  # of 255, as of pictures
            return bool(
                factor > 0 and np.abs(there[0] - factor * ours).max() <= ALIKE * factor * np.ptp(ours)
            )
    return False


def _values(logits: NDArray[Any], own: Upsampling, logarithms: bool) -> NDArray[Any]:
    """What the file makes of logits [C, h, w] before it upsamples."""
    found = probabilities(logits, Behind(own, corrected=False))
    return np.log(found) if logarithms else found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
