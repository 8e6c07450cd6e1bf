"""Statistics of the evidence: means and ranges over seeds, and differences of pairs of runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np
from evidence_arms import default_of
from evidence_results import Result

from adapt.balance.bias import MOST_LEFT
from adapt.evaluation.sweep import rank_correlation

Key = tuple[str, str, int]
"""Shift, arm, seed."""
Runs = Mapping[Key, Result]


@dataclass(frozen=True)
class Spread:
    """Several values: their mean and their range."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


def by_key(results: Iterable[Result]) -> dict[Key, Result]:
    return {(result.shift, result.arm, result.seed): result for result in results}


def value(result: Result, measure: str, way: str = "plain", strength: str = "0") -> float | None:
    """A score; None where it was not measured."""
    found = result.scores.get(way, {}).get(strength)
    return None if found is None else float(found[measure])


def over_seeds(runs: Runs, shift: str, arm: str, measure: str) -> Spread | None:
    """The plain score of an arm on a shift; None without a run."""
    values = [value(run, measure) for (s, a, _), run in sorted(runs.items()) if (s, a) == (shift, arm)]
    return spread(values)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of what is there; None if nothing is."""
    known = tuple(v for v in values if v is not None)
    return Spread(known) if known else None


@dataclass(frozen=True)
class Differences:
    """What something changes, pair by pair."""

    by_shift: dict[str, Spread]

    @property
    def all(self) -> Spread:
        return Spread(tuple(v for one in self.by_shift.values() for v in one.values))


def between_arms(
    runs: Runs, shifts: Sequence[str], arm: str, against: str, measure: str
) -> Differences | None:
    """Plain score of `arm` less that of `against` on the same shift and seed; None without a pair."""

    def pairs(shift: str) -> Iterable[float | None]:
        for (s, a, seed), run in sorted(runs.items()):
            if (s, a) == (shift, arm) and (other := runs.get((shift, against, seed))) is not None:
                yield less(value(run, measure), value(other, measure))

    return _differences(shifts, pairs)


def after_training(
    runs: Runs, shifts: Sequence[str], way: str, strength: str, measure: str
) -> Differences | None:
    """Corrected score less the plain one, of the same network; None if no run has it."""

    def pairs(shift: str) -> Iterable[float | None]:
        for (s, _, _), run in sorted(runs.items()):
            if s == shift:
                yield less(value(run, measure, way, strength), value(run, measure))

    return _differences(shifts, pairs)


def by_chosen(runs: Runs, shifts: Sequence[str], strength: str | None, measure: str) -> Differences | None:
    """Corrected score less the plain one, of networks that were scored on a few labelled pictures too.

    Args:
        runs: the runs.
        shifts: of which.
        strength: of the first way; None takes that of the highest mIoU on the few pictures, for each network.
        measure: of the evaluation.
    """

    def pairs(shift: str) -> Iterable[float | None]:
        for (s, _, _), run in sorted(runs.items()):
            if s == shift and run.few:
                best = strength or max(run.few, key=lambda t: (run.few[t], -float(t)))
                way = "plain" if best == "0" else "posthoc"
                yield less(value(run, measure, way, best), value(run, measure))

    return _differences(shifts, pairs)


def by_rule(runs: Runs, shifts: Sequence[str], way: str, strength: str, measure: str) -> Differences | None:
    """As `after_training`, but networks whose correction is doubted (adapt/balance/bias.py) stay plain."""

    def pairs(shift: str) -> Iterable[float | None]:
        for (s, _, _), run in sorted(runs.items()):
            if s == shift:
                change = less(value(run, measure, way, strength), value(run, measure))
                yield 0.0 if change is not None and doubted(run, way) else change

    return _differences(shifts, pairs)


def doubted(run: Result, way: str = "class anchors") -> bool:
    """Whether a run's own strength would be 0.

    Args:
        run: the network.
        way: the anchors of its statistics; source-free ones have a measurement of their own.
    """
    sign = "left, source-free" if way.startswith("source-free") else "left, class anchors"
    left = run.signs.get(sign)
    return left is not None and -left > MOST_LEFT


def by_default(runs: Runs, shifts: Sequence[str], measure: str) -> Differences | None:
    """Score as exported by default less the plain one, of the same network."""

    def pairs(shift: str) -> Iterable[float | None]:
        for (s, arm, _), run in sorted(runs.items()):
            if s == shift:
                yield less(value(run, measure, *exported(run, arm)), value(run, measure))

    return _differences(shifts, pairs)


def shipped(runs: Runs, shifts: Sequence[str], arm: str, against: str, measure: str) -> Differences | None:
    """Score of `arm` as it is exported by default less the plain one of `against`, of one shift and seed."""

    def pairs(shift: str) -> Iterable[float | None]:
        for (s, a, seed), run in sorted(runs.items()):
            if (s, a) == (shift, arm) and (other := runs.get((shift, against, seed))) is not None:
                yield less(value(run, measure, *exported(run, arm)), value(other, measure))

    return _differences(shifts, pairs)


def exported(run: Result, arm: str) -> tuple[str, str]:
    """The way and the strength of an arm's export, where nobody chose another."""
    way, strength = default_of(arm)
    return ("plain", "0") if strength == "0" or doubted(run, way) else (way, strength)


@dataclass(frozen=True)
class Estimate:
    """How the bias that is estimated without labels agrees with the measured one, of one network."""

    size: float
    """Estimated over measured sum of |Bias|, uncorrected."""
    over_strengths: float
    """Rank correlation of the sums over the strengths, 0 to 1."""
    over_classes: float
    """Rank correlation of the classes' biases, uncorrected."""


def estimate_of(run: Result) -> Estimate | None:
    """None where a run has no estimate."""
    if not run.estimated:
        return None
    measured = {"0": run.scores["plain"]["0"]} | run.scores["posthoc"]
    sums = {t: float(np.abs(run.estimated[t]).sum()) for t in run.estimated}
    known = [share is not None for share in measured["0"]["iou"]]
    classes = (np.array(bias)[known] for bias in (run.estimated["0"], measured["0"]["bias"]))
    return Estimate(
        sums["0"] / max(measured["0"]["sum_abs_bias"], 1e-9),
        rank_correlation(
            *(np.array(v) for v in (list(sums.values()), [measured[t]["sum_abs_bias"] for t in sums]))
        ),
        rank_correlation(*classes),
    )


@dataclass(frozen=True)
class Worth:
    """How well a sign foretells what a correction changes."""

    over_all: float
    """Rank correlation with the change over all networks; NaN where it is not defined."""
    within: float
    """Mean of the rank correlations within a shift, of shifts with at least three networks."""
    told: float
    """Share of pairs of a harmed and an unharmed network in which the harmed one has less of the sign; equal
    ones count half. NaN without such pairs: 0.5 is chance."""
    networks: int


def worth_of(sign: Mapping[Key, float], change: Mapping[Key, float], harm: float) -> Worth:
    """Compare a sign with the true change of a score, network by network.

    Args:
        sign: by network; those without a value are left out.
        change: of the score.
        harm: a change of this or less is harm.
    """
    keys = sorted(sign.keys() & change.keys())

    def correlation(chosen: Sequence[Key]) -> float:
        if len(chosen) < 3:
            return float("nan")
        return rank_correlation(np.array([sign[k] for k in chosen]), np.array([change[k] for k in chosen]))

    inner = [correlation([k for k in keys if k[0] == shift]) for shift in sorted({k[0] for k in keys})]
    known = [one for one in inner if one == one]
    pairs = [
        (sign[bad] < sign[good]) + 0.5 * (sign[bad] == sign[good])
        for bad in keys
        for good in keys
        if change[bad] <= harm < change[good]
    ]
    return Worth(correlation(keys), mean(known), mean(pairs), len(keys))


def mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return fmean(values) if values else float("nan")


def _differences(shifts: Sequence[str], pairs: Callable[[str], Iterable[float | None]]) -> Differences | None:
    found = {shift: spread(pairs(shift)) for shift in shifts}
    known = {shift: one for shift, one in found.items() if one is not None}
    return Differences(known) if known else None


def less(one: float | None, other: float | None) -> float | None:
    """The difference; None where either is unknown."""
    return None if one is None or other is None else one - other


def at_equal(curve: Sequence[tuple[float, float]], x: float) -> float | None:
    """y of a curve at x, by straight lines between its points; the largest where it comes by several times.

    Args:
        curve: (x, y) in the order of the strength, from (0, 0).
        x: where; None comes back where the curve does not reach it.
    """
    found = [
        y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        for (x0, y0), (x1, y1) in pairwise(curve)
        if min(x0, x1) <= x <= max(x0, x1)
    ]
    return max(found, default=None)
