"""A range of strengths of the post-hoc correction, and how far its label-free estimate can be trusted.

With labels everything is measured. Without, there is the bias that follows from the run's own statistics: its
pseudo-labels stand for the truth and the channels of a pixel for independent. Where labels are at hand both
are put side by side, so that one can see what the estimate is worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from adapt.balance.bias import biases_without_labels
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.evaluation.baselines import Adjustment
from adapt.evaluation.bootstrap import COVERED, DRAWS, LEAST_PICTURES, Change, Interval
from adapt.evaluation.comparison import Way
from adapt.evaluation.scores import Scores, aligned
from adapt.evaluation.verdict import differences, harm

SWEEP = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
TRUST = (
    "the estimate is of the logits' distributions, not of pixels. On finished runs of a trial it ranked "
    "strengths by balance up to tau 1, on an undertrained one it did not. Its size means nothing (the "
    "measured bias is several times as large), and it knows nothing of mIoU, which wants a small strength "
    "(0.2 to 0.5), nor of mAcc, which wants more (about 1). Label a few dozen pictures and give them with "
    "--data to measure instead."
)
ESTIMATED, MEASURED = "#e69f00", "#0072b2"
Wish = Literal["mIoU", "mAcc"]
WISHES: tuple[Wish, ...] = ("mIoU", "mAcc")


@dataclass(frozen=True)
class Choice:
    """The strength that is best on labelled pictures, and what that is worth."""

    tau: float
    by: Wish
    gain: float
    """What it gives beyond tau 0; a share. If `tau` is 0, what the strength in use costs."""
    interval: Interval | None
    """Of that gain; None with too few pictures."""
    pictures: int
    instead_of: float
    """The strength it is compared with: 0, or the one in use if `tau` is 0."""

    @property
    def proven(self) -> bool:
        """Whether it is better than noise."""
        return self.interval is not None and self.interval.low > 0

    def words(self) -> str:
        """The recommendation, in one sentence."""
        named = f"tau {self.tau:g}" if self.tau else "tau 0, that is no correction,"
        what = f"best for {self.by} here: {named} ({100 * self.gain:+.1f} points over tau {self.instead_of:g}"
        if self.tau == self.instead_of:
            return f"best for {self.by} here: {named.removesuffix(',')}"
        if self.interval is None:
            return f"{what}); {self.pictures} labelled pictures are too few to tell that from noise"
        if self.proven:
            return f"{what}, {COVERED:.0%} interval {self.interval.words()}): better than noise"
        return f"{what}, {COVERED:.0%} interval {self.interval.words()}): not better than noise"


def choose(
    scores: Mapping[float, Scores],
    changes: Mapping[Way, Change],
    by: Wish,
    in_use: float,
    pictures: int,
) -> Choice:
    """The strength with the best mIoU or mAcc, the smallest of equal ones.

    It is compared with tau 0; tau 0 itself, with the strength in use, of which it says what that costs.

    Args:
        scores: by strength, at least of tau 0.
        changes: against tau 0; empty with too few pictures.
        pictures: labelled ones.
    """
    assert scores
    name: Literal["mean_iou", "mean_accuracy"] = "mean_iou" if by == "mIoU" else "mean_accuracy"
    values = {tau: float(getattr(each, name)) for tau, each in scores.items()}
    best = max(values, key=lambda tau: values[tau])
    other = 0.0 if best or in_use not in values else in_use
    change = changes.get(best or other)
    interval: Interval | None = None if change is None else getattr(change, name)
    if interval is not None and not best:
        interval = Interval(-interval.high, -interval.low)
    return Choice(best, by, values[best] - values[other], interval, pictures, other)


@dataclass(frozen=True)
class Sweep:
    """Bias, and quality where labels are at hand, by strength."""

    taus: Sequence[float]
    """T strengths, rising."""
    estimated: np.ndarray
    """[T, C] bias estimated without labels."""
    measured: Sequence[Scores] | None = None
    """[T] scores on labelled pictures; None without labels."""
    changes: Mapping[Way, Change] = field(default_factory=dict)
    """Intervals of what strengths and baselines change against tau 0; empty with too few pictures."""
    baselines: Mapping[Adjustment, Scores] = field(default_factory=dict)
    pictures: int = 0
    """Labelled pictures."""

    @property
    def estimated_sums(self) -> np.ndarray:
        """[T] sum of |Bias| over the classes, estimated."""
        sums: np.ndarray = np.abs(self.estimated).sum(1)
        return sums

    @property
    def by_strength(self) -> dict[float, Scores]:
        """The measured scores; empty without labels."""
        return dict(zip(self.taus, self.measured or (), strict=True)) if self.measured else {}

    def table(self) -> str:
        """Columns for the terminal, a line per strength, then one per baseline."""
        titles = ["tau", "estimated |Bias|"]
        rows = [
            [f"{tau:g}", f"{total:.3f}"] for tau, total in zip(self.taus, self.estimated_sums, strict=True)
        ]
        if self.measured is None:
            return aligned(titles, rows)
        change = self._interval("change")
        titles += ["measured |Bias|", "mIoU", *change, "mAcc", *change, "std of IoU"]
        for row, tau, scores in zip(rows, self.taus, self.measured, strict=True):
            row += self._cells(tau, scores)
        rows += [[way.title, "", *self._cells(way, scores)] for way, scores in self.baselines.items()]
        return aligned(titles, rows)

    def _interval(self, text: str) -> list[str]:
        return [text] if self.changes else []

    def _cells(self, way: Way, scores: Scores) -> list[str]:
        change = self.changes.get(way)
        iou, accuracy = ("", "") if change is None else (c.words() for c in _intervals(change))
        return [
            *(f"{scores.sum_abs_bias:.3f}", f"{100 * scores.mean_iou:.1f}", *self._interval(iou)),
            *(f"{100 * scores.mean_accuracy:.1f}", *self._interval(accuracy)),
            f"{100 * scores.std_iou:.1f}",
        ]

    def advice(self, in_use: float = 0.0) -> str:
        """What to make of it, in a few lines. `in_use`: the strength that the run has."""
        if self.measured is None:
            return TRUST
        trust = self.trust()
        lines = [self.choose(wish, in_use).words() for wish in WISHES]
        if self.changes:
            lines.append(
                f"change: {COVERED:.0%} interval of the difference to tau 0 in points, by {DRAWS} draws of "
                f"{self.pictures} pictures; pictures of one drive are alike, so it is too narrow for those"
            )
        else:
            lines.append(f"intervals take {LEAST_PICTURES} labelled pictures, here are {self.pictures}")
        if said := harm(differences({t: s for t, s in self.by_strength.items() if t in (0.0, in_use)})):
            lines.append(said)
        lines.append(
            f"the label-free estimate, uncorrected: {trust.size:.0%} of the measured sum of |Bias|, rank "
            f"correlation {trust.over_classes:+.2f} over the classes; {trust.over_strengths:+.2f} over the "
            "strengths up to 1"
        )
        return "\n".join(lines)

    def choose(self, by: Wish, in_use: float) -> Choice:
        """See `choose`."""
        return choose(self.by_strength, self.changes, by, in_use, self.pictures)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON: what `--json` writes."""
        measured = self.by_strength
        rows = [
            {"tau": tau, "estimated_sum_abs_bias": float(total), **self._record(tau, measured.get(tau))}
            for tau, total in zip(self.taus, self.estimated_sums, strict=True)
        ]
        baselines = [
            {"by": way.by, "strength": way.strength, **self._record(way, scores)}
            for way, scores in self.baselines.items()
        ]
        return {"pictures": self.pictures, "strengths": rows, "baselines": baselines}

    def _record(self, way: Way, scores: Scores | None) -> dict[str, Any]:
        if scores is None:
            return {}
        change = self.changes.get(way)
        intervals = {
            f"{name}_change": None if change is None else list(getattr(change, name))
            for name in ("mean_iou", "mean_accuracy")
        }
        return scores.to_dict() | ({} if way == 0.0 else intervals)

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


def _intervals(change: Change) -> tuple[Interval, Interval]:
    return change.mean_iou, change.mean_accuracy


@dataclass(frozen=True)
class Trust:
    """How far an estimate of the bias agrees with its measurement."""

    size: float
    """Estimated over measured sum of |Bias|, uncorrected."""
    over_classes: float
    """Rank correlation of the classes' biases, uncorrected."""
    over_strengths: float
    """Rank correlation of the sums over the strengths up to 1."""


def estimate(statistics: ShiftStatistics, taus: Sequence[float] = SWEEP) -> Sweep:
    """The estimate alone, for every strength."""
    return Sweep(taus, np.stack([bias.numpy() for bias in biases_without_labels(statistics, taus)]))


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
