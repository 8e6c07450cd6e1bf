"""Pictures for people: bias per class, logit distributions against their anchors, labels before and after.

Nothing here is computed in a training step; every function takes finished numbers and writes one PNG, under
a temporary name first. Existing files are replaced: asking belongs to the command.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapt.balance.histogram import Histogram
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import pdf, quantile
from adapt.data.classes import ClassList, paint
from adapt.evaluation.sweep import ESTIMATED, MEASURED, Sweep
from adapt.reporting.figures import hide_spines, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart.
BARS = ("#9a9a9a", "#e69f00", "#0072b2", "#009e73", "#cc79a7")
POSITIVE, NEGATIVE = "#0072b2", "#d55e00"
POINTS = 400


class Densities(NamedTuple):
    """Densities of logits on a common axis, per logit."""

    z: np.ndarray
    """[G] the axis, in logits."""
    positive: np.ndarray
    """[C, G] of the class's own channel at its own pixels."""
    negative: np.ndarray
    """[C, G] of the class's channel at pixels of other classes; every other class counts alike."""
    anchors: np.ndarray
    """[2, G] of the pooled positive and negative logits."""


class Counted(NamedTuple):
    """The counts behind the densities, per logit and bin, in the same grouping."""

    z: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


class Example(NamedTuple):
    """One picture of a before/after row: uint8 [H, W, 3] RGB and labels [H, W]."""

    image: np.ndarray
    uncorrected: np.ndarray
    corrected: np.ndarray
    truth: np.ndarray | None = None


# ---- data ------------------------------------------------------------------------------------------------


def class_densities(statistics: ShiftStatistics, points: int = POINTS) -> Densities:
    """What the distribution picture shows; rows of classes never seen are NaN and pooled nowhere."""
    statistics = statistics.to(torch.device("cpu")).to(torch.float64)
    rows, anchors = statistics.rows, statistics.anchors
    seen, C = statistics.seen, statistics.num_classes
    ends = torch.tensor([0.002, 0.998], dtype=torch.float64)
    shown = [quantile(anchors, ends.expand(2, 2)), quantile(rows, ends.expand(C, C, 2))[seen].flatten(0, 1)]
    low, high = (float(x) for x in (torch.cat(shown)[:, 0].min(), torch.cat(shown)[:, 1].max()))
    z = torch.linspace(low, high, points, dtype=torch.float64)
    all_rows = pdf(rows, z.expand(C, C, points).contiguous())
    positive, negative = _split(all_rows, seen)
    return Densities(z.numpy(), positive, negative, pdf(anchors, z.expand(2, points).contiguous()).numpy())


def class_counts(histogram: Histogram, seen: Tensor) -> Counted:
    """The histogram in the grouping of `class_densities`: every row scaled to area one first."""
    centres = histogram.centres(torch.float64).cpu()
    counts = histogram.counts.double().cpu()
    area = counts.sum(-1, keepdim=True).clamp_min(1) * float(centres[1] - centres[0])
    return Counted(centres.numpy(), *_split(counts / area, seen.cpu()))


def _split(rows: Tensor, seen: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """[C, C, G] of rows into positives [C, G] and the mean negatives [C, G] of every channel."""
    rows = torch.where(seen.view(-1, 1, 1), rows, torch.nan)
    own = rows.diagonal().t()
    others = rows.clone()
    diagonal = torch.arange(len(seen))
    others[diagonal, diagonal] = torch.nan
    return own.numpy(), others.nanmean(0).numpy()


def present_classes(examples: Sequence[Example], num_classes: int) -> list[int]:
    """Train ids that occur in any of the pictures' labels, rising."""
    found: set[int] = set()
    for example in examples:
        for labels in (example.uncorrected, example.corrected, example.truth):
            if labels is not None:
                found |= set(np.unique(labels).tolist())
    return sorted(c for c in found if c < num_classes)


# ---- pictures --------------------------------------------------------------------------------------------


def draw_bias(classes: ClassList, columns: Mapping[str, np.ndarray], path: Path) -> None:
    """Bars of the bias of every class.

    Args:
        classes: names and order, C of them.
        columns: title and bias [C] of each set of bars, e.g. {"with labels": ..., "label-free": ...};
            the title is followed by the sum of |Bias|.
        path: where the PNG goes.
    """
    height = 0.8 / len(columns)
    figure = new_figure(7.5, 1.3 + len(classes) * (0.16 + 0.13 * len(columns)))
    axes = figure.subplots()
    where = np.arange(len(classes))
    for index, (title, bias) in enumerate(columns.items()):
        offset = (index - 0.5 * (len(columns) - 1)) * height
        label = f"{title}  (sum of |bias| {np.abs(bias).sum():.3f})"
        axes.barh(where + offset, bias, 0.92 * height, label=label, color=BARS[index % len(BARS)], zorder=2)
    axes.axvline(0, color="black", linewidth=0.8, zorder=3)
    axes.set_yticks(where, classes.names, fontsize=9)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    reach = 1.08 * max(1e-3, *(float(np.abs(bias).max()) for bias in columns.values()))
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("bias:   ← predicted too rarely      predicted too often →", fontsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(length=0)
    hide_spines(axes)
    figure.legend(loc="outside upper left", frameon=False, fontsize=9)
    save_figure(figure, path)


def draw_distributions(
    classes: ClassList, statistics: ShiftStatistics, path: Path, histogram: Histogram | None = None
) -> None:
    """Positive and negative logits of every class against the anchors, one panel a class.

    Args:
        classes: names and order, C of them.
        statistics: mixtures to draw as lines.
        path: where the PNG goes.
        histogram: the counts behind them, drawn as areas if given.
    """
    densities = class_densities(statistics)
    counted = None if histogram is None else class_counts(histogram, statistics.seen)
    wide = min(4, len(classes))
    tall = -(-len(classes) // wide)
    figure = new_figure(2.5 * wide + 0.2, 1.45 * tall + 0.9)
    panels = figure.subplots(tall, wide, sharex=True, squeeze=False).flatten()
    for c, axes in enumerate(panels):
        if c < len(classes):
            _draw_class(axes, c, classes.names[c], densities, counted)
            axes.tick_params(labelbottom=c + wide >= len(classes))
        else:
            axes.set_axis_off()
    panels[0].set_xlim(densities.z[0], densities.z[-1])
    lines, titles = panels[0].get_legend_handles_labels()
    figure.legend(lines, titles, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    figure.supxlabel("logit", fontsize=9)
    save_figure(figure, path)


def _draw_class(axes: "Axes", c: int, name: str, densities: Densities, counted: Counted | None) -> None:
    groups = (
        ("positive", POSITIVE, "own pixels"),
        ("negative", NEGATIVE, "pixels of other classes"),
    )
    for group, (attribute, color, meaning) in enumerate(groups):
        own, anchor = getattr(densities, attribute)[c], densities.anchors[group]
        if counted is not None:
            heights = np.nan_to_num(getattr(counted, attribute)[c])
            axes.fill_between(counted.z, heights, step="mid", color=color, alpha=0.22, linewidth=0)
        else:
            axes.fill_between(densities.z, np.nan_to_num(own), color=color, alpha=0.22, linewidth=0)
        axes.plot(densities.z, own, color=color, linewidth=1.4, label=f"{attribute} logits ({meaning})")
        axes.plot(
            densities.z, anchor, color=color, linewidth=1, linestyle=(0, (3, 2)), label=f"{attribute} anchor"
        )
    unseen = np.isnan(densities.positive[c]).all()
    axes.set_title(f"{name} (not seen)" if unseen else name, fontsize=9, loc="left", pad=3)
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.tick_params(labelsize=7, length=2)
    hide_spines(axes, "top", "right", "left")


def draw_examples(
    classes: ClassList, examples: Sequence[Example], path: Path, corrected: str = "corrected"
) -> None:
    """Rows of input | uncorrected | corrected | ground truth (if any example has it), and a legend.

    Args:
        classes: names and colours.
        examples: the pictures, of any sizes.
        path: where the PNG goes.
        corrected: title of the third column, e.g. "corrected (tau 0.2)".
    """
    titles = ["input", "uncorrected", corrected]
    if any(example.truth is not None for example in examples):
        titles.append("ground truth")
    shown = present_classes(examples, len(classes))
    per_line = max(1, min(len(shown), 2 * len(titles)))
    ratios = [example.image.shape[0] / example.image.shape[1] for example in examples]
    legend = 0.1 + 0.24 * -(-len(shown) // per_line)
    height = 2.9 * sum(ratios) + 0.04 * len(ratios) + 0.25 + legend
    figure = new_figure(2.9 * len(titles), height, gap=0.02)
    grid = figure.subplots(len(examples), len(titles), squeeze=False, height_ratios=ratios)
    for row, example in zip(grid, examples, strict=True):
        labels = (example.uncorrected, example.corrected, example.truth)
        pictures = [example.image, *(None if part is None else paint(part, classes) for part in labels)]
        for axes, picture in zip(row, pictures, strict=False):
            axes.set_axis_off()
            if picture is not None:
                axes.imshow(picture, interpolation="nearest", aspect="auto")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9, pad=4)
    _legend(figure, [(classes.names[c], classes.palette[c]) for c in shown], per_line)
    save_figure(figure, path)


def _legend(figure: "Figure", entries: Sequence[tuple[str, tuple[int, int, int]]], per_line: int) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=(r / 255, g / 255, b / 255), edgecolor="#555555", linewidth=0.5, label=name)
        for name, (r, g, b) in entries
    ]
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=per_line,
        frameon=False,
        fontsize=8,
        handlelength=1,
        handleheight=1,
        columnspacing=1.2,
    )


def draw_sweep(sweep: Sweep, path: Path) -> None:
    """Curves over the strength as a PNG: the bias, and with labels the quality beside it."""
    figure = new_figure(4.2 if sweep.measured is None else 8.4, 3.2, gap=0.08)
    panels = figure.subplots(1, 1 if sweep.measured is None else 2, squeeze=False)[0]
    bias = panels[0]
    bias.plot(sweep.taus, sweep.estimated_sums, "o-", color=ESTIMATED, label="estimated, without labels")
    if sweep.measured is not None:
        totals = [scores.sum_abs_bias for scores in sweep.measured]
        bias.plot(sweep.taus, totals, "o-", color=MEASURED, label="measured")
        quality = panels[1]
        lines = (
            ("mean_accuracy", "mAcc", "#009e73"),
            ("mean_iou", "mIoU", "#0072b2"),
            ("std_iou", "std of IoU", "#cc79a7"),
        )
        for name, title, color in lines:
            shares = [100 * getattr(scores, name) for scores in sweep.measured]
            quality.plot(sweep.taus, shares, "o-", color=color, label=title)
        quality.set_title("quality, %", fontsize=9, loc="left")
    bias.set_title("sum of |Bias|", fontsize=9, loc="left")
    for axes in panels:
        axes.set_ylim(bottom=0)
        axes.set_xlabel("strength tau", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(color="#e5e5e5", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8)
        for line in axes.lines:
            line.set_markersize(3.5)
        hide_spines(axes)
    save_figure(figure, path)
