"""Signs without labels of whether the correction will help: candidates for a test of its premise.

The premise (Li et al. 2025, section 3.1): classes that are predicted too often have larger logits. Where
it does not hold, the positive half of the shift lowers what is under-predicted already. No sign sees the
target's labels; what each is worth is measured against the true change of mIoU, over all runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapt.balance.bias import bias_left, bias_without_labels
from adapt.balance.correction import ShiftTable, posthoc_scores
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.evaluation.sweep import rank_correlation

TAU = 0.5
"""Strength at which shares and labels are compared: between the default and the full correction."""

SIGNS = {
    "premise": "rank correlation of a class's mean positive logit with its estimated bias",
    "evening": "minus the rank correlation of how a class's share changes with its estimated bias",
    "halves": "share of changed labels on which the statistics of either half of the pictures agree",
    "positive halves": "rank correlation of the classes' mean positive shift between the halves",
    "seen": "share of the classes that the network gives to enough pixels for statistics",
    "unchanged": "share of labels that stay as they are",
    "confidence": "mean softmax of the plain label where the correction changes it, less from 1",
    "left": "minus the share of the estimated sum of |Bias| that is left at tau 0.1",
    "left, class anchors": "the same, of anchors pooled over classes",
    "left, source-free": "the same, of source-free anchors pooled over classes",
    "target alone": "share of changed labels on which anchors of the source and of the target agree",
}
"""What each sign is; all are made so that more should be better."""

Signs = dict[str, float | None]


@dataclass(frozen=True)
class Statistics:
    """The statistics that the signs compare, with their shift tables."""

    whole: ShiftStatistics
    table: ShiftTable
    """Rows of all target pictures, anchors of the source."""
    halves: tuple[ShiftTable, ShiftTable]
    """Rows of every other target picture, the same anchors."""
    source_free: ShiftTable
    pooled: tuple[ShiftStatistics, ShiftStatistics]
    """With anchors pooled over classes: of the source, and source-free."""


@torch.no_grad()
def signs(logits: Sequence[Tensor], found: Statistics) -> Signs:
    """Every sign in SIGNS; None where it is not defined, such as a correlation of equal values.

    Args:
        logits: [1, C, h, w] of every target picture.
        found: statistics.
    """
    seen = found.whole.seen
    plain = _joined([one.argmax(1) for one in logits])
    corrected = _labels(logits, found.table)
    first, second = (_labels(logits, half) for half in found.halves)
    bias = bias_without_labels(found.whole)
    classes = len(seen)
    before, after = (torch.bincount(labels, minlength=classes).double() + 1 for labels in (plain, corrected))
    surest = _joined([one.softmax(1).amax(1) for one in logits])
    changed = corrected != plain
    values = {
        "premise": _ranked(positive_means(found.whole), bias, seen),
        "evening": -_ranked((after / after.sum()).log() - (before / before.sum()).log(), bias, seen),
        "halves": _agreement(plain, first, second),
        "positive halves": _ranked(*(positive_shift(found.whole, half) for half in found.halves), seen),
        "seen": seen.double().mean().item(),
        "unchanged": 1 - changed.double().mean().item(),
        "confidence": 1 - surest[changed].double().mean().item(),
        "left": -bias_left(found.whole),
        "left, class anchors": -bias_left(found.pooled[0]),
        "left, source-free": -bias_left(found.pooled[1]),
        "target alone": _agreement(plain, corrected, _labels(logits, found.source_free)),
    }
    return {name: None if np.isnan(value) else round(float(value), 4) for name, value in values.items()}


def positive_means(statistics: ShiftStatistics) -> Tensor:
    """[C] mean of each class's own logits at its pixels."""
    rows = statistics.rows
    return (rows.weights * rows.means).sum(-1).diagonal().double()


def positive_shift(statistics: ShiftStatistics, table: ShiftTable) -> Tensor:
    """[C] Delta[c, c] at the mean of the class's own logits."""
    own = torch.arange(len(statistics.seen))
    lower, step, shift = (part[own, own] for part in (table.lower, table.step, table.shift))
    position = ((positive_means(statistics) - lower) / step).clamp(0, shift.shape[1] - 1)
    return shift.gather(1, position.round().long().unsqueeze(1)).squeeze(1).double()


def _labels(logits: Sequence[Tensor], table: ShiftTable) -> Tensor:
    """Corrected labels of all decoder pixels, flat."""
    return _joined([posthoc_scores(one, table, TAU).argmax(1) for one in logits])


def _joined(maps: Sequence[Tensor]) -> Tensor:
    return torch.cat([one.flatten() for one in maps])


def _agreement(plain: Tensor, first: Tensor, second: Tensor) -> float:
    """Of the pixels that either changes, on how many do both say the same."""
    moved = (first != plain) | (second != plain)
    return (first == second)[moved].double().mean().item()


def _ranked(first: Tensor, second: Tensor, seen: Tensor) -> float:
    return rank_correlation(first[seen].numpy(), second[seen].numpy())
