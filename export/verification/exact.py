"""Exact scores of a pixel, and how far from them those of a right graph may lie: what a check compares with.

    a_c[l] = f[l] + tau * Delta[c,l](f[l]),     score[c] = a_c[c] - log sum_{l != c} exp a_c[l]

A graph reads Delta from bins (export/fold/tables.py). Of the bin that f[l] falls into, or the next one where
f[l] lies between two, exact curves tell what Delta may be there: e[c,l] is half of that range, plus what the
table's knots may miss. Inside the sum the bin's centre stands for f[l], half a width off or, beyond the ends
of the grid, further. Together o[c,l] = tau * e[c,l] + the distance from the centre. With p the softmax of a_c
over the others, l != c, and r[l] for rounding,

    |score[c] - exact| <= tau * e[c,c] + r[c] + log sum_{l != c} p[l] exp(o[c,l] + r[l]).

Excluded classes are in no sum; their scores are a difference of logits more than the best of the others, so
as exact as the least exact of these.

So only what weighs at a pixel counts there: a class whose logits are masked, or far below, adds nothing for
the others, whereas the bound of the whole table (Correction.error_bound) is that of the worst logits there
may be. Rounding is measured by what is to be told apart, the distance of the two best logits, and by the size
of a logit itself: a network whose logits are all small is not looked at through a coarser glass than others.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapt.balance.logit_statistics import ShiftStatistics
from export.fold.curves import Array, Curves, shift_curves
from export.fold.tables import Grid, range_in_bins

ROUNDING = 0.0003
"""Allowed for float32 in another order of operations, as a share of the mean distance of a picture's two best
logits. Networks in torch and in ONNX Runtime differ by 1e-5 to 1e-4 of it."""
COARSE_ROUNDING = 0.002
"""The same of networks in half or integer precision, where what lies at the edge of two steps falls on either
side, and of engines."""
RELATIVE = 2.0**-16
"""The same, as a share of the logit's own size: what adding up thousands of numbers in float32 costs."""
COARSE_RELATIVE = 2.0**-9
"""The same where a half or an integer is on the way to the logits, but of the best logit that the picture
has: twice the step from one half to the next. A logit near 0 is a sum of parts that may be as large."""

_PART = 2**20
"""Most numbers [C, P] that are summed up at once."""
_LEAST_SUM = 1e-290


class Exact(NamedTuple):
    """What is right, each float64 [N, C, h, w], in logits."""

    scores: Tensor
    allowed: Tensor
    """Most that a right graph's score may differ."""
    plain: bool = False
    """Whether they are the logits, uncorrected."""
    excluded: tuple[int, ...] = ()
    """Classes that take no part in the correction."""


class Exactness:
    """The correction as it should be, and how exactly a table can say it."""

    def __init__(
        self,
        statistics: ShiftStatistics | None,
        grid: Grid | None,
        rounding: float = ROUNDING,
        relative: float = RELATIVE,
    ) -> None:
        """No statistics, no correction. `grid` is the table's, or None where it is not known."""
        self.rounding, self.relative = rounding, relative
        self.curves = [] if statistics is None else shift_curves(statistics)
        self.grid = grid
        mask = None if statistics is None else statistics.excluded
        self.excluded = np.zeros(len(self.curves), bool) if mask is None else mask.cpu().numpy()
        self.known: list[Array] = []
        if grid is not None:
            self.known = [_uncertainty(channel, grid) for channel in self.curves]

    def of(self, logits: Tensor, tau: float, bound: float = 0.0) -> Exact:
        """What is right for logits [N, C, h, w] at a strength.

        Args:
            bound: proven for every pixel at this strength; what counts where the table is not known.
        """
        f = logits.double()
        best = f.topk(2, 1).values
        scale = float((best[:, 0] - best[:, 1]).mean())
        size = f.abs()
        if self.relative == COARSE_RELATIVE:
            size = size.clamp_min(float(best[:, 0].abs().max()))
        rounding = self.rounding * scale + self.relative * size
        if tau == 0 or not self.curves:
            return Exact(f, rounding, plain=True)
        reach = 0.0 if self.grid is None else self.grid.width * self.grid.bins / 2
        rounding = (1 + tau) * (rounding + RELATIVE * reach)
        N, C, h, w = f.shape
        flat = f.transpose(0, 1).reshape(C, -1).numpy()
        spread = rounding.transpose(0, 1).reshape(C, -1).numpy()
        scores, allowed = self._sums(flat, spread, tau)
        if self.grid is None:
            allowed = allowed + bound
        score, most = (torch.from_numpy(x).view(C, N, h, w).transpose(0, 1) for x in (scores, allowed))
        return Exact(score, most, excluded=tuple(np.flatnonzero(self.excluded).tolist()))

    def _sums(self, f: Array, rounding: Array, tau: float) -> tuple[Array, Array]:
        """Scores and what is allowed, [C, P] each, some pixels after the others to bound the memory."""
        scores, allowed = np.empty((2, *f.shape))
        size = max(1, _PART // len(f))
        for start in range(0, f.shape[1], size):
            part = np.s_[:, start : start + size]
            scores[part], allowed[part] = self._sums_of(f[part], rounding[part], tau)
        if self.excluded.any():
            others = ~self.excluded
            scores[self.excluded] = f[self.excluded] + scores[others].max(0) - f[others].max(0)
            allowed[self.excluded] = allowed[others].max(0) + 2 * rounding[self.excluded]
        return scores, allowed

    def _sums_of(self, f: Array, rounding: Array, tau: float) -> tuple[Array, Array]:
        """The same of those that take part, one channel l after the other.

        Sums are of exponentials beside a number that no exponent exceeds by much; where exponents lie so far
        apart that nothing is left of a sum, its greatest exponent is kept beside it instead.
        """
        others = np.flatnonzero(~self.excluded).tolist()
        reach = tau * max(float(self.curves[l].shift.max(initial=0)) for l in others)
        level = f[others].max(0) + reach
        total, upper = np.zeros((2, *f.shape))
        own, off = np.zeros((2, *f.shape))
        for l in others:
            corrected, own[l], most, off[l] = self._terms(l, f[l], rounding[l], tau)
            corrected -= level
            most -= level
            total += _exp(corrected)
            upper += _exp(most)
        if total[others].min() > _LEAST_SUM:
            total[self.excluded] = upper[self.excluded] = 1.0
            return own - level - np.log(total), off + np.log(upper / total)
        total, upper = np.full((2, *f.shape), -np.inf)
        for l in others:
            corrected, own[l], most, off[l] = self._terms(l, f[l], rounding[l], tau)
            total, upper = np.logaddexp(total, corrected), np.logaddexp(upper, most)
        return own - total, off + upper - total

    def _terms(self, l: int, f: Array, rounding: Array, tau: float) -> tuple[Array, Array, Array, Array]:
        """Of logits f[l], [P]: exponents [c, P], the own one, the most they may be, how unsure the own is.

        The own exponent is in no sum: the odds against l are those of the others.
        """
        order = np.argsort(f)  # curves are read along their grids many times faster than across
        shift = np.empty((len(self.curves), len(f)))
        shift[:, order] = self.curves[l].at(f[order])
        corrected = f + tau * shift
        unsure, beside = self._unsure(l, f, tau)
        half = 0.0 if self.grid is None else self.grid.width / 2
        own, off = corrected[l].copy(), unsure[l] + rounding
        corrected[l] = -np.inf
        unsure += corrected
        unsure += np.maximum(beside, half + rounding)
        return corrected, own, unsure, off

    def _unsure(self, l: int, f: Array, tau: float) -> tuple[Array, Array]:
        """tau * e[:, l] as [c, P], and the distance [P] of the logits from what stands for them."""
        if self.grid is None:
            return np.zeros((len(self.curves), len(f))), np.zeros(len(f))
        position = (f - self.grid.start) / self.grid.width
        bins = np.clip(np.nan_to_num(position) + 0.5, 0, self.grid.bins - 1).astype(np.int64)
        beside = np.abs(position - bins) * self.grid.width
        return tau * self.known[l][:, bins].astype(np.float64), beside


def _uncertainty(channel: Curves, grid: Grid) -> Array:
    """e [C, bins] of a channel, float32: of each bin and both its neighbours, whichever is worst."""
    bottom, top = range_in_bins(channel, grid.edges)
    unsure = ((top - bottom) / 2 + grid.knot_error).astype(np.float32)
    padded = np.pad(unsure, ((0, 0), (1, 1)), mode="edge")
    return np.maximum(np.maximum(padded[:, :-2], padded[:, 2:]), unsure)


def _exp(exponents: Array) -> Array:
    """In place: torch's is several times as fast as numpy's."""
    torch.from_numpy(exponents).exp_()
    return exponents
