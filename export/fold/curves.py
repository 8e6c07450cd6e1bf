"""Delta on grids, together with a bound on what the grids do not show.

Delta = A - z with A = Q(F(z)), both factors rising. In a cell of width h between two grid points

* A stays between its end values, so it is off its chord by at most A_right - A_left;
* A' = f(z) / q(A), of which every Gaussian term is monotone on either side of its mean, so exact bounds
  m <= A' <= m + w hold on the cell, and a function with such a derivative is off its chord by at most
  w h / 4.

The lesser of the two is the cell's `remainder`. Where the anchor has a gap between its modes, A climbs almost
in a jump; the grid of every row is therefore spread evenly over z and over A alike.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from adapt.balance.correction import exact_shift, inverses, support
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Inverse, Mixture
from serve.card import MOST_PROFILES
from serve.media.progress import Bar

Array = NDArray[np.float64]


class Curves(NamedTuple):
    """Delta[:, l] of one channel on a grid of its own per row, constant beyond it."""

    z: Array
    """[C, G] grid points, rising, in logits."""
    shift: Array
    """[C, G] Delta, in logits."""
    remainder: Array
    """[C, G - 1] most that Delta can differ from its chord inside each cell, in logits."""

    def at(self, z: Array) -> Array:
        """Delta by linear interpolation at z, [P] or [C, P]: [C, P]."""
        points = np.broadcast_to(z, (len(self.z), z.shape[-1]))
        return np.stack([np.interp(*row) for row in zip(points, self.z, self.shift, strict=True)])

    def unknown(self, z: Array) -> Array:
        """The remainder of the cells that z lies in, [C, P], 0 beyond the grid, where Delta is constant.

        z is [P], rising, or [C, P].
        """
        padded = np.pad(self.remainder, ((0, 0), (1, 1)))
        if z.ndim > 1:
            parts = zip(self.z, padded, z, strict=True)
            return np.stack([remainder[np.searchsorted(grid, points)] for grid, remainder, points in parts])
        # How many of the points lie up to each grid point says the same as where each point lies.
        ends = np.searchsorted(z, self.z, side="right")
        return np.repeat(padded, np.diff(ends, prepend=0, append=len(z)).ravel()).reshape(-1, len(z))


_PART = 2**16
"""Numbers [R, C, G] that are worked on at a time: what they take stays in a core's cache."""


def shift_curves(statistics: ShiftStatistics) -> list[Curves]:
    """Delta of every channel, exact at the grid points to the rounding of float64.

    The last ones are kept, as many as a file has profiles: with 150 classes they cost most of a minute, and a
    fold, its repetition in another precision and the check of both ask for the same.
    """
    return list(_shift_curves(save(statistics.to(torch.float64).state())))


@lru_cache(maxsize=MOST_PROFILES)
def _shift_curves(stored: bytes) -> tuple[Curves, ...]:
    """Read-only, of statistics in float64 as bytes of a safetensors file."""
    statistics = ShiftStatistics.from_state(load(stored))
    C = statistics.num_classes
    points = int(np.clip(2**22 // C**2, 192, 2048))
    ends, anchors = support(statistics), inverses(statistics, exact=True)
    low, high = (end.unsqueeze(-1) for end in ends)
    grids = low + (high - low) * torch.linspace(0, 1, points, dtype=torch.float64)
    shifts, remainders = (torch.zeros(C, C, count, dtype=torch.float64) for count in (points, points - 1))
    known = statistics.seen if bool(statistics.seen.any()) else ~statistics.seen
    some = torch.split(known.nonzero().flatten(), max(1, _PART // (C * points)))  # of others, Delta is 0
    for rows in Bar(some, desc="exact curves", unit="part", delay=5, leave=False):
        z, shift = _curves_of(statistics, rows, ends, anchors, points)
        grids[rows], shifts[rows] = z, shift
        remainders[rows] = _remainder(statistics, z, z + shift, rows) * statistics.seen[rows].view(-1, 1, 1)
    parts = [part.transpose(0, 1).contiguous().numpy() for part in (grids, shifts, remainders)]
    for part in parts:
        part.flags.writeable = False
    return tuple(Curves(*channel) for channel in zip(*parts, strict=True))


def _curves_of(
    statistics: ShiftStatistics,
    rows: Tensor,
    ends: tuple[Tensor, Tensor],
    anchors: tuple[Inverse, Inverse],
    points: int,
) -> tuple[Tensor, Tensor]:
    """Grid points and Delta of some rows, [R, C, G] each."""
    lower, upper = (end[rows].unsqueeze(-1) for end in ends)
    z = lower + (upper - lower) * torch.linspace(0, 1, points // 2, dtype=torch.float64)
    for count in (points // 2, points):  # each pass resolves a climb a hundred times finer
        rough = exact_shift(statistics, z, ends, rows, anchors, refine=0)  # says where points are wanted
        z = _spread_evenly(z, z + rough, count)
    return z, exact_shift(statistics, z, ends, rows, anchors)


def _spread_evenly(z: Tensor, moved: Tensor, count: int) -> Tensor:
    """New grid points [R, C, count] between the same ends, even in the mean of relative z and relative A."""
    progress = sum((x - x[..., :1]) / (x[..., -1:] - x[..., :1]).clamp_min(1e-30) for x in (z, moved))
    assert isinstance(progress, Tensor)
    flat, level = z.flatten(0, 1).numpy(), progress.flatten(0, 1).numpy()
    even = np.linspace(0, 1, count)
    grid = np.stack([np.interp(even * y[-1], y, x) for x, y in zip(flat, level, strict=True)])
    return torch.from_numpy(grid).view(*z.shape[:2], count)


def _remainder(statistics: ShiftStatistics, z: Tensor, moved: Tensor, rows: Tensor) -> Tensor:
    """Bound on the distance of A = z + Delta from its chord in each cell: [R, C, G] -> [R, C, G - 1]."""
    rise = moved[..., 1:] - moved[..., :-1]
    least, most = _density_range(statistics.rows.select(rows), z)
    diagonal = torch.eye(z.shape[1], dtype=torch.long)[rows]
    anchors = statistics.anchors.select(1 - diagonal)  # [R, C, K]: 0 positive on the diagonal, else 1
    anchor_least, anchor_most = _density_range(anchors, moved)
    slope_range = most / anchor_least - least / anchor_most
    width = z[..., 1:] - z[..., :-1]
    return torch.minimum(rise.clamp_min(0), torch.nan_to_num(slope_range, nan=torch.inf) * width / 4)


def _density_range(mixture: Mixture, z: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of the density between neighbours of z, [..., G] -> twice [..., G - 1]: term by term exact."""
    least = torch.zeros_like(z[..., 1:])
    most = torch.zeros_like(least)
    for weight, mean, variance in zip(*(p.unbind(-1) for p in mixture), strict=True):
        peak = (weight * (2 * torch.pi * variance).rsqrt()).unsqueeze(-1)
        offset = z - mean.unsqueeze(-1)
        density = peak * torch.exp(-0.5 * offset**2 / variance.unsqueeze(-1))
        left, right = density[..., :-1], density[..., 1:]
        across = (offset[..., :-1] < 0) & (offset[..., 1:] > 0)
        least += torch.minimum(left, right)
        most += torch.where(across, peak.expand_as(left), torch.maximum(left, right))
    return least, most
