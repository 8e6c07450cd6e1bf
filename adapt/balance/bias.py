"""How much a segmenter favours some classes over others, with labels and without (Li et al. 2025, bias).

    Bias(l) = (1 / C) sum_c Pr(argmax f = l | y = c)  -  1 / C

Positive: class l is predicted too often; negative: too rarely; the sum over l is 0. Departure from the paper,
for classes that are absent: when only S of the C rows c are known, the mean runs over those, and what an
unbiased segmenter would give is taken off: 1 / S for a known class, 0 for another. A perfect prediction
thus has no bias on any data set, and the sum stays 0.

Without labels it also says whether a correction is worth trying: `bias_left`.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from adapt.balance.correction import ShiftTable, posthoc_scores, shift_table, support
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import cdf, quantile

GRID, COARSE_GRID = 2048, 512
"""Points of a quadrature; and of one for many classes, where it takes most of the time. Its error falls with
their square: 1e-5 and less of the shares of 150 classes were off at 512."""
FEW = 64
"""Classes that are not many."""
TAIL = 1e-7  # probability left out at either end of the grid
MOST_ROWS = 20
"""Classes whose pixels are looked at to say what a little correction leaves."""
LITTLE = 0.1
"""A small strength of the correction."""
MOST_LEFT = 0.82
"""Share of the estimated bias that a small correction may leave. Chosen on the first networks of seed 0 in
docs/evidence.md, between the most that one left which gained and the least that one left which lost."""


def bias_of_shares(shares: Tensor, known: Tensor) -> Tensor:
    """Bias of every class.

    Args:
        shares: [C, C], row c = true class, column l = Pr(argmax = l | y = c). Rows not known do not count.
        known: [C] bool, classes whose row means something.

    Returns:
        [C] bias, float64; all 0 if no row is known.
    """
    rows = int(known.sum())
    if rows == 0:
        return torch.zeros(len(known), dtype=torch.float64, device=known.device)
    return (shares[known].double().sum(0) - known.double()) / rows


def bias_with_labels(confusion: Tensor) -> Tensor:
    """Bias [C] from pixel counts [C, C], row = ground truth, column = prediction."""
    pixels = confusion.double().sum(1)
    return bias_of_shares(confusion / pixels.clamp_min(1).unsqueeze(1), pixels > 0)


def bias_without_labels(statistics: ShiftStatistics) -> Tensor:
    """Bias [C] estimated from the logit distributions alone; classes never seen are left out as rows.

    The pseudo-labels behind the statistics stand for the truth, and the channels of a pixel are taken as
    independent. Both are approximations: its digits mean little, and its ranks were seen turned around on an
    undertrained network.
    """
    return bias_of_shares(argmax_shares(statistics), statistics.seen)


def bias_without_labels_corrected(statistics: ShiftStatistics, tau: float) -> Tensor:
    """The same estimate [C] for the prediction that is corrected post hoc with strength `tau`."""
    return biases_without_labels(statistics, [tau])[0]


def biases_without_labels(statistics: ShiftStatistics, taus: Sequence[float]) -> list[Tensor]:
    """The same for several strengths."""
    return [bias_of_shares(s, statistics.seen) for s in corrected_argmax_shares(statistics, taus)]


@torch.no_grad()
def argmax_shares(statistics: ShiftStatistics) -> Tensor:
    """Pr(argmax f = l | y = c) [C, C], float64, if the channels of row c are drawn independently.

    The expectation of such draws by quadrature, without their noise:

        Pr(l | c) = integral of prod_{k != l} F[c,k](z) dF[c,l](z)

    on an even grid of z per row. The increments dF come from the CDF, so a component narrower than a cell
    loses none of its mass. Accurate to about 1e-3.
    """
    C = statistics.num_classes
    shares = torch.zeros(C, C, dtype=torch.float64, device=statistics.seen.device)
    points = GRID if C <= FEW else COARSE_GRID
    steps = torch.linspace(0, 1, points, dtype=torch.float64, device=shares.device)
    exact = replace(statistics.to(torch.float64), eps=TAIL)
    # The greatest of all channels lies above the greatest lower end.
    lows, highs = (ends.amax(1) for ends in support(exact))
    for c in range(C):  # row by row: C * C * points numbers at once would not fit for many classes
        grid = torch.lerp(lows[c], highs[c], steps)
        levels = cdf(exact.rows.select(c), grid.expand(C, points).contiguous())
        if statistics.excluded is not None:
            levels[statistics.excluded] = 1.0  # as if below all others: they take no part
        logs = (0.5 * (levels[:, 1:] + levels[:, :-1])).clamp_min(1e-300).log()
        others = (logs.sum(0) - logs).exp()  # product over k != l
        shares[c] = (levels.diff(dim=-1) * others).sum(-1)
    return shares / shares.sum(1, keepdim=True)


@torch.no_grad()
def corrected_argmax_shares(
    statistics: ShiftStatistics,
    taus: Sequence[float],
    draws: int = 4096,
    rows: Tensor | None = None,
    table: ShiftTable | None = None,
) -> list[Tensor]:
    """Pr(post-hoc prediction = l | y = c) [C, C], float64, for every strength, if channels are independent.

    The post-hoc prediction mixes the channels, so no one-dimensional integral gives it: every channel is
    drawn at the middle of `draws` equal parts of its distribution, in an order of its own (a Latin
    hypercube with a fixed seed; the result is the same every time). Accurate to about 0.5 / sqrt(draws).
    `rows`, [C] bool, are the classes c that are wanted, None is all; the others' rows stay 0. `table` is the
    `shift_table` of the statistics, where it is known.
    """
    C = statistics.num_classes
    device = statistics.seen.device
    middles = (torch.arange(draws, dtype=torch.float32) + 0.5) / draws
    generator = torch.Generator().manual_seed(0)
    orders = torch.stack([torch.randperm(draws, generator=generator) for _ in range(C)])
    points = middles[orders].to(device)  # [C, draws], the same for every row
    table = table or shift_table(statistics)
    shares = torch.zeros(len(taus), C, C, dtype=torch.float64, device=device)
    wanted = torch.arange(C, device=device) if rows is None else rows.nonzero().flatten()
    # A few rows at a time: all C * C * draws logits at once would not fit for many classes.
    for some in torch.split(wanted, max(1, 4096 // draws)):
        logits = quantile(statistics.rows.select(some), points.expand(len(some), C, draws), sections=2)
        logits = logits.transpose(0, 1).reshape(1, C, len(some), draws)
        if statistics.excluded is not None:
            logits[:, statistics.excluded] = -torch.inf
        for index, tau in enumerate(taus):
            predicted = posthoc_scores(logits, table, tau).argmax(1)[0]
            for c, labels in zip(some.tolist(), predicted, strict=True):
                shares[index, c] = torch.bincount(labels, minlength=C).double() / draws
    return list(shares)


def bias_left(statistics: ShiftStatistics, table: ShiftTable | None = None) -> float:
    """Of the estimated sum of |Bias|, the share that is left at tau = LITTLE; NaN where there is none.

    The correction works by evening out what the statistics say of the bias (section 3.1). Where a little of
    it hardly does, it has nothing to even out, or changes other things.

    Of many classes, a part of the rows is looked at, with fewer draws, which keeps it to seconds. `table` is
    the `shift_table` of the statistics, where it is known.
    """
    seen = statistics.seen.nonzero().flatten()
    rows = torch.zeros_like(statistics.seen)
    rows[seen[torch.linspace(0, len(seen) - 1, min(len(seen), MOST_ROWS)).round().long()]] = True
    draws = max(256, min(1024, 40_000 // statistics.num_classes))
    shares = corrected_argmax_shares(statistics, (0.0, LITTLE), draws, rows, table)
    before, after = (float(bias_of_shares(each, rows).abs().sum()) for each in shares)
    return after / before if before > 0 else float("nan")


def doubt(statistics: ShiftStatistics, evened: bool = False, table: ShiftTable | None = None) -> str:
    """Why the correction may do harm, in words; empty where nothing speaks against it.

    Args:
        statistics: of the network.
        evened: it was trained with a loss that takes the shares of the classes off.
        table: `shift_table` of the statistics, where it is known.
    """
    if evened:
        return (
            "the loss of its training took the shares of the classes off, which leaves little to even out; "
            "correcting such networks did harm to some (docs/evidence.md)"
        )
    left = bias_left(statistics, table)
    if not left > MOST_LEFT:
        return ""
    return (
        f"a little correction (tau {LITTLE:g}) would leave {left:.0%} of the bias that is estimated without "
        f"labels; where it left more than {MOST_LEFT:.0%}, correcting did harm (docs/evidence.md)"
    )
