"""Delta on an even grid of bins, stored by few knots, with a proven bound on what both cost.

The graph (export/fold/correct.py) looks logits up in a table: f[l] falls into bin k of width h and centre
z[k]. It takes exp(z[k] + tau * D[c, l, k]) for exp(f[l] + tau * Delta[c, l](f[l])), D[l, l, k] for Delta[l,
l]. D is linear between knots at some of the bins, those that keep it within a tolerance; the file stores D at
the knots only. Then

    |score error| <= h / 2 + tau * (|D[c, c, k] - Delta[c, c]| + max_{l != c} |D[c, l, k] - Delta[c, l]|):

the score of c is its own corrected logit less the logarithm of a sum over the others, of which every term's
exponent is off by no more than half a bin and tau times the error of its D.

The proof needs only that A = z + Delta = Q(F(z)) never falls: on a bin [u, v], Delta = A - z lies between
A(u) - v and A(v) - u. A at the edges comes from exact curves with their remainders (export/fold/curves.py).
Left out are float rounding, and pixels where the largest logit but one's own lies above the grid or below all
rows' last quantiles.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapt.balance.logit_statistics import ShiftStatistics
from export.fold.curves import Array, Curves, shift_curves
from serve.media.progress import Bar

DEFAULT_BOUND = 0.02
"""Proven |score error| in logits that the table is made for, of a network whose logits span ORDINARY."""
ORDINARY = (8.0, 64.0)
"""Distances between the last quantiles of all rows, in logits, that networks usually have. For others, what
is in logits here grows and shrinks in proportion: exactness has to be judged by the distances of logits."""
BOUND_TAU = 0.2
"""Strength at which a table for all strengths keeps the bound; beyond it, errors grow in proportion."""
MAX_TAU = 2.0
BELOW, ABOVE = 16.0, 8.0
"""Logits that the grid reaches beyond the last quantiles of all rows: exp(-16) is nothing beside them. Of
networks beyond ORDINARY at least a half and a quarter of the distance, of those below twice and once."""
MAX_BYTES = 2**28
"""Most memory of the table, 4 C^2 bytes a bin; of many classes, it limits the bins."""
LEAST_BINS, MAX_BINS = 2**12, 2**17
MAX_STORED = 2**23
"""Most bytes of the knots in the file, 4 C^2 a knot; of many classes, it limits the knots."""
_KNOT_SHARE = 0.12
"""Part of the bound that goes into storing few knots, for the own logit and for the others alike."""


@dataclass(frozen=True)
class Grid:
    """Where the bins lie, and how exactly the table says what Delta is in them."""

    start: float
    """Centre of the first bin, in logits."""
    width: float
    """Of a bin, in logits."""
    bins: int
    knot_error: float
    """Most that D differs from the middle of what Delta may be in any bin, in logits."""

    @property
    def edges(self) -> Array:
        """[bins + 1] in logits."""
        return np.asarray(self.start + self.width * (np.arange(self.bins + 1, dtype=np.float64) - 0.5))


@dataclass(frozen=True)
class LookupTable:
    """What the graph needs of Delta."""

    start: float
    """Centre of the first bin, in logits."""
    width: float
    """Of a bin, in logits."""
    bins: int
    knots: Array
    """[C, M] rising bin numbers on logit l's axis; those from `bins` on are spare."""
    shift: Array
    """[C, C, M] D[c, l] at the knots of channel l, in logits."""
    error_per_tau: float
    """Proven bound on the part of |score error| that is in proportion to tau."""
    knot_error: float
    """See `Grid`."""

    @property
    def grid(self) -> Grid:
        """Where its bins lie."""
        return Grid(self.start, self.width, self.bins, self.knot_error)

    def error_at(self, tau: float) -> float:
        """Proven bound on |score error| in logits."""
        return self.width / 2 + tau * self.error_per_tau


def lookup_table(statistics: ShiftStatistics, tau: float, error_bound: float | None = None) -> LookupTable:
    """A table whose proven error at `tau` is within `error_bound`, or the best in MAX_BYTES and MAX_STORED.

    Args:
        tau: strength that the bound is meant for, above 0.
        error_bound: in logits; None is DEFAULT_BOUND, in proportion for logits of another size.
    """
    curves = shift_curves(statistics)
    C = len(curves)
    low, high = _last_quantiles(curves, statistics.seen.cpu().numpy())
    span, (narrow, broad) = high - low, ORDINARY
    if error_bound is None:
        error_bound = DEFAULT_BOUND * (min(1.0, span / narrow) * max(1.0, span / broad))
    low -= max(span / 2, min(BELOW, 2 * span))
    high += max(span / 4, min(ABOVE, span))
    unknown = tau * _worst(np.array([channel.remainder.max(1) for channel in curves]))
    target = (1 - 2 * _KNOT_SHARE) * max(error_bound, 2 * unknown)  # no bins mend what is not known of curves
    most = min(MAX_BINS, MAX_BYTES // (4 * C * C))
    bins = min(_bins(curves, low, high, tau, target, most), most)  # the most are taken whatever their error
    width = (high - low) / bins
    tolerance = _KNOT_SHARE * error_bound / tau
    return _stored(curves, low, width, bins, tolerance, max(9, MAX_STORED // (4 * C * C)))


def _bins(curves: list[Curves], low: float, high: float, tau: float, target: float, most: int) -> int:
    """The first of LEAST_BINS, twice that, ... whose error is within `target`; the first not below `most`.

    Where the halves of the bins that were the worst alone miss the target, the others need no look.
    """
    bins, worst = LEAST_BINS, None
    while bins < most:
        width = (high - low) / bins
        missed = False
        if worst is not None:
            halves = (2 * worst)[:, :, None] + np.arange(3)  # [l, c, 3] the edges of both
            found = [range_in_bins(*pair) for pair in zip(curves, low + width * halves, strict=True)]
            half_widths = np.stack([top - bottom for bottom, top in found]) / 2
            missed = width / 2 + tau * _worst(half_widths.max(2)) > target
            worst = 2 * worst + half_widths.argmax(2)
        if not missed:
            edges = _edges(low, width, bins)
            half_widths, worst = (
                np.stack(each) for each in zip(*(_widest(channel, edges) for channel in curves), strict=True)
            )
            missed = width / 2 + tau * _worst(half_widths) > target
        if not missed:
            return bins
        bins *= 2
    return bins


def _edges(low: float, width: float, bins: int) -> Array:
    """[bins + 1] in logits."""
    return low + width * np.arange(bins + 1, dtype=np.float64)


def _widest(channel: Curves, edges: Array) -> tuple[Array, NDArray[np.integer]]:
    """[C] most that Delta can be off the middle of a bin, and [C] which bin that is."""
    bottom, top = range_in_bins(channel, edges)
    width = top - bottom
    worst = width.argmax(1)
    return width[np.arange(len(width)), worst] / 2, worst


def _last_quantiles(curves: list[Curves], seen: NDArray[np.bool_]) -> tuple[float, float]:
    """The least and the most of the quantiles eps and 1 - eps of all rows that have statistics."""
    rows = np.stack([channel.z for channel in curves])[:, seen if seen.any() else slice(None)]
    return float(rows.min()), float(rows.max())


def _stored(
    curves: list[Curves], low: float, width: float, bins: int, tolerance: float, most_knots: int
) -> LookupTable:
    """The table of what Delta may be in each bin, with as few knots as the tolerance lets it have.

    One channel after the other: all bins of all channels at once would take four times the table's memory.
    """
    knots, values, errors, misses = [], [], [], []
    edges = _edges(low, width, bins)
    for channel in Bar(curves, desc="folding", unit="channel", delay=5, leave=False):
        bottom, top = range_in_bins(channel, edges)
        middle = (bottom + top) / 2
        chosen = _knots(middle, tolerance, most_knots)
        folded = _between(middle, chosen)
        errors.append(np.maximum(top - folded, folded - bottom).max(1))
        misses.append(float(np.abs(folded - middle).max()))
        knots.append(chosen)
        values.append(middle[:, chosen])
    M = max(map(len, knots))
    spare = [bins + np.arange(M - len(chosen)) for chosen in knots]
    return LookupTable(
        start=low + width / 2,
        width=width,
        bins=bins,
        knots=np.stack([np.concatenate(parts) for parts in zip(knots, spare, strict=True)]).astype(float),
        shift=np.stack([np.pad(v, ((0, 0), (0, M - v.shape[1])), mode="edge") for v in values], axis=1),
        error_per_tau=_worst(np.array(errors)),
        knot_error=max(misses),
    )


def _worst(errors: Array) -> float:
    """Largest error of a score, per tau, of errors of Delta [l, c]: that of the own logit and any other's."""
    others = np.where(np.eye(len(errors), dtype=bool), 0.0, errors)
    return float((errors.diagonal() + others.max(0)).max())


def range_in_bins(channel: Curves, edges: Array) -> tuple[Array, Array]:
    """Least and most that Delta[:, l] can be in each bin, twice [C, bins]; edges are [bins + 1], or of each
    row its own."""
    moved, unknown = channel.at(edges) + edges, channel.unknown(edges)
    least = (moved - unknown)[:, :-1] - edges[..., 1:]
    most = (moved + unknown)[:, 1:] - edges[..., :-1]
    return np.asarray(least), np.asarray(most)


def _knots(values: Array, tolerance: float, most: int) -> Array:
    """Positions [M], at most `most`, between which straight lines keep within `tolerance` of [C, bins]."""
    knots = np.unique(np.linspace(0, values.shape[1] - 1, 9).astype(int))
    changed, miss = np.arange(values.shape[1]), np.empty(values.shape[1])
    while True:
        miss[changed] = np.abs(_between(values, knots, changed) - values[:, changed]).max(0)
        worst = np.maximum.reduceat(miss, knots[:-1])
        bad = np.argsort(-worst)[: min((worst > tolerance).sum(), most - len(knots))]
        if not len(bad):
            return knots
        changed = np.concatenate([np.arange(knots[i], knots[i + 1]) for i in bad])  # others stay as they are
        knots = np.union1d(knots, [knots[i] + int(miss[knots[i] : knots[i + 1]].argmax()) for i in bad])


def _between(values: Array, knots: Array, bins: NDArray[np.integer] | None = None) -> Array:
    """Straight lines through values [C, bins] at the knots [M]: at all bins, or at some, [C, len(bins)]."""
    k = np.arange(values.shape[1]) if bins is None else bins
    left = np.clip(np.searchsorted(knots, k, side="right") - 1, 0, len(knots) - 2)
    t = (k - knots[left]) / (knots[left + 1] - knots[left])
    at_knots = values[:, knots]
    return np.asarray((1 - t) * at_knots[:, left] + t * at_knots[:, left + 1])
