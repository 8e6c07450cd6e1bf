"""A range of strengths of the post-hoc correction, and how far its label-free estimate can be trusted.

With labels everything is measured. Without, there is the bias that follows from the run's own statistics: its
pseudo-labels stand for the truth and the channels of a pixel for independent. Where labels are at hand both
are put side by side, so that one can see what the estimate is worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapt.balance.bias import biases_without_labels
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.evaluation.scores import Scores

SWEEP = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
TRUST = (
    "the estimate is of the logits' distributions, not of pixels. It ranks strengths by balance up to tau 1; "
    "where it levels off, more strength brings little. Its size means nothing (the measured bias is several "
    "times as large), and it knows nothing of mIoU, which wants a small strength (0.2 to 0.5), nor of mAcc, "
    "which wants more (about 1). Label a few dozen pictures and give them with --data to measure instead."
)
ESTIMATED, MEASURED = "#e69f00", "#0072b2"


@dataclass(frozen=True)
class Sweep:
    """Bias, and quality where labels are at hand, by strength."""

    taus: Sequence[float]
    """T strengths, rising."""
    estimated: np.ndarray
    """[T, C] bias estimated without labels."""
    measured: Sequence[Scores] | None = None
    """[T] scores on labelled pictures; None without labels."""

    @property
    def estimated_sums(self) -> np.ndarray:
        """[T] sum of |Bias| over the classes, estimated."""
        sums: np.ndarray = np.abs(self.estimated).sum(1)
        return sums

    def table(self) -> str:
        """Columns for the terminal, a line per strength."""
        titles = ["tau", "estimated |Bias|"]
        rows = [
            [f"{tau:g}", f"{total:.3f}"] for tau, total in zip(self.taus, self.estimated_sums, strict=True)
        ]
        if self.measured is not None:
            titles += ["measured |Bias|", "mIoU", "mAcc", "std of IoU"]
            for row, scores in zip(rows, self.measured, strict=True):
                shares = (scores.mean_iou, scores.mean_accuracy, scores.std_iou)
                row += [f"{scores.sum_abs_bias:.3f}", *(f"{100 * share:.1f}" for share in shares)]
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        lines = [
            "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            for row in (titles, *rows)
        ]
        return "\n".join(lines)

    def advice(self) -> str:
        """What to make of it, in a few lines."""
        if self.measured is None:
            return TRUST
        scores = dict(zip(self.taus, self.measured, strict=True))
        best_iou = max(scores, key=lambda tau: scores[tau].mean_iou)
        best_accuracy = max(scores, key=lambda tau: scores[tau].mean_accuracy)
        trust = self.trust()
        return (
            f"best here: tau {best_iou:g} for mIoU, tau {best_accuracy:g} for mAcc\n"
            f"the label-free estimate, uncorrected: {trust.size:.0%} of the measured sum of |Bias|, rank "
            f"correlation {trust.over_classes:+.2f} over the classes; {trust.over_strengths:+.2f} over the "
            "strengths up to 1"
        )

    def trust(self) -> "Trust":
        """How the estimate compares with the measurement."""
        assert self.measured is not None
        known = ~np.isnan(self.measured[0].iou)
        upto = sum(tau <= 1 for tau in self.taus)
        sums = np.array([scores.sum_abs_bias for scores in self.measured])
        return Trust(
            size=float(self.estimated_sums[0] / max(sums[0], 1e-9)),
            over_classes=rank_correlation(self.estimated[0][known], self.measured[0].bias[known]),
            over_strengths=rank_correlation(self.estimated_sums[:upto], sums[:upto]),
        )


@dataclass(frozen=True)
class Trust:
    """How far an estimate of the bias agrees with its measurement."""

    size: float
    """Estimated over measured sum of |Bias|, uncorrected."""
    over_classes: float
    """Rank correlation of the classes' biases, uncorrected."""
    over_strengths: float
    """Rank correlation of the sums over the strengths up to 1."""


def sweep_strengths(statistics: ShiftStatistics, measured: Sequence[Scores] | None = None) -> Sweep:
    """The estimate for every strength of SWEEP, beside what was measured for each."""
    estimated = np.stack([bias.numpy() for bias in biases_without_labels(statistics, SWEEP)])
    return Sweep(SWEEP, estimated, measured)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's: the correlation of ranks; equal values share the mean of theirs. NaN if all are equal."""
    ranks = [_ranks(values) for values in (first, second)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return ranks
