"""Whether two sides differ by more than chance, for all classes at once.

Frames of one afternoon are alike, so chance is what blocks of time differ by, never pixels. For every class
two things are looked at: how far its positive logits have moved (Wasserstein), and how much its share has
changed. Each is divided by its mean over the draws, and the largest of all is the statistic T.

* Against another gathered file: blocks are exchanged between the two sides. If both are of one distribution,
  any exchange is as likely as what is there, so that T exceeds its (1 - alpha) quantile over exchanges with
  probability alpha at most, whatever the distributions are and however many classes there are.
* Against what a model was folded with, a sum without blocks: the blocks that were gathered are drawn with
  replacement, and T of a draw is against their own sum. The reference has an error of its own. It is taken as
  that of as many pixels of the kind that were gathered, so that draws are widened by sqrt(1 + now / then), of
  the class's pixels on both sides. What is not like chance in it nobody knows, so that besides, logits must
  have moved by UNSURE of their spread; shares are not looked at.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.fleet.measures import Array, shared_out, wasserstein
from serve.fleet.sides import Side
from serve.gathering.rule import BINS

DRAWS = 999
COARSE = 4
"""Bins that are taken as one here, which is fine enough for distances and a quarter of the work."""
ALPHA = 0.01
BLOCKS = 8
"""Blocks from which on something can be said against a model."""
UNSURE = 0.15
"""Of the standard deviation of a class's positive logits."""


@dataclass(frozen=True, eq=False)
class Alarm:
    """What was found."""

    p: float
    """How often chance alone gives as much; NaN if there are too few blocks to tell."""
    drifted: NDArray[np.bool_]
    """[C] classes whose logits or share exceed what chance gives the largest of all classes."""
    moved: NDArray[np.bool_]
    """[C] those whose logits do."""
    interval: Array
    """[C, 2] within which the distance of the positive logits lies for 95 % of draws; NaN for few blocks."""
    share_interval: Array
    """[C, 2] the same of the share now."""

    @property
    def alarmed(self) -> bool:
        return bool(self.drifted.any())

    @property
    def told(self) -> bool:
        """Whether there were enough blocks."""
        return bool(np.isfinite(self.p))


def find_drift(now: Side, then: Side, step: float, alpha: float = ALPHA, seed: int = 0) -> Alarm:
    """Compare; the same every time."""
    rng = np.random.default_rng(seed)
    now, then, step = coarser(now), coarser(then), step * COARSE
    interval, share_interval = _intervals(now, then, step, rng)
    C, (n, m) = len(now.known), (len(now.begins), len(then.begins))
    known = now.known & then.known
    nothing = np.zeros(C, bool)
    if not _enough(n, m, alpha) or not known.any():
        return Alarm(float("nan"), nothing, nothing, interval, share_interval)
    if m:
        distances = _exchanged(now, then, step, rng)
    else:
        larger = _widening(n, alpha / known.sum()) * _both_errors(now, then)
        distances = _drawn(now, then, step, rng, larger)
    found = np.where(known, distances, 0.0)  # [1 + DRAWS, 2, C], the first as it is
    scale = found.mean(0)
    relative = np.divide(found, scale, out=np.zeros_like(found), where=scale > 0)
    largest = relative.max((1, 2)).round(9)  # swapped sides are as far apart, but for the last digits
    p = float((largest >= largest[0]).mean())
    allowed = max(int(alpha * len(largest)), 1)
    limit = np.sort(largest)[-allowed]
    over = (relative[0] >= limit) & (p <= alpha)
    if not m:
        over &= distances[0] > UNSURE * _spread(then, step)
    return Alarm(p, over.any(0), over[0], interval, share_interval)


def coarser(side: Side) -> Side:
    """The same in a quarter of the bins."""

    def summed(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(values.reshape(*values.shape[:-1], BINS // COARSE, COARSE).sum(-1))

    return replace(
        side, positive=summed(side.positive).astype(np.float64), distribution=summed(side.distribution)
    )


def _enough(n: int, m: int, alpha: float) -> bool:
    """Whether blocks can be drawn in so many ways that an alarm is possible; a swap is no other way."""
    if not m:
        return n >= BLOCKS
    return math.comb(n + m, n) / (2 if n == m else 1) >= 2 / alpha


def _exchanged(now: Side, then: Side, step: float, rng: np.random.Generator) -> Array:
    """Distances [1 + DRAWS, 2, C] of logits and shares, blocks exchanged at random."""
    n, m = len(now.begins), len(then.begins)
    positive = np.concatenate([now.positive, then.positive])
    pixels = np.concatenate([now.pixels, then.pixels])
    ours = np.zeros((1 + DRAWS, n + m))
    ours[0, :n] = 1
    for draw in ours[1:]:
        draw[rng.permutation(n + m)[:n]] = 1
    shares = shared_out(ours @ pixels) - shared_out((1 - ours) @ pixels)
    moved = [
        wasserstein(shared_out(ours @ positive[:, c]), shared_out((1 - ours) @ positive[:, c]), step)
        for c in range(positive.shape[1])  # one at a time: all of them would take C times the memory
    ]
    return np.stack([np.stack(moved, 1), np.abs(shares)], 1)


def _widening(n: int, alpha: float) -> float:
    """How much farther a sum of n blocks lies from the truth than drawn ones from it, at a two-sided level.

    Draws vary around their own mean, which takes sqrt(n / (n - 1)), and with the few blocks' own spread, as
    makes Student's t of a normal: t = z + (z^3 + z) / 4v + (5 z^5 + 16 z^3 + 3 z) / 96 v^2 + ...
    with v = n - 1 (Cornish and Fisher).
    """
    z, v = NormalDist().inv_cdf(1 - alpha / 2), n - 1
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    return float(np.sqrt(n / v) * t / z)


def _both_errors(now: Side, then: Side) -> Array:
    """[C] how much the error of both sides together exceeds that of what was gathered.

    A reference that does not say what it was made of is taken to be of as many pixels.
    """
    ours = now.pixels.sum(0)
    theirs = ours if then.made_of is None else then.made_of
    return np.asarray(np.sqrt(1 + ours / np.maximum(theirs, 1)))


def _drawn(now: Side, then: Side, step: float, rng: np.random.Generator, larger: Array) -> Array:
    """The same of blocks drawn with replacement, against their sum; the first against the reference.

    larger: [C] by how much draws are widened.
    """
    n = len(now.begins)
    times = rng.multinomial(n, np.full(n, 1 / n), DRAWS).astype(np.float64)
    moved = []
    for c in range(now.positive.shape[1]):
        own = shared_out(now.positive[:, c].sum(0))
        around = larger[c] * wasserstein(shared_out(times @ now.positive[:, c]), own, step)
        moved.append(np.concatenate([[wasserstein(own, then.distribution[c], step)], around]))
    logits = np.stack(moved, 1)
    return np.stack([logits, np.zeros_like(logits)], 1)


def _spread(side: Side, step: float) -> Array:
    """[2, C] standard deviation of the positive logits; of shares, nothing counts."""
    z = step * np.arange(side.distribution.shape[1])
    mean = side.distribution @ z
    deviation = np.sqrt(np.maximum(side.distribution @ z**2 - mean**2, 0))
    return np.stack([deviation, np.full_like(deviation, np.inf)])


def _intervals(now: Side, then: Side, step: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Block bootstrap: 2.5 % and 97.5 % of distances and shares over draws of both sides' blocks."""
    C, (n, m) = len(now.known), (len(now.begins), len(then.begins))
    if n < 3:
        return np.full((C, 2), np.nan), np.full((C, 2), np.nan)
    ours = rng.multinomial(n, np.full(n, 1 / n), DRAWS).astype(np.float64)
    theirs = rng.multinomial(m, np.full(m, 1 / m), DRAWS).astype(np.float64) if m else None
    moved = []
    for c in range(C):
        other = then.distribution[c] if theirs is None else shared_out(theirs @ then.positive[:, c])
        moved.append(wasserstein(shared_out(ours @ now.positive[:, c]), other, step))
    quantiles = [0.025, 0.975]
    return np.quantile(np.stack(moved), quantiles, axis=1).T, np.quantile(
        shared_out(ours @ now.pixels), quantiles, axis=0
    ).T
