"""Delta as few knots per logit channel, with a proven bound on what that costs.

The graph (see export/fold.py) knows a function of logit l only through its values at the knots
z[l, 0] < ... < z[l, M] of channel l, shared by all rows c. With hat weights p_k(z), the weights of linear
interpolation between the two knots around z, it computes

    E[c, l](z)   = sum_k p_k(z) * exp(tau * s[c, l, k])      in place of exp(tau * Delta[c, l](z))
    own[l](z)    = sum_k p_k(z) * o[l, k]                    in place of Delta[l, l](z)

and score[c] = f[c] + tau * own[c] - log sum_l E[c, l] exp(f[l]), so that

    |score error| <= tau * |own error| + max_l |log E[c, l] - tau * Delta[c, l]|.

Errors are kept per unit of tau. For one function let err(tau) = log sum_k p_k exp(tau s_k) - tau * Delta. It
is a cumulant generating function minus a line: convex in tau and 0 at tau = 0, so err(tau) / tau never falls
with tau. Over a whole range (0, T] it therefore lies between its limit at 0, which is plain linear
interpolation of s minus Delta, and err(T) / T: a run-time tau needs two evaluations, not a sweep.

Between grid points, the curves come with what is not known of them (export/curves.py). To that the proof adds
that log E is the log of a linear function, above its own chord by at most an eighth of the square of the
difference of log E at the ends (Hoeffding's lemma). Cells are cut at the knots; beyond the last grid points
everything is constant. Only float64 rounding is left out.

Knots go as far apart as the tolerance lets them (curvature decides, kinks at the tail quantiles included);
their values are then moved off the curve until errors of both signs are alike, which nearly halves them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adapt.errors import InputError
from adapt.logit_statistics import ShiftStatistics
from export.curves import Array, Curves, shift_curves

DEFAULT_BOUND = 0.08
"""Proven |score error| in logits that knots are placed for; what is measured is about half of it."""
DEFAULT_TAU = 0.2
MAX_TAU = 2.0
MAX_INTERVALS = 512
OWN_SHARE = 0.25
"""Part of the bound that is kept for the shift of a class's own logit; the rest is for the exponentials."""


class Strengths(NamedTuple):
    """The range of tau a table is made for: (tau, tau) when it is fixed, (0, MAX_TAU) at run time."""

    least: float
    most: float


@dataclass(frozen=True)
class KnotTable:
    """What the graph needs of Delta."""

    knots: Array
    """[C, M + 1] rising positions on logit l's axis, in logits, exact in float32."""
    shift: Array
    """[C, C, M + 1] s[c, l, k], in logits."""
    own: Array
    """[C, M + 1] o[l, k], in logits."""
    error_per_tau: float
    """Proven bound on |score error| / tau for every strength the table was made for."""

    @property
    def intervals(self) -> int:
        """M, the same for every channel."""
        return int(self.knots.shape[1]) - 1


def knot_table(statistics: ShiftStatistics, strengths: Strengths, error_per_tau: float) -> KnotTable:
    """The fewest knots found whose proven |score error| / tau stays within `error_per_tau`.

    Raises:
        InputError: more than MAX_INTERVALS per channel would be needed.
    """
    curves = shift_curves(statistics)
    fits = [_fit_proven(channel, l, strengths, error_per_tau) for l, channel in enumerate(curves)]
    errors = [proven_errors(curves[l], l, fit, strengths) for l, fit in enumerate(fits)]
    own = np.array([error.own for error in errors])
    exponent = np.max([error.exponent for error in errors], axis=0)
    intervals = max(len(fit.knots) for fit in fits) - 1
    fits = [_with_spare_knots(fit, intervals) for fit in fits]
    return KnotTable(
        np.stack([fit.knots for fit in fits]),
        np.stack([fit.shift for fit in fits], axis=1),
        np.stack([fit.own for fit in fits]),
        float((own + exponent).max()),
    )


# ---- placing and fitting the knots of one channel -------------------------------------------------------


class Fit(NamedTuple):
    """Knots of one channel and the values there."""

    knots: Array
    """[M + 1]"""
    shift: Array
    """[C, M + 1]"""
    own: Array
    """[M + 1]"""


class Errors(NamedTuple):
    """Proven errors per unit of tau of one channel."""

    exponent: Array
    """[C] |log E[c, l] / tau - Delta[c, l]| of each row."""
    own: float
    """|own[l] - Delta[l, l]|."""


def _fit_proven(curves: Curves, l: int, strengths: Strengths, error_per_tau: float) -> Fit:
    """The widest-spaced knots of channel l whose proven errors keep within their parts of the bound."""
    tolerance = 0.75  # neighbouring intervals share a value at their knot, so each gets worse than alone
    for _ in range(40):
        knots = _place(curves, l, strengths, tolerance * error_per_tau)
        fit = _fit(curves, l, knots, strengths)
        errors = proven_errors(curves, l, fit, strengths)
        over = max(errors.exponent.max() / (1 - OWN_SHARE), errors.own / OWN_SHARE) / error_per_tau
        if over <= 1:
            return fit
        tolerance *= max(0.7, min(0.95, 1 / over))
    raise InputError(
        f"the shift of logit channel {l} is too steep to fold within {error_per_tau:.3g} logits per unit of "
        "tau; raise --error-bound, or lower --tau."
    )


def _place(curves: Curves, l: int, strengths: Strengths, tolerance: float) -> Array:
    """Knots [M + 1]: each as far from the last as the chord between them allows."""
    z = _candidates(curves)
    shift = curves.at(z)

    def fits(i: int, j: int) -> bool:
        t = (z[i : j + 1] - z[i]) / (z[j] - z[i])
        inside = shift[:, i : j + 1]
        low, high = _misses(t, inside[:, :1], inside[:, -1:], inside, strengths)
        own = (1 - t) * inside[l, 0] + t * inside[l, -1] - inside[l]
        return bool(
            (high - low).max() <= 2 * (1 - OWN_SHARE) * tolerance
            and own.max() - own.min() <= 2 * OWN_SHARE * tolerance
        )

    chosen = [0]
    while chosen[-1] < len(z) - 1:
        start = chosen[-1]
        good, bad = start + 1, len(z)
        reach = 2 * (start - chosen[-2]) if len(chosen) > 1 else 64
        while bad - good > 1:
            middle = min(start + reach, bad - 1) if bad == len(z) else (good + bad) // 2
            if fits(start, middle):
                good, reach = middle, 2 * reach
            else:
                bad = middle
        chosen.append(good)
        if len(chosen) > MAX_INTERVALS:
            raise InputError(
                f"the correction needs more than {MAX_INTERVALS} knots for logit channel {l}; "
                "raise --error-bound, or lower --tau."
            )
    return np.asarray(z[chosen])


def _candidates(curves: Curves) -> Array:
    """About 4096 positions for knots, dense where some row's curve is steep; exact in float32."""
    z = np.sort(curves.z, axis=None)
    z = np.concatenate([z[:: max(1, z.size // 4096)], z[-1:]])
    z = np.unique(z.astype(np.float32)).astype(np.float64)
    apart = np.concatenate([[True], np.diff(z) > 1e-5])
    return np.asarray(z[apart])


def _misses(t: Array, left: Array, right: Array, exact: Array, strengths: Strengths) -> tuple[Array, Array]:
    """Least and most error per tau, over the cell and the strengths, along the last axis."""
    low = _interpolate(t, left, right, strengths.least) - exact
    high = low if strengths.least == strengths.most else _interpolate(t, left, right, strengths.most) - exact
    return low.min(-1), high.max(-1)


def _interpolate(t: Array, left: Array, right: Array, tau: float) -> Array:
    """log((1 - t) exp(tau left) + t exp(tau right)) / tau; its limit, linear interpolation, at tau = 0."""
    if tau == 0:
        return left + t * (right - left)
    rise = np.expm1(tau * np.abs(right - left))
    toward = np.where(right >= left, t, 1 - t)
    return np.asarray(np.minimum(left, right) + np.log1p(toward * rise) / tau)


def _with_spare_knots(fit: Fit, intervals: int) -> Fit:
    """Channels share M: one that needs fewer gets knots beyond its last, where nothing changes any more."""
    spare = intervals + 1 - len(fit.knots)
    return Fit(
        np.concatenate([fit.knots, np.ceil(fit.knots[-1]) + 1 + np.arange(spare)]),
        np.pad(fit.shift, ((0, 0), (0, spare)), mode="edge"),
        np.pad(fit.own, (0, spare), mode="edge"),
    )


def _fit(curves: Curves, l: int, knots: Array, strengths: Strengths) -> Fit:
    """Values at the knots that leave errors of both signs alike, as far as neighbouring intervals let."""
    t = np.linspace(0, 1, 17)
    z = knots[:-1, None] + np.diff(knots)[:, None] * t
    exact = curves.at(z.reshape(-1)).reshape(-1, *z.shape)  # [C, M, T]
    start = curves.at(knots)
    shift = _balance(start, t, exact, strengths)
    own = _balance(start[l : l + 1], t, exact[l : l + 1], Strengths(0, 0))
    return Fit(knots, shift, own[0])


def _balance(values: Array, t: Array, exact: Array, strengths: Strengths) -> Array:
    """Move knot values [R, M + 1] against the mean error of the intervals beside them.

    Chords between points of a bent curve miss it on one side only, by twice as much as they need to.

    Args:
        t: [T] positions within an interval, 0 to 1.
        exact: [R, M, T] Delta there, in logits.
    """
    best, least_error = values, np.full(len(values), np.inf)
    for _ in range(6):
        below, above = _misses(t, values[:, :-1, None], values[:, 1:, None], exact, strengths)
        error = np.maximum(-below, above).max(1)
        best = np.where((error < least_error)[:, None], values, best)
        least_error = np.minimum(error, least_error)
        middle = (below + above) / 2  # [R, M]
        padded = np.concatenate([middle[:, :1], middle, middle[:, -1:]], 1)
        values = values - (padded[:, :-1] + padded[:, 1:]) / 2
    return best


# ---- the proof ------------------------------------------------------------------------------------------


def proven_errors(curves: Curves, l: int, fit: Fit, strengths: Strengths) -> Errors:
    """Bounds per unit of tau that hold at every real logit (the argument is in the module's docstring)."""
    rows = len(curves.z)
    z = np.sort(np.concatenate([curves.z, np.broadcast_to(fit.knots, (rows, len(fit.knots)))], 1), 1)
    exact = curves.at(z)

    knot = np.clip(np.searchsorted(fit.knots, z, side="right") - 1, 0, len(fit.knots) - 2)
    t = np.clip((z - fit.knots[knot]) / (fit.knots[knot + 1] - fit.knots[knot]), 0, 1)
    left = np.take_along_axis(fit.shift, knot, 1)
    right = np.take_along_axis(fit.shift, knot + 1, 1)

    unknown = curves.unknown((z[:, :-1] + z[:, 1:]) / 2)
    low = _interpolate(t, left, right, strengths.least)
    high = _interpolate(t, left, right, strengths.most)
    bulge = strengths.most * np.diff(high, axis=1) ** 2 / 8  # of log E above its chord, per tau
    below = np.minimum((low - exact)[:, :-1], (low - exact)[:, 1:]) - unknown
    above = np.maximum((high - exact)[:, :-1], (high - exact)[:, 1:]) + bulge + unknown
    exponent = np.maximum(-below, above).max(1)

    own = (1 - t[l]) * fit.own[knot[l]] + t[l] * fit.own[knot[l] + 1] - exact[l]
    own_error = float((np.maximum(np.abs(own[:-1]), np.abs(own[1:])) + unknown[l]).max())
    return Errors(exponent, own_error)
