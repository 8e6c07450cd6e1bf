"""Several ways from the same logits to labels, counted in one pass of the network over labelled pictures.

A way is a strength of the correction (a number; 0 is the plain argmax) or a baseline.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from adapt.balance.correction import ShiftTable
from adapt.evaluation.baselines import Adjustment, adjusted
from adapt.evaluation.prediction import Seen
from adapt.evaluation.scores import Scores

Way = float | Adjustment


@dataclass(frozen=True, eq=False)
class Counts:
    """What a way got right, over all pictures and picture by picture."""

    confusion: np.ndarray
    """[C, C] pixels, row = ground truth, column = prediction, of all pictures."""
    margins: np.ndarray
    """[P, 3, C] of every picture, in integers: pixels that are right, true pixels, predicted pixels of each
    class. All that IoU and accuracy are made of, in 3 C numbers instead of C * C."""

    @property
    def scores(self) -> Scores:
        """Raises InputError if no pixel has ground truth."""
        return Scores.from_confusion(self.confusion)


class Counter:
    """Adds up the confusion matrices of a way."""

    def __init__(self, num_classes: int) -> None:
        self._confusion = np.zeros((num_classes, num_classes), np.int64)
        self._margins: list[np.ndarray] = []

    def add(self, confusion: np.ndarray) -> None:
        """Count a picture's [C, C]."""
        self._confusion += confusion
        self._margins.append(np.stack([confusion.diagonal(), confusion.sum(1), confusion.sum(0)]))

    def counts(self) -> Counts:
        empty = np.zeros((0, 3, len(self._confusion)), np.int64)
        return Counts(self._confusion, np.stack(self._margins) if self._margins else empty)


def compare(
    pictures: Iterable[Seen],
    num_classes: int,
    table: ShiftTable | None,
    taus: Sequence[float],
    offsets: Mapping[Adjustment, Tensor],
) -> dict[Way, Counts]:
    """Count every way on every picture.

    Args:
        pictures: from `seen_pictures`.
        num_classes: C.
        table: shifts of the domain; may be left out when all of `taus` are 0.
        taus: strengths of the post-hoc correction.
        offsets: from `adjustments`.

    Returns:
        The strengths, then the baselines, in the order given.
    """
    ways: list[Way] = [*taus, *offsets]
    counters = {way: Counter(num_classes) for way in ways}
    for seen in pictures:
        for tau in taus:
            counters[tau].add(seen.confusion(num_classes, table, tau))
        for way, offset in offsets.items():
            plain = seen._replace(logits=adjusted(seen.logits, offset))
            counters[way].add(plain.confusion(num_classes))
    return {way: counter.counts() for way, counter in counters.items()}


def strengths_of(ways: Mapping[Way, Counts]) -> dict[float, Scores]:
    """Scores of the correction alone, by strength."""
    return {way: counts.scores for way, counts in ways.items() if isinstance(way, float)}


def baselines_of(ways: Mapping[Way, Counts]) -> dict[Adjustment, Scores]:
    """Scores of the baselines alone."""
    return {way: counts.scores for way, counts in ways.items() if isinstance(way, Adjustment)}
