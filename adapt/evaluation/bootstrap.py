"""How far a difference between two ways to label is one of the pictures that happen to be labelled.

Pictures are drawn again with replacement, as many as there are, and every way is scored on the same draw; the
spread of the differences over the draws is an interval (percentile bootstrap, Efron and Tibshirani 1993,
chapter 13). Whole pictures are drawn, because pixels of one picture are alike. Frames of one drive are alike
too, so of those the true interval is wider.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

DRAWS = 1000
SEED = 0
COVERED = 0.95
LEAST_PICTURES = 5
"""Of fewer, the draws say little of what other pictures would."""

Key = TypeVar("Key", bound=Hashable)


class Interval(NamedTuple):
    """Ends of a 95 % interval; shares, not per cent."""

    low: float
    high: float

    def words(self) -> str:
        """In per cent, with signs, for the difference of two scores."""
        return f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


@dataclass(frozen=True)
class Change:
    """Intervals of what a way's scores differ by from those of another, on the same pictures."""

    mean_iou: Interval
    mean_accuracy: Interval


def changes(
    margins: Mapping[Key, np.ndarray], base: Key, draws: int = DRAWS, seed: int = SEED
) -> dict[Key, Change]:
    """Intervals of the difference between every way and one of them.

    Args:
        margins: [P, 3, C] of every way: right, true and predicted pixels of each class in each picture, as
            `adapt.evaluation.comparison.Counts` has them. Pictures without a true pixel do not count.
        base: the way to compare with.
        draws: how often pictures are drawn.
        seed: of the draws: the same gives the same intervals.

    Returns:
        By way, without `base`; empty with fewer than LEAST_PICTURES pictures.
    """
    kept = margins[base][:, 1].sum(1) > 0
    pictures = int(kept.sum())
    if pictures < LEAST_PICTURES:
        return {}
    # Sums of integers below 2^53 are exact in float64, and its matrix product is the fast one.
    flat = {way: counts[kept].reshape(pictures, -1).astype(np.float64) for way, counts in margins.items()}
    found = {way: np.empty((draws, 2)) for way in flat}
    for draw, weights in enumerate(drawn(pictures, draws, seed)):
        for way, counts in flat.items():
            found[way][draw] = mean_scores((weights @ counts).reshape(3, -1))
    tail = (1 - COVERED) / 2
    ends = {
        way: np.quantile(scores - found[base], (tail, 1 - tail), axis=0).T.tolist()
        for way, scores in found.items()
        if way != base
    }
    return {way: Change(Interval(*iou), Interval(*accuracy)) for way, (iou, accuracy) in ends.items()}


def drawn(pictures: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each picture is in each draw in turn, float64 [P] that sum to P."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(rng.integers(0, pictures, pictures), minlength=pictures).astype(np.float64)


def mean_scores(margins: np.ndarray) -> tuple[float, float]:
    """mIoU and mAcc of sums [3, C] of right, true and predicted pixels, over the classes that are there."""
    right, true, predicted = margins
    there = true > 0
    union = (true + predicted - right)[there]
    return float((right[there] / union).mean()), float((right[there] / true[there]).mean())
