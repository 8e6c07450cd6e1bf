"""What is counted of the pixels of a frame: all of it whole numbers that add up.

    joint       [C, C, BINS]  logits by class of the pixel (row) and channel (column)
    labels      [C]           pixels by the label that the file gave, corrected
    plain       [C]           pixels by the best logit
    agreed      [C]           those of `plain` that the correction left as they were
    confidence  [C, LEVELS]   pixels by class and by the softmax of the best logit

A pixel's class is the best of logits + offset, see `Rule`; a frame gives at most PIXELS of its logit pixels,
on an even grid: mixtures gain nothing from more.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.gathering.rule import BINS, Rule

PIXELS = 4096
"""Most logit pixels of a frame."""
LEVELS = 20
"""Levels of confidence, of equal width from 0 to 1."""

Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of some pixels, as views of one vector."""

    values: Whole
    """All of them, in the order above."""
    classes: int

    @staticmethod
    def none(classes: int) -> "Counts":
        return Counts(np.zeros(size_of(classes), np.int64), classes)

    @property
    def joint(self) -> Whole:
        C = self.classes
        return self.values[: C * C * BINS].reshape(C, C, BINS)

    @property
    def labels(self) -> Whole:
        return np.asarray(self._vectors()[0])

    @property
    def plain(self) -> Whole:
        return np.asarray(self._vectors()[1])

    @property
    def agreed(self) -> Whole:
        return np.asarray(self._vectors()[2])

    @property
    def confidence(self) -> Whole:
        return self.values[self._end() + 3 * self.classes :].reshape(self.classes, LEVELS)

    @property
    def pixels(self) -> Whole:
        """[C] pixels of each class: each appears once in every column of its row."""
        return np.asarray(self.joint[:, 0].sum(-1))

    @property
    def positive(self) -> Whole:
        """[C, BINS] logits of each class at its own pixels."""
        own = np.arange(self.classes)
        return np.asarray(self.joint[own, own])

    @property
    def tail(self) -> Whole:
        """[C (3 + LEVELS)] all but the joint histogram, in the same order."""
        return self.values[self._end() :]

    def _end(self) -> int:
        return self.classes**2 * BINS

    def _vectors(self) -> Whole:
        return self.values[self._end() : self._end() + 3 * self.classes].reshape(3, self.classes)


def size_of(classes: int) -> int:
    """Length of the vector of all counts."""
    return classes * (classes * BINS + 3 + LEVELS)


def add(counts: Counts, rule: Rule, logits_Chw: NDArray[np.floating[Any]], labels_hw: NDArray[Any]) -> int:
    """Count the pixels of one frame, in place; returns how many of the logits lay beyond the bins.

    Args:
        logits_Chw: at the decoder's stride, of pixels inside of the picture. Those with a logit that is not
            finite are left out.
        labels_hw: the label that the file gave at the centre of each.
    """
    C = counts.classes
    f, labels = _thinned(logits_Chw, labels_hw)
    if not f.shape[1]:
        return 0
    plain = f.argmax(0)
    row = (f + np.array(rule.offset, np.float32)[:, None]).argmax(0)
    # In float32, as torch computes it: the same logits must fall into the same bins.
    position = (f - np.float32(rule.low)) / np.float32(rule.step)
    outside = int(((position < 0) | (position >= BINS)).sum())
    index = position.clip(0, BINS - 1).astype(np.int64)
    index += (row * C + np.arange(C)[:, None]) * BINS
    np.add.at(counts.joint.reshape(-1), index.ravel(), 1)
    best = 1 / np.exp(f - f.max(0)).sum(0)
    level = np.minimum((best * LEVELS).astype(np.int64), LEVELS - 1)
    for into, at in (
        (counts.labels, labels),
        (counts.plain, plain),
        (counts.agreed, plain[plain == labels]),
        (counts.confidence.reshape(-1), row * LEVELS + level),
    ):
        into += np.bincount(at, minlength=len(into))
    return outside


def _thinned(
    logits_Chw: NDArray[np.floating[Any]], labels_hw: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """At most PIXELS columns [C, P] and their labels [P], on an even grid, of finite logits."""
    step = int(np.ceil(np.sqrt(labels_hw.size / PIXELS)))
    grid = np.s_[step // 2 :: step, step // 2 :: step]
    f = logits_Chw[:, *grid].astype(np.float32).reshape(len(logits_Chw), -1)
    labels = labels_hw[grid].ravel()
    finite = np.isfinite(f).all(0)
    return f[:, finite], labels[finite]


def windows(labels_HW: NDArray[Any], stride: int) -> NDArray[Any]:
    """Labels [h, w] at the centres of the logit pixels of a picture, of those whose centre lies inside."""
    return np.asarray(labels_HW[stride // 2 :: stride, stride // 2 :: stride])
