"""Averages scores over time, so that labels flicker less, and measures the flicker."""

from collections.abc import Callable
from fractions import Fraction
from math import exp

import cv2
import numpy as np
from numpy.typing import NDArray

from serve.inference.segmenter import Labels

_CUT = 0.5
"""Share of pixels that change their label at once when the scene does."""


class Flicker:
    """Mean share of pixels whose label differs from the frame before."""

    def __init__(self) -> None:
        self._previous: Labels | None = None
        self._sum = 0.0
        self._pairs = 0

    def add(self, labels: Labels) -> float:
        """Take in a frame's labels [H, W]; returns which share of them differs from the frame before."""
        if self._previous is None:
            self._previous = labels
            return 0.0
        changed = np.count_nonzero(cv2.compare(labels, self._previous, cv2.CMP_NE)) / labels.size
        self._previous = labels
        self._sum += changed
        self._pairs += 1
        return changed

    @property
    def share(self) -> float:
        """In [0, 1]; 0 for fewer than two frames."""
        return self._sum / max(self._pairs, 1)


class Smoother:
    """An exponential average of scores over time.

        average <- w * average + (1 - w) * scores,     w = exp(-dt / seconds),

    with dt the time since the frame before, so that variable frame rates and frames left out change nothing.
    It starts anew where more than half of all labels change at once, as at a cut. The price is a delay of
    about `seconds` at moving borders.
    """

    def __init__(self, seconds: float, decide: Callable[[NDArray[np.float32], int, int], Labels]) -> None:
        """`decide` turns scores [C, h, w] into labels of a height and width (Segmenter.labels_of_scores)."""
        self._seconds = seconds
        self._decide = decide
        self._average: NDArray[np.float32] | None = None
        self._time = Fraction(0)
        self.before = Flicker()
        """Flicker of the labels that came in."""
        self.after = Flicker()
        """Flicker of those that went out."""

    def smooth(self, labels: Labels, scores: NDArray[np.float32], time: Fraction) -> Labels:
        """Labels [H, W] of a frame shown at `time`, from its own labels [H, W] and scores [C, h, w]."""
        changed = self.before.add(labels)
        if self._average is None or changed > _CUT:
            self._average = scores.copy()
        else:
            keep = exp(-float(time - self._time) / self._seconds)
            self._average += np.float32(1 - keep) * (scores - self._average)
        self._time = time
        smoothed = self._decide(self._average, *labels.shape)
        self.after.add(smoothed)
        return smoothed
