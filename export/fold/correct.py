"""Logits -> scores inside a graph: the correction as one look-up per logit channel.

The correction (Li et al. 2025, section 3.2) judges each class c under its own hypothesis:

    a_c[l] = f[l] + tau * Delta[c,l](f[l]),     score[c] = a_c[c] - log sum_{l != c} exp a_c[l],

which are log-odds: upsampled, they keep the margin of the class that wins, of which a log-probability has
nothing left. Both exp(a_c[l]) and Delta are functions of one logit, so they are tabled on an even grid of
bins (export/fold/tables.py): row k of channel l's table T_l is exp(z[k] + tau * D[c,l,k]) for all c at once,
and 0 for c == l. With k[l] the bin that f[l] falls into,

    score = f + tau * D[l,l,k[l]] - log sum_l T_l[k[l]]

is C gathers of C numbers, summed up one after the other. There is no product over hypotheses, no exponential
of a pixel, and no C*C tensor of pixels; the own term is left out by its zero and never subtracted, so nothing
cancels; and the cost does not depend on how exact the table is.

The tables are made inside the graph, of the few knots that the file stores: D is linear between knots
K[l,0] < K[l,1] < ..., so with m the last knot that is not above k

    D[c,l,k] = D[c,l,m] + (k - K[l,m]) * (D[c,l,m+1] - D[c,l,m]) / (K[l,m+1] - K[l,m]),

two look-ups in the knots. How many knots lie at or below k is counted without a number for every pair of a
knot and a bin: bins are written in two digits, k = R * b + r with R about the root of their number, and of
the knots R * b' + r'

    #(K <= k) = #(b' < b) + sum over knots of [b' = b] * [r' <= r],

of which the last is a product of matrices. So what the tables take is in proportion to the tables alone,
however many knots they have. Runtimes fold that into constants when a file is opened; of a run-time tau, all
but the last exponential. At tau == 0 the logits themselves are taken, so that labels equal the uncorrected
ones exactly.

Logits off the grid, which reaches beyond the last quantiles of all rows, weigh in the sum as its ends do.
Adding a constant to all logits of a hypothesis changes nothing, so every row of Delta is centred on 0 and the
grid on its middle: exponents then stay within float32 as long as tau * (half the range of a row) + half the
grid <= export.fold.rows.MAX_EXPONENT. So no term but the own one is smaller than exp(-80), and as there are
two classes or more, the sum whose logarithm is taken never is: no pixel needs a floor of its own.

Logits that lie farther apart (a network's, times 20) have exponentials beyond float32. Then the tables hold
the exponents, and the sums keep the greatest exponent m of each hypothesis beside them,

    m' = max(m, x),    s' = s * exp(m - m') + exp(x - m'),    log sum = m + log s,

in which nothing over- or underflows, whatever the scale. It takes C*C exponentials of a pixel, so it is for
those networks only.

Excluded classes v (`adapt.balance.correction.excluding`) are in no sum and have no shift. They keep their
distance to the best of the others,

    score[v] = f[v] - max_l f[l] + max_c score[c]         over classes l, c that are not excluded.

Several corrections may lie in one graph, with tables of their own, made as one alone makes them; the input
`profile` says which one a run takes (export/fold/rows.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from export.fold.nodes import Builder
from export.fold.rows import PROFILE, Rows, Tabled, rows_of_one, rows_of_several

_LOWEST = -1e38
"""Below every score."""


class Scores(NamedTuple):
    """What labels are made of."""

    name: str
    """Of the value [N, C, h, w]."""
    off: str | bool
    """Whether they are the logits, since the strength is 0; where runs differ, the value that says it."""
    excluded: tuple[int, ...] = ()
    """Classes that take no part in the correction."""


def corrected_scores(
    b: Builder,
    logits: str,
    tabled: Sequence[Tabled],
    runtime: bool,
    wide: bool = False,
    excluded: Sequence[int] = (),
) -> Scores:
    """Write the nodes from logits [N, C, h, w] to scores [N, C, h, w].

    Args:
        b: collects the nodes.
        logits: name of f.
        tabled: the correction; several are profiles, among which the graph's input `profile` chooses.
        runtime: the graph's input `tau` takes the place of their strengths.
        wide: exponents reach beyond what float32 has exponentials of.
        excluded: classes that take no part; two or more do.
    """
    C = len(tabled[0].table.knots)
    summed = [l for l in range(C) if l not in excluded]
    rows = (rows_of_one if len(tabled) == 1 else rows_of_several)(b, tabled, runtime, wide)
    position = _positions(b, logits, rows)
    sums = (_wide_log_sums if wide else _log_sums)(b, position, rows.others, summed)  # [N, h, w, C]
    flat = b.op("Reshape", [position, b.integers([-1], "all_pixels")], "flat_position")
    shift = b.op("GatherElements", [rows.own, flat], "own_shift_flat", axis=0)
    shift = b.op("Reshape", [shift, b.op("Shape", [logits], "shape")], "own_shift")
    corrected = b.op("Transpose", [b.op("Add", [logits, shift], "own_corrected")], "last", perm=[0, 2, 3, 1])
    scores = b.op("Sub", [corrected, sums], "corrected_last")
    scores = b.op("Transpose", [scores], "corrected", perm=[0, 3, 1, 2])
    if excluded:
        scores = _beside(b, logits, scores, excluded, C)
    if off := _off(b, tabled, runtime):
        scores = b.op("Where", [off, logits, scores], "scores_or_logits")
    return Scores(scores, off or False, tuple(excluded))


def _off(b: Builder, tabled: Sequence[Tabled], runtime: bool) -> str:
    """Whether the strength of a run is 0; no name where that can't be."""
    if runtime:
        return b.op("Equal", ["tau", b.floats(0.0, "no_tau")], "off")
    uncorrected = np.array([each.tau == 0 for each in tabled])
    if not uncorrected.any():
        return ""
    return b.op("Gather", [b.constant(uncorrected, "uncorrected_profiles"), PROFILE], "off", axis=0)


def _beside(b: Builder, logits: str, scores: str, excluded: Sequence[int], C: int) -> str:
    """Scores in which excluded classes are as far from the best of the others as in the logits."""
    out = b.constant(np.isin(np.arange(C), excluded).reshape(1, C, 1, 1), "excluded")
    lowest, axis = b.floats(_LOWEST, "lowest"), b.integers([1], "class_axis")
    best = [
        b.op("ReduceMax", [b.op("Where", [out, lowest, values], f"other_{name}"), axis], f"best_{name}")
        for name, values in (("logit", logits), ("score", scores))
    ]
    distance = b.op("Sub", [logits, best[0]], "distance_to_best")
    return b.op("Where", [out, b.op("Add", [distance, best[1]], "beside_best"), scores], "with_excluded")


def _positions(b: Builder, logits: str, rows: Rows) -> str:
    """Rows of the stacked tables, int32 [N, C, h, w]: bin numbers plus the first row of the channel."""
    bins = b.op("Mul", [logits, rows.bins_per_logit], "scaled_logits")
    bins = b.op("Add", [bins, rows.bin_of_0], "bin_positions")
    # Cut off as integers: a logit that is no number then is some bin, not a row that does not exist.
    whole = b.op("Cast", [bins], "whole_bins", to=TensorProto.INT32)
    inside = b.op("Clip", [whole, b.constant(np.array(0, np.int32), "bin_0"), rows.last_bin], "bin")
    return b.op("Add", [inside, rows.first_rows], "position")


def _log_sums(b: Builder, position: str, exponentials: str, summed: Sequence[int]) -> str:
    """Logarithm of the sum over l in `summed` of the rows at the positions [N, C, h, w]: [N, h, w, C]."""
    total = ""
    axis = b.integers([1], "split_axis")
    for l in summed:  # one at a time stays in cache
        rows = _rows(b, position, exponentials, l, axis)
        total = b.op("Add", [total, rows], f"sum{l}") if total else rows
    return b.op("Log", [b.op("Squeeze", [total, axis], "sums")], "log_sums")


def _wide_log_sums(b: Builder, position: str, exponents: str, summed: Sequence[int]) -> str:
    """The same of exponents; one at a time needs no memory for C * C numbers of a pixel."""
    axis = b.integers([1], "split_axis")
    top, total = _rows(b, position, exponents, summed[0], axis), b.floats(1.0, "first_term")
    for l in summed[1:]:
        rows = _rows(b, position, exponents, l, axis)
        higher = b.op("Max", [top, rows], f"top{l}")
        kept = b.op("Exp", [b.op("Sub", [top, higher], f"fall{l}")], f"kept{l}")
        new = b.op("Exp", [b.op("Sub", [rows, higher], f"depth{l}")], f"term{l}")
        total = b.op("Add", [b.op("Mul", [total, kept], f"sum_kept{l}"), new], f"sum{l}")
        top = higher
    sums = b.op("Add", [top, b.op("Log", [total], "logs")], "log_sums_of_all")
    return b.op("Squeeze", [sums, axis], "log_sums")


def _rows(b: Builder, position: str, table: str, l: int, axis: str) -> str:
    """The rows of channel l's table at its positions: [N, 1, h, w, C]."""
    ends = [b.integers([l], f"channel{l}"), b.integers([l + 1], f"after_channel{l}")]
    own = b.op("Slice", [position, *ends, axis], f"position{l}")
    return b.op("Gather", [table, own], f"rows{l}", axis=0)
