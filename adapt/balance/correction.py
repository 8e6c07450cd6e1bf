"""The shift Delta and what is made of it: corrected logits, post-hoc scores, densities.

    Delta[c, l](z) = Q(F[c, l](z)) - z,    Q = F_p^-1 if l == c else F_n^-1      (Li et al. 2025, section 3.2)

moves logit l of a pixel of class c to the same quantile of the anchor distribution. Departure: the authors
clip F to [eps, 1 - eps], which collapses all logits beyond these quantiles to one value; here the *argument*
is clipped, so z + Delta keeps rising with slope one in the tails.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture, cdf, pdf, quantile


def excluding(statistics: ShiftStatistics, classes: Tensor) -> ShiftStatistics:
    """Statistics in which some classes take no part: what they say is neither raised nor lowered.

    Departure from the paper, for outputs that stand for "none of these" (void) and for masked ones, whose
    logits are no measure of anything: see `posthoc_scores`. Delta is 0 in their rows and columns, where the
    negative anchor takes the place of mixtures that would have no use.

    Args:
        classes: [C] bool.
    """
    excluded = classes if statistics.excluded is None else classes | statistics.excluded
    either = (excluded.unsqueeze(1) | excluded).unsqueeze(-1)
    pairs = zip(statistics.rows, statistics.anchors.select(1), strict=True)
    rows = Mixture(*(torch.where(either, anchor, row) for row, anchor in pairs))
    return replace(statistics, rows=rows, seen=statistics.seen & ~excluded, excluded=excluded)


_FEW = 64
"""Classes up to which calls cost more than arithmetic, see `quantile`."""


def support(statistics: ShiftStatistics) -> tuple[Tensor, Tensor]:
    """The quantiles F^-1(eps) and F^-1(1 - eps) of every F[c, l], each [C, C], in logits."""
    means = statistics.rows.means
    tails = torch.linspace(statistics.eps, 1 - statistics.eps, 2, dtype=means.dtype, device=means.device)
    sections = 2 if means.device.type == "cpu" and len(means) > _FEW else None
    both = quantile(statistics.rows, tails.expand(*means.shape[:-1], 2), sections)
    return both[..., 0], both[..., 1]


def exact_shift(
    statistics: ShiftStatistics,
    z: Tensor,
    ends: tuple[Tensor, Tensor] | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """Delta[c, l] at the points z [R, C, G]: [R, C, G], in logits. Unseen classes have Delta = 0.

    Exact to the rounding of z's dtype; float64 is what `export` folds.

    Args:
        z: points of each row and channel.
        ends: `support` of the statistics in that dtype, where it is known.
        rows: [R] the classes c; None is all.
    """
    statistics = statistics.to(z.dtype)
    rows = torch.arange(len(z), device=z.device) if rows is None else rows
    lower, upper = (end[rows].unsqueeze(-1) for end in ends or support(statistics))
    z = torch.maximum(torch.minimum(z, upper), lower)
    return _shift_inside(statistics, z, refine=16, rows=rows)


_PART = 2**16
"""Points that are refined together: what they take stays in a core's cache."""
_STILL = 64
"""A point that moves by less than this many roundings is found: the next step would be smaller still."""


class ShiftTable(NamedTuple):
    """Delta on an even grid of its own for every row and channel; constant beyond the grid."""

    lower: Tensor
    """[R, C] first grid point, in logits."""
    step: Tensor
    """[R, C] distance of grid points, in logits."""
    shift: Tensor
    """[R, C, G] Delta at the grid points, in logits."""
    excluded: Tensor | None = None
    """[C] bool: channels that take no part, see `excluding`; None is none."""

    def to(self, device: torch.device | str) -> "ShiftTable":
        """Move to a device."""
        excluded = None if self.excluded is None else self.excluded.to(device)
        return ShiftTable(self.lower.to(device), self.step.to(device), self.shift.to(device), excluded)


@torch.no_grad()
def shift_table(statistics: ShiftStatistics, points: int = 256) -> ShiftTable:
    """Tabulate Delta [C, C] for look-up with linear interpolation; `points` = G."""
    lower, upper = support(statistics)
    step = (upper - lower) / (points - 1)
    grid = lower.unsqueeze(-1) + step.unsqueeze(-1) * torch.arange(points, device=lower.device)
    return ShiftTable(lower, step, _shift_inside(statistics, grid, refine=0), statistics.excluded)


def stack_tables(*tables: ShiftTable) -> ShiftTable:
    """Put tables of several domains under one another: row d * C + c is class c of the d-th table."""
    return ShiftTable(*(torch.cat(parts) for parts in zip(*(table[:3] for table in tables), strict=True)))


@torch.no_grad()
def shift_of_labels(table: ShiftTable, logits: Tensor, rows: Tensor) -> Tensor:
    """Delta[y, l](f[l]) for pixels whose class is given.

    Args:
        table: rows R, channels C.
        logits: [N, C, H, W].
        rows: [N, H, W] row of the table for every pixel; values outside 0..R-1 get no shift.

    Returns:
        [N, C, H, W] shifts in logits.
    """
    height, channels, points = table.shift.shape
    valid = (rows >= 0) & (rows < height)
    # Half of the size of the usual int64, and there are as many indices as logits.
    row = torch.where(valid, rows, 0).int()
    channel = torch.arange(channels, device=logits.device, dtype=torch.int32).unsqueeze(1) * height
    per_step = table.step.reciprocal()
    scales, offsets = per_step.t().reshape(-1), (table.lower * per_step).t().reshape(-1)
    values = table.shift.transpose(0, 1).reshape(-1)
    out = torch.empty(logits.shape, device=logits.device)  # contiguous, whatever the logits are
    for image in range(len(logits)):  # one image at a time bounds the temporaries
        # [C, P]: the channel is the slow axis, as in the logits, so every pass below is contiguous.
        pair = row[image].flatten() + channel
        position = logits[image].float().flatten(1) * _pick(scales, pair)
        position -= _pick(offsets, pair)
        position.clamp_(0, points - 1)
        # Both ends: a NaN logit has no integer, and must reach the loss instead of breaking the look-up.
        cell = position.int().clamp_(0, points - 2)
        position -= cell
        cell += pair.mul_(points)
        left = _pick(values, cell)
        right = _pick(values, cell.add_(1))
        torch.lerp(left, right, position, out=out[image].flatten(1))
        out[image] *= valid[image]
    return out


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """values[index], for an index of 32 bits."""
    return values.index_select(0, index.flatten()).view_as(index)


@torch.no_grad()
def posthoc_scores(logits: Tensor, table: ShiftTable, tau: float) -> Tensor:
    """Scores of the post-hoc corrected prediction, whose argmax is the class (section 3.2, Eq. 15 as odds).

        a_c[l] = f[l] + tau * Delta[c, l](f[l]),    score[c] = a_c[c] - logsumexp_{l != c} a_c[l]

    Every class is judged under its own hypothesis. At a pixel, log-odds and log-probabilities have the same
    argmax; between pixels they differ. A log-probability is 0 for whatever wins, so upsampling would see the
    margin of the losers alone; log-odds carry both. The reference of what `export` folds.

    Excluded classes v (see `excluding`) are in no sum, and keep their distance to the best of the others:

        score[v] = f[v] - max_l f[l] + max_c score[c]         over classes l, c that are not excluded,

    so that a pixel is one of them exactly where it was without the correction.

    Args:
        logits: [N, C, h, w] at the decoder's stride.
        table: Delta of the domain the picture comes from.
        tau: strength; 0 gives the logits themselves, and so exactly the uncorrected prediction.

    Returns:
        [N, C, h, w] scores, in logits.
    """
    if tau == 0:
        return logits.float()
    scores = torch.empty(logits.shape, device=logits.device)
    excluded, taking_part = table.excluded, list(range(logits.shape[1]))
    if excluded is not None:
        taking_part = (~excluded).nonzero().flatten().tolist()
    for image, said in zip(
        logits.float().flatten(2), scores.flatten(2), strict=True
    ):  # [C, P], one at a time
        for c in taking_part:
            corrected = torch.lerp(*_cells(table, image, c)).mul_(tau).add_(image)
            said[c] = corrected[c]
            corrected[c] = -torch.inf  # left out of the sum: subtracted from it, it would cancel
            if excluded is not None:
                corrected[excluded] = -torch.inf
            said[c] -= corrected.logsumexp(0)
        if excluded is not None:
            raised = said[taking_part].amax(0) - image[taking_part].amax(0)
            said[excluded] = image[excluded] + raised
    return scores


def _cells(table: ShiftTable, logits: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Delta at the grid points below and above every logit, for one row, and where between them; [C, P] each.

    What `shift_of_labels` looks up where all pixels have the same label, without an index per pixel.
    """
    points = table.shift.shape[2]
    per_step = table.step[row].reciprocal()
    position = logits * per_step.unsqueeze(1)
    position -= (table.lower[row] * per_step).unsqueeze(1)
    position.clamp_(0, points - 1)
    cell = position.to(torch.int64).clamp_(0, points - 2)
    position -= cell
    left = table.shift[row].gather(1, cell)
    return left, table.shift[row].gather(1, cell.add_(1)), position


@torch.no_grad()
def cumulative_density(rows: Mixture, logits: Tensor, labels: Tensor) -> Tensor:
    """d = F[y, y](f[y]) in [0, 1]: how easy a pixel is for its class (section 3.4).

    Args:
        rows: [R, K] mixtures of the positive logits; `labels` index R, so rows of several domains may be
            put under one another.
        logits: [N, C, h, w]; the channel is the label modulo C.
        labels: [N, h, w] in 0..R-1.
    """
    own = logits.float().gather(1, (labels % logits.shape[1]).unsqueeze(1)).squeeze(1)
    return cdf(rows.select(labels), own.unsqueeze(-1)).squeeze(-1)


def _shift_inside(statistics: ShiftStatistics, z: Tensor, refine: int, rows: Tensor | None = None) -> Tensor:
    """Delta at points z [R, C, G] that lie inside the support, of some rows or all."""
    rows = torch.arange(len(z), device=z.device) if rows is None else rows
    probability = cdf(statistics.rows.select(rows), z).clamp(statistics.eps, 1 - statistics.eps)
    moved = _anchor_quantile(statistics.anchors.select(1), probability, statistics.eps, refine)
    diagonal = torch.arange(len(z), device=z.device), rows
    own = probability[diagonal]
    moved[diagonal] = _anchor_quantile(statistics.anchors.select(0), own, statistics.eps, refine)
    shift = (moved - z) * statistics.seen[rows].view(-1, 1, 1)
    return shift if statistics.excluded is None else shift * ~statistics.excluded.view(1, -1, 1)


def _anchor_quantile(anchor: Mixture, probability: Tensor, eps: float, refine: int) -> Tensor:
    """Inverse CDF of one anchor [K] at many probabilities in [eps, 1 - eps].

    A fine table brackets each answer; interpolation inside the cell is good to about a thousandth of a
    logit, and up to `refine` Newton steps that never leave the shrinking bracket make it exact.
    """
    ends = torch.linspace(0.5 * eps, 1 - 0.5 * eps, 2, dtype=probability.dtype, device=probability.device)
    low, high = quantile(anchor, ends)
    grid = torch.lerp(low, high, torch.linspace(0, 1, 2049, dtype=ends.dtype, device=ends.device))
    levels = cdf(anchor, grid)
    right = torch.searchsorted(levels, probability.contiguous()).clamp_(1, len(grid) - 1)
    left = right - 1
    below, above = grid[left], grid[right]
    rise = (levels[right] - levels[left]).clamp_min(torch.finfo(ends.dtype).tiny)
    z = below + (above - below) * ((probability - levels[left]) / rise).clamp(0, 1)
    if refine:
        parts = zip(*(torch.split(x.flatten(), _PART) for x in (z, below, above, probability)), strict=True)
        found = [_refined(anchor, z, low, high, p, refine) for z, low, high, p in parts]
        return torch.cat(found).view_as(probability)
    return z


def _refined(
    anchor: Mixture, z: Tensor, below: Tensor, above: Tensor, probability: Tensor, steps: int
) -> Tensor:
    """Newton steps from z towards the quantiles [P] of one anchor, inside the brackets.

    They double the digits: from a thousandth of a logit, three are enough nearly everywhere. The others have
    theirs, and those that do not move any more are left alone.
    """
    found, going = z.clone(), torch.arange(len(z), device=z.device)
    smallest = torch.finfo(z.dtype)
    for _ in range(steps):
        excess = cdf(anchor, z) - probability
        above = torch.where(excess > 0, z, above)
        below = torch.where(excess > 0, below, z)
        newton = z - excess / pdf(anchor, z).clamp_min(smallest.tiny)
        inside = (newton > below) & (newton < above)
        new = torch.where(inside, newton, 0.5 * (below + above))
        found[going] = new
        moves = (new - z).abs() > _STILL * smallest.eps * (1 + z.abs())
        if not bool(moves.any()):
            break
        going, z, below, above, probability = (x[moves] for x in (going, new, below, above, probability))
    return found
