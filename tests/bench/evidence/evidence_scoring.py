"""Every correction of a finished network, from one pass over its pictures: ours in variants, and baselines.

Rows (F of the target) come from the unlabelled target, pseudo-labelled by the network; anchors from the
labelled source, or source-free from the same target. Each variant changes one thing of the first. The
baselines are logit adjustment, f - strength * log(share), with shares counted in the pseudo-labels or as the
mean of the softmax.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence_premise import Signs, Statistics, signs
from evidence_shifts import Pictures
from torch import Tensor

from adapt.balance.bias import biases_without_labels
from adapt.balance.correction import ShiftTable, shift_table
from adapt.balance.histogram import Histogram, Pooling, counted_in_all, labels_at_stride
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics
from adapt.config.method import Method
from adapt.data.datasets import LabelledFolder, UnlabelledFolder
from adapt.data.domains import open_labelled
from adapt.evaluation.baselines import adjusted
from adapt.evaluation.prediction import labels_of_logits, picture_logits
from adapt.evaluation.scores import Scores, confusion_matrix
from adapt.model.segmenter import Segmenter
from adapt.run.run import Run

STRENGTHS = (0.1, 0.2, 0.5, 1.0)
BASELINE_STRENGTHS = (0.1, 0.2, 0.3, 0.5, 1.0)
ANCHOR_PICTURES = 120
"""Source pictures, spread evenly, for the anchors: two distributions of millions of logits."""
LABEL_STRENGTH = 0.1
"""Of the logit adjustment that makes pseudo-labels balanced."""


@dataclass(frozen=True)
class Scored:
    """What is known of a finished run."""

    scores: dict[str, dict[str, Scores]]
    """By way and strength; "plain" has the strength 0 alone."""
    few: dict[str, float]
    """mIoU of the first way on the few labelled pictures, by strength."""
    signs: Signs
    """Without labels, of the first way."""
    estimated: dict[str, list[float]]
    """Bias [C] estimated without labels, by strength of the first way."""


@dataclass(frozen=True)
class Gathered:
    """What the corrections are made of."""

    target: list[Tensor]
    """Logits [1, C, h, w] of every unlabelled picture."""
    rows: Histogram
    source: Histogram
    stride: int

    def shares(self, min_pixels: int) -> Tensor:
        """[C] share of the pseudo-labels; 0 for classes with fewer pixels, which ours leaves alone too."""
        pixels = self.rows.row_pixels.double()
        return torch.where(pixels >= min_pixels, pixels / pixels.sum(), 0)

    def softmax(self) -> Tensor:
        """[C] mean of the softmax over the target."""
        return torch.stack([logits.softmax(1).double().mean((0, 2, 3)) for logits in self.target]).mean(0)


@torch.inference_mode()
def gathered(segmenter: Segmenter, target: UnlabelledFolder, source: LabelledFolder) -> Gathered:
    """Logits of all target pictures, and histograms of both domains."""
    stride = segmenter.output_stride
    logits = [picture_logits(segmenter, target[i]) for i in range(len(target))]
    step = max(1, len(source) // ANCHOR_PICTURES)

    def of_source() -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(0, len(source), step):
            sample = source[i]
            labels = labels_at_stride(torch.from_numpy(sample.labels).unsqueeze(0), stride)
            yield picture_logits(segmenter, sample.image), labels

    return Gathered(logits, labelled(logits, stride), counted(of_source(), stride), stride)


def labelled(maps: list[Tensor], stride: int, offset: Tensor | None = None) -> Histogram:
    """Histogram of maps [1, C, h, w] under their own labels, or those of the logits with an offset [C]."""
    shift = 0 if offset is None else offset.view(1, -1, 1, 1)
    return counted(((map_, (map_ + shift).argmax(1)) for map_ in maps), stride)


def counted(maps: Iterable[tuple[Tensor, Tensor]], stride: int) -> Histogram:
    """Histogram of logits and labels; there is at least one map."""
    histogram = counted_in_all(maps, stride)
    assert histogram is not None
    return histogram


def statistics_of(found: Gathered, method: Method) -> dict[str, ShiftStatistics]:
    """Statistics for every way to correct."""
    source, target = found.source, found.rows
    shares = found.shares(method.min_pixels)
    balanced = labelled(found.target, found.stride, adjustment(shares, LABEL_STRENGTH))

    def fitted(
        pooled: Histogram, pooling: Pooling = "pixels", rows: Histogram = found.rows, **other: Any
    ) -> ShiftStatistics:
        return fitted_to(rows, pooled, pooling, method, **other)

    return {
        "posthoc": fitted(source),
        "source-free": fitted(target),
        "eps 0.1": fitted(source, eps=0.1),
        "source-free, eps 0.1": fitted(target, eps=0.1),
        "class anchors": fitted(source, "classes"),
        "source-free, class anchors": fitted(target, "classes"),
        "balanced labels": fitted(source, rows=balanced),
        "one component": fitted(source, components=1),
    }


def fitted_to(
    rows: Histogram, pooled: Histogram, pooling: Pooling, method: Method, **other: Any
) -> ShiftStatistics:
    """Statistics with the run's constants, but for `other`."""
    constants = {"components": method.components, "min_pixels": method.min_pixels, "eps": method.eps} | other
    anchors = pooled.anchors(pooling, method.min_pixels)
    return fit_shift_statistics(rows, anchors, anchor_bins=pooled.bins, **constants)


def tables(ways: dict[str, ShiftStatistics]) -> dict[str, ShiftTable]:
    """A shift table for every way to correct, and for the first without the positive half."""
    made = {name: shift_table(statistics) for name, statistics in ways.items()}
    made["negative half"] = without_positive(made["posthoc"])
    return made


def signs_of(
    found: Gathered, method: Method, ways: dict[str, ShiftStatistics], ours: dict[str, ShiftTable]
) -> Signs:
    """What is known without labels (evidence_premise)."""

    def half(start: int) -> ShiftTable:
        rows = labelled(found.target[start::2], found.stride)
        return shift_table(fitted_to(rows, found.source, "pixels", method))

    halves = (half(0), half(1))
    pooled = (ways["class anchors"], ways["source-free, class anchors"])
    return signs(
        found.target, Statistics(ways["posthoc"], ours["posthoc"], halves, ours["source-free"], pooled)
    )


def without_positive(table: ShiftTable) -> ShiftTable:
    """The same without the shift of a class's own logits."""
    shift = table.shift.clone()
    diagonal = torch.arange(len(shift))
    shift[diagonal, diagonal] = 0
    return table._replace(shift=shift)


def adjustment(shares: Tensor, strength: float) -> Tensor:
    """What logit adjustment adds, -strength * log(share), [C]; nothing to a class without a share.

    As `adapt eval --baselines` does: hardly ever labelled, it would be raised above all others, and the
    baseline would be weaker than it need be.
    """
    return -strength * torch.where(shares > 0, shares, 1).log().float()


@torch.inference_mode()
def score(run: Run, pictures: Pictures) -> Scored:
    """Everything, from one pass over the run's pictures."""
    segmenter, size = run.segmenter(), run.config.data.size
    source = LabelledFolder(pictures.source, run.classes, size)
    found = gathered(segmenter, UnlabelledFolder(pictures.target, size), source)
    method = run.config.method
    ways = statistics_of(found, method)
    ours = tables(ways)
    baselines = {"label shares": found.shares(method.min_pixels), "mean softmax": found.softmax()}

    def every(logits: Tensor, size: tuple[int, int]) -> Labellings:
        yield from _ours(logits, size, found.stride, ours)
        for name, shares in baselines.items():
            for strength in BASELINE_STRENGTHS:
                shifted = adjusted(logits, adjustment(shares, strength))
                yield (name, strength), labels_of_logits(shifted, found.stride, size, None, 0.0)

    def first(logits: Tensor, size: tuple[int, int]) -> Labellings:
        return _ours(logits, size, found.stride, {"posthoc": ours["posthoc"]})

    scores: dict[str, dict[str, Scores]] = {}
    for (name, strength), one in _scores(run, segmenter, pictures.evaluate, every).items():
        scores.setdefault(name, {})[f"{strength:g}"] = one
    few = {f"{t:g}": one.mean_iou for (_, t), one in _scores(run, segmenter, pictures.few, first).items()}
    biases = biases_without_labels(ways["posthoc"], (0.0, *STRENGTHS))
    estimated = {
        f"{strength:g}": bias.tolist() for strength, bias in zip((0.0, *STRENGTHS), biases, strict=True)
    }
    return Scored(scores, few, signs_of(found, method, ways, ours), estimated)


Labellings = Iterator[tuple[tuple[str, float], np.ndarray]]
"""Way and strength, and the labels [H, W] that they give."""


def _ours(logits: Tensor, size: tuple[int, int], stride: int, tables: dict[str, ShiftTable]) -> Labellings:
    """The plain labels, and those by each table at each strength."""
    yield ("plain", 0.0), labels_of_logits(logits, stride, size, None, 0.0)
    for name, table in tables.items():
        for tau in STRENGTHS:
            yield (name, tau), labels_of_logits(logits, stride, size, table, tau)


def _scores(
    run: Run, segmenter: Segmenter, folder: Path, labellings: Callable[[Tensor, tuple[int, int]], Labellings]
) -> dict[tuple[str, float], Scores]:
    """Of every labelling, on the labelled pictures of a folder."""
    classes = len(run.classes)
    counts: dict[tuple[str, float], np.ndarray] = {}
    evaluation = open_labelled(folder, run.classes, run.config.data.size)
    for i in range(len(evaluation)):
        image, truth = evaluation[i]
        height, width = image.shape[:2]
        for key, labels in labellings(picture_logits(segmenter, image), (height, width)):
            counts[key] = counts.get(key, 0) + confusion_matrix(truth, labels, classes)
    return {key: Scores.from_confusion(confusion) for key, confusion in counts.items()}
