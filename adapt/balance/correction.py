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
from adapt.balance.mixtures import Inverse, Mixture, cdf, cdf_and_pdf, inverse, quantile


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


def inverses(statistics: ShiftStatistics, exact: bool = False) -> tuple[Inverse, Inverse]:
    """Of the positive and the negative anchor, from their quantiles eps / 2 to 1 - eps / 2."""
    positive, negative = (inverse(statistics.anchors.select(n), 0.5 * statistics.eps, exact) for n in (0, 1))
    return positive, negative


def exact_shift(
    statistics: ShiftStatistics,
    z: Tensor,
    ends: tuple[Tensor, Tensor] | None = None,
    rows: Tensor | None = None,
    anchors: tuple[Inverse, Inverse] | None = None,
    refine: int = 16,
) -> Tensor:
    """Delta[c, l] at the points z [R, C, G]: [R, C, G], in logits. Unseen classes have Delta = 0.

    Exact to the rounding of z's dtype; float64 is what `export` folds.

    Args:
        z: points of each row and channel.
        ends: `support` of the statistics in that dtype, where it is known.
        rows: [R] the classes c; None is all.
        anchors: exact `inverses` of the statistics in that dtype, where they are known.
        refine: steps towards exactness; 0 is good to about a thousandth of a logit.
    """
    statistics = statistics.to(z.dtype)
    rows = torch.arange(len(z), device=z.device) if rows is None else rows
    lower, upper = (end[rows].unsqueeze(-1) for end in ends or support(statistics))
    z = torch.maximum(torch.minimum(z, upper), lower)
    return _shift_inside(statistics, z, anchors or inverses(statistics, exact=True), refine, rows)


_PART = 2**14
"""Points that are refined together: what they take stays in a core's cache."""
_STILL = 64
"""A point whose next step would be less than this many roundings is found."""


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
    return ShiftTable(lower, step, _shift_inside(statistics, grid, inverses(statistics)), statistics.excluded)


def own_shifts(statistics: ShiftStatistics, points: int) -> ShiftTable:
    """Delta[c, c] alone, as `shift_table` has it: lower and step [C], shift [C, points]."""
    lower, upper = (end.diagonal() for end in support(statistics))
    step = (upper - lower) / (points - 1)
    z = lower.unsqueeze(-1) + step.unsqueeze(-1) * torch.arange(points, device=lower.device)
    c = torch.arange(len(z), device=z.device)
    probability = cdf(statistics.rows.select((c, c)), z).clamp(statistics.eps, 1 - statistics.eps)
    moved = _quantiles(inverses(statistics)[0], probability)
    return ShiftTable(lower, step, (moved - z) * statistics.seen.unsqueeze(-1), statistics.excluded)


def stack_tables(*tables: ShiftTable) -> ShiftTable:
    """Put tables of several domains under one another: row d * C + c is class c of the d-th table."""
    return ShiftTable(*(torch.cat(parts) for parts in zip(*(table[:3] for table in tables), strict=True)))


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
    most = max(1, _NUMBERS // logits.shape[1]) if logits.device.type == "cpu" else scores[0, 0].numel()
    for image, said in zip(logits.float().flatten(2), scores.flatten(2), strict=True):  # [C, P] each
        for some, part in zip(image.split(most, 1), said.split(most, 1), strict=True):
            _score(some.contiguous(), table, tau, part)
    return scores


_NUMBERS = 2**18
"""Logits that are corrected at a time: what they take stays in a core's cache."""


def _score(logits: Tensor, table: ShiftTable, tau: float, scores: Tensor) -> None:
    """`posthoc_scores` of logits [C, P], into scores [C, P]."""
    excluded, taking_part = table.excluded, list(range(len(logits)))
    if excluded is not None:
        taking_part = (~excluded).nonzero().flatten().tolist()
    for c in taking_part:
        corrected = torch.lerp(*_cells(table, logits, c)).mul_(tau).add_(logits)
        scores[c] = corrected[c]
        corrected[c] = -torch.inf  # left out of the sum: subtracted from it, it would cancel
        if excluded is not None:
            corrected[excluded] = -torch.inf
        scores[c] -= corrected.logsumexp(0)
    if excluded is not None:
        raised = scores[taking_part].amax(0) - logits[taking_part].amax(0)
        scores[excluded] = logits[excluded] + raised


def _cells(table: ShiftTable, logits: Tensor, row: int) -> tuple[Tensor, Tensor, Tensor]:
    """Delta at the grid points below and above every logit, for one row, and where between them; [C, P] each.

    What `shift_of_labels` (adapt/balance/losses.py) looks up where all pixels have the same label, without an
    index per pixel.
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


def _shift_inside(
    statistics: ShiftStatistics,
    z: Tensor,
    anchors: tuple[Inverse, Inverse],
    refine: int = 0,
    rows: Tensor | None = None,
) -> Tensor:
    """Delta at points z [R, C, G] that lie inside the support, of some rows or all."""
    rows = torch.arange(len(z), device=z.device) if rows is None else rows
    probability = cdf(statistics.rows.select(rows), z).clamp(statistics.eps, 1 - statistics.eps)
    moved = _quantiles(anchors[1], probability, refine)
    diagonal = torch.arange(len(z), device=z.device), rows
    moved[diagonal] = _quantiles(anchors[0], probability[diagonal], refine)
    shift = (moved - z) * statistics.seen[rows].view(-1, 1, 1)
    return shift if statistics.excluded is None else shift * ~statistics.excluded.view(1, -1, 1)


def _quantiles(table: Inverse, probability: Tensor, refine: int = 0) -> Tensor:
    """Inverse CDF of one anchor at many probabilities.

    The table brackets each answer; interpolation inside the cell is good to about a thousandth of a logit,
    and up to `refine` Newton steps that never leave the shrinking bracket make it exact.
    """
    if refine:
        parts = torch.split(probability.flatten(), _PART)
        return torch.cat([_refined(table, part, refine) for part in parts]).view_as(probability)
    grid, levels = table.grid, table.levels
    right = torch.searchsorted(levels, probability.contiguous()).clamp_(1, len(grid) - 1)
    left = right - 1
    below, above = grid[left], grid[right]
    rise = (levels[right] - levels[left]).clamp_min(torch.finfo(levels.dtype).tiny)
    return below + (above - below) * ((probability - levels[left]) / rise).clamp(0, 1)


def _refined(table: Inverse, probability: Tensor, steps: int) -> Tensor:
    """Newton steps to the quantiles [P], from a cubic in the cell whose slopes at both ends are 1 / pdf.

    A step about squares the distance: the one after it is at most `bend` times its square. From the cubic one
    is enough nearly everywhere; the others have more, and those that are found are left alone.
    """
    (anchor, grid, levels, slopes), smallest = table, torch.finfo(probability.dtype)
    assert slopes is not None, "made to be exact"
    right = torch.searchsorted(levels, probability).clamp_(1, len(grid) - 1)
    left = right - 1
    below, above, level = grid[left], grid[right], levels[left]
    rise = levels[right] - level
    t = ((probability - level) / rise.clamp_min(smallest.tiny)).clamp_(0, 1)
    chord = above - below
    first, last = rise * slopes[left] - chord, rise * slopes[right] - chord
    z = below + t * (chord + (1 - t) * ((1 - t) * first - t * last))
    z = torch.maximum(torch.minimum(z, above), below)  # in a gap between modes, slopes mean nothing
    bend = (anchor.means - grid[[0, -1]].unsqueeze(1)).abs().max() / (2 * anchor.variances.min())
    found, going = z.clone(), torch.arange(len(z), device=z.device)
    for _ in range(steps):
        level, density = cdf_and_pdf(anchor, z)
        excess = level - probability
        above = torch.where(excess > 0, z, above)
        below = torch.where(excess > 0, below, z)
        newton = z - excess / density.clamp_min(smallest.tiny)
        inside = (newton >= below) & (newton <= above)
        new = torch.where(inside, newton, 0.5 * (below + above))
        found[going] = new
        next_move = torch.where(inside, bend * (new - z).square(), torch.inf)
        moves = next_move > _STILL * smallest.eps * (1 + z.abs())
        if not bool(moves.any()):
            break
        going, z, below, above, probability = (x[moves] for x in (going, new, below, above, probability))
    return found
