"""What is inside a deployable graph: operators, precision, speed, and the shifts really folded into it."""

import statistics as averages
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import pdf
from adapt.errors import InputError
from export.fold.curves import Array, Curves, shift_curves
from export.fold.folded import folded_statistics, graph_info
from export.fold.nodes import PREFIX
from export.fold.rows import scope_of
from export.precision.conversion import precision_of
from serve.card import Card
from serve.inference.opening import open_runtime
from serve.inference.runtime import Runtime
from serve.info import to_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LATENCY_SIZE = (512, 1024)
RUNS = 5


class FoldedShift(NamedTuple):
    """Delta as the graph's own constants have it."""

    knots: Array
    """[C, M] positions on logit l's axis, in logits; the spare ones lie beyond the others."""
    shift: Array
    """[C, C, M] Delta[c, l] at channel l's knots, in logits, up to a constant per row c, which no score
    depends on."""


@dataclass(frozen=True)
class Latency:
    """Measured time of one picture."""

    seconds: float
    """Median of RUNS runs after a first one."""
    size: tuple[int, int]
    """Height and width."""
    provider: str


def folded_shift(model: onnx.ModelProto, profile: int = 0) -> FoldedShift | None:
    """Read Delta back from the constants of a folded graph; None if none is folded (or tau is 0).

    Args:
        profile: which correction, of a graph with several.

    Raises:
        InputError: the constants were altered.
    """
    scope = PREFIX + scope_of(profile)
    constants = {t.name.removeprefix(scope): t for t in model.graph.initializer if t.name.startswith(scope)}
    correction = graph_info(model, "the graph").under(profile).correction
    if correction is None or (correction.tau == 0 and not correction.runtime_tau):
        return None
    try:
        width, middle, bins = (_number(constants[name]) for name in ("bin_width", "middle", "bins_to"))
        shift, own = (_at_knots(constants, name) for name in ("shift", "own"))  # [l, M, c] and [l, M, 1]
        numbers = _knot_numbers(constants, *shift.shape[:2])
        classes = np.arange(len(shift))
        shift[classes, :, classes] = own[:, :, 0]  # which the sums leave out
        return FoldedShift(middle + (numbers - (bins - 1) / 2) * width, shift.transpose(2, 0, 1))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"the graph says that a correction is folded in, but its constants were altered ({error}); "
            "export it again."
        ) from error


def _at_knots(constants: dict[str, onnx.TensorProto], name: str) -> Array:
    """Delta at the knots; files of older versions have its first value and the steps from there."""
    if f"{name}_knots" in constants:
        return _number(constants[f"{name}_knots"])
    return np.cumsum(np.concatenate([_number(constants[f"{name}_{p}"]) for p in ("start", "steps")], 1), 1)


def _knot_numbers(constants: dict[str, onnx.TensorProto], C: int, M: int) -> Array:
    """[C, M] bins of the knots; the last one is as far from the one before as its slope says."""
    slopes = "per_knot_distance" if "per_knot_distance" in constants else "knot_slopes"
    knots, per_bin = (_number(constants[name]).reshape(C, M - 1) for name in ("knots", slopes))
    return np.concatenate([knots, knots[:, -1:] + 1 / per_bin[:, -1:]], axis=1)


def _number(tensor: onnx.TensorProto) -> Array:
    return np.asarray(numpy_helper.to_array(tensor), np.float64)


def describe(path: Path, model: onnx.ModelProto, size: tuple[int, int] | None = None) -> str:
    """The card, the inside and the measured latency of a graph file, for a person.

    Args:
        size: height and width to measure at; None takes the graph's own, or LATENCY_SIZE.
    """
    runtime = open_runtime(path)
    latency = measure(runtime, size)
    kinds = Counter(node.op_type for node in model.graph.node)
    added = sum(node.name.startswith(PREFIX) for node in model.graph.node)
    rows = [
        ("precision", precision_of(model).words()),
        ("opset", str(next(o.version for o in model.opset_import if o.domain == ""))),
        ("operators", ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())),
        ("", f"{len(model.graph.node)} in all, of which {added} are ends and correction"),
        (
            "latency",
            f"{latency.seconds * 1e3:.1f} ms for {latency.size[0]}x{latency.size[1]} on this machine's "
            f"{latency.provider}, median of {RUNS} runs",
        ),
    ]
    return "\n".join([to_text(runtime), *(f"  {label:<11}{text}" for label, text in rows)])


def measure(runtime: Runtime, size: tuple[int, int] | None = None) -> Latency:
    """Time one picture on this machine.

    Raises:
        InputError: a size that the graph does not take.
    """
    card = runtime.info.card
    height, width = size or card.size or LATENCY_SIZE
    if (height, width) != (card.size or (height, width)) or min(height, width) < card.minimum_size:
        taken = f"sides of {card.minimum_size} pixels and more"
        if card.size is not None:
            taken = f"{card.size[0]}x{card.size[1]} only"
        raise InputError(f"--size is {height}x{width}, but {runtime.path} takes {taken}.")
    feed = {"image": np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)}
    seconds = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        runtime.run(["labels"], feed)
        seconds.append(time.perf_counter() - start)
    return Latency(averages.median(seconds[1:]), (height, width), runtime.provider)


def draw(model: onnx.ModelProto, source: str, output: Path, profile: str | None = None) -> None:
    """Draw the folded shifts, one panel per logit channel; `source` names the file in messages.

    `profile` is one of a graph with several; None is the first.

    Raises:
        InputError: nothing is folded, or it was altered.
    """
    info = graph_info(model, source)
    number = 0 if profile is None else info.number_of(profile, source)
    folded, statistics = folded_shift(model, number), folded_statistics(model, number)
    if folded is None or statistics is None:
        raise InputError(f"{source} has no correction folded in, so there is nothing to draw; leave -o out.")
    from matplotlib.figure import Figure

    card = info.card
    curves = shift_curves(statistics)
    centres = _centres(folded, curves)
    C = len(card.classes)
    columns = int(np.ceil(np.sqrt(C)))
    rows = -(-C // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
    for l in range(C):
        axes = figure.add_subplot(rows, columns, l + 1)
        _panel(axes, l, card, folded, curves[l], centres, statistics)
    figure.supxlabel("logit of the channel")
    figure.supylabel("shift Delta, in logits")
    figure.suptitle(
        "What the file adds to a logit, by the class that a pixel is judged for: lines exact, dots folded; "
        "shaded: the class's own logits"
    )
    figure.savefig(output, format="png", dpi=110)


def _panel(
    axes: "Axes",
    l: int,
    card: Card,
    folded: FoldedShift,
    curves: Curves,
    centres: Array,
    statistics: ShiftStatistics,
) -> None:
    """Delta[:, l] against the logit, and the distribution of the class's own logits."""
    knots = folded.knots[l]
    inside = knots[knots <= curves.z.max() + 1]  # channels with spare knots have them beyond
    z = np.linspace(inside[0] - 1, inside[-1] + 1, 400)
    exact = curves.at(z)
    for c in range(len(card.classes)):
        color = np.array(card.palette[c]) / 255
        own = c == l
        axes.plot(z, exact[c], color=color, linewidth=2.2 if own else 0.7, zorder=3 if own else 2)
        dots = folded.shift[c, l, : len(inside)] + centres[c]
        axes.plot(inside, dots, ".", color=color, markersize=6 if own else 2.5, zorder=3 if own else 2)
    density = pdf(statistics.to(torch.float64).rows.select((l, l)), torch.from_numpy(z))
    shade = axes.twinx()
    shade.fill_between(z, density.numpy(), color=np.array(card.palette[l]) / 255, alpha=0.25, linewidth=0)
    shade.set_ylim(0, 3 * float(density.max()) or 1)
    shade.set_yticks([])
    axes.set_title(card.classes[l], fontsize=9)


def _centres(folded: FoldedShift, curves: list[Curves]) -> Array:
    """[C] the constant that each row was shifted by when it was folded."""
    channels = zip(curves, folded.knots, folded.shift.swapaxes(0, 1), strict=True)
    apart = [curve.at(knots) - shift for curve, knots, shift in channels]
    return np.asarray(np.median(np.concatenate(apart, axis=1), axis=1))
