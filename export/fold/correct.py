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
grid <= export.fold.fold.MAX_EXPONENT. So no term but the own one is smaller than exp(-80), and as there are
two classes or more, the sum whose logarithm is taken never is: no pixel needs a floor of its own.

Logits that lie farther apart (a network's, times 20) have exponentials beyond float32. Then the tables hold
the exponents, and the sums keep the greatest exponent m of each hypothesis beside them,

    m' = max(m, x),    s' = s * exp(m - m') + exp(x - m'),    log sum = m + log s,

in which nothing over- or underflows, whatever the scale. It takes C*C exponentials of a pixel, so it is for
those networks only.

Excluded classes v (`adapt.balance.correction.excluding`) are in no sum and have no shift. They keep their
distance to the best of the others,

    score[v] = f[v] - max_l f[l] + max_c score[c]         over classes l, c that are not excluded.
"""

import math
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from export.fold.nodes import PREFIX, Builder
from export.fold.tables import LookupTable

NOTHING = -1e38
"""D of what a sum leaves out: of tau above 1e-36, exp(tau * NOTHING) is 0; of 2, it still is a float32."""
_LOWEST = -1e38
"""Below every score."""


def corrected_scores(
    b: Builder,
    logits: str,
    table: LookupTable,
    tau: float,
    runtime: bool,
    wide: bool = False,
    excluded: Sequence[int] = (),
) -> str:
    """Write the nodes from logits [N, C, h, w] to scores [N, C, h, w]; returns the scores' name.

    Args:
        b: collects the nodes.
        logits: name of f.
        table: with every row of Delta centred on 0, but for the own logit, which is in no sum.
        tau: strength; when `runtime` the graph's input `tau` takes its place.
        runtime: whether that input exists.
        wide: exponents reach beyond what float32 has exponentials of.
        excluded: classes that take no part; two or more do.
    """
    summed = [l for l in range(len(table.knots)) if l not in excluded]
    strength = "tau" if runtime else b.floats(tau, "strength")
    position = _positions(b, logits, table)
    others, own = _tables(b, table, strength, wide)
    sums = (_wide_log_sums if wide else _log_sums)(b, position, others, summed)  # [N, h, w, C]
    flat = b.op("Reshape", [position, b.integers([-1], "all_pixels")], "flat_position")
    shift = b.op("GatherElements", [own, flat], "own_shift_flat", axis=0)
    shift = b.op("Reshape", [shift, b.op("Shape", [logits], "shape")], "own_shift")
    corrected = b.op("Transpose", [b.op("Add", [logits, shift], "own_corrected")], "last", perm=[0, 2, 3, 1])
    scores = b.op("Sub", [corrected, sums], "corrected_last")
    scores = b.op("Transpose", [scores], "corrected", perm=[0, 3, 1, 2])
    if excluded:
        scores = _beside(b, logits, scores, excluded, len(table.knots))
    if not runtime:
        return scores
    off = b.op("Equal", ["tau", b.floats(0.0, "no_tau")], "off")
    return b.op("Where", [off, logits, scores], "scores_or_logits")


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


def _positions(b: Builder, logits: str, table: LookupTable) -> str:
    """Rows of the stacked tables, int32 [N, C, h, w]: bin numbers plus l * bins."""
    C = len(table.knots)
    bins = b.op("Mul", [logits, b.floats(1 / table.width, "bins_per_logit")], "scaled_logits")
    bins = b.op("Add", [bins, b.floats(0.5 - table.start / table.width, "bin_of_0")], "bin_positions")
    # Cut off as integers: a logit that is no number then is some bin, not a row that does not exist.
    whole = b.op("Cast", [bins], "whole_bins", to=TensorProto.INT32)
    ends = [b.constant(np.array(k, np.int32), name) for k, name in ((0, "bin_0"), (table.bins - 1, "bin_n"))]
    inside = b.op("Clip", [whole, *ends], "bin")
    first_rows = (np.arange(C, dtype=np.int32) * table.bins).reshape(C, 1, 1)
    return b.op("Add", [inside, b.constant(first_rows, "first_rows")], "position")


def _tables(b: Builder, table: LookupTable, strength: str, wide: bool) -> tuple[str, str]:
    """exp(z - middle + tau * D) as [C * bins, C], and tau * D - middle of the own logit as [C * bins].

    The first is 0 for c == l: the exponential of NOTHING times tau, which needs no operator of its own. If
    `wide`, it is without its exponential.
    """
    C, bins = len(table.knots), table.bins
    k = _range(b, bins, "bin_numbers")
    below = _knots_below(b, table)  # [C, bins] rows of the knots of all channels
    left = b.floats(table.knots[:, :-1].reshape(-1), "knots")
    after = b.op("Sub", [k, b.op("Gather", [left, below], "knot_below", axis=0)], "after_knot")
    after = b.op("Reshape", [after, b.integers([C, bins, 1], "bins_second")], "after_knot_column")
    shift = table.shift.transpose(1, 2, 0).copy()  # [l, M, c]
    shift[np.arange(C), :, np.arange(C)] = NOTHING
    own = table.shift.diagonal().T[:, :, None]  # [l, M, 1]
    ends = [b.integers([n], f"knots_{name}") for n, name in ((0, "from"), (-1, "to"), (1, "next"))]
    last, axis = b.integers([len(table.knots[0])], "knots_end"), b.integers([1], "knot_axis")
    widths = b.floats(1 / np.diff(table.knots)[:, :, None], "per_knot_distance")
    tables = []
    for name, values in (("shift", shift), ("own", own)):
        stored = b.floats(values, f"{name}_knots")
        rows = b.integers([-1, values.shape[2]], f"{name}_rows")
        lower = b.op("Slice", [stored, ends[0], ends[1], axis], f"{name}_lower")
        upper = b.op("Slice", [stored, ends[2], last, axis], f"{name}_upper")
        slopes = b.op("Mul", [b.op("Sub", [upper, lower], f"{name}_rises"), widths], f"{name}_slopes")
        at, slope = (
            b.op(
                "Gather",
                [b.op("Reshape", [x, rows], f"{x}_rows".removeprefix(PREFIX)), below],
                f"{name}_{of}",
            )
            for x, of in ((lower, "at_knot"), (slopes, "slope"))
        )  # [C, bins, C] and [C, bins, 1]
        between = b.op("Add", [at, b.op("Mul", [slope, after], f"{name}_beyond")], f"{name}_table")
        tables.append(b.op("Mul", [between, strength], f"strong_{name}"))
    z = b.op("Reshape", [k, b.integers([1, bins, 1], "bins_alone")], "bin_column")
    z = b.op("Mul", [z, b.floats(table.width, "bin_width")], "bin_offsets")
    z = b.op("Add", [z, b.floats(-(bins - 1) / 2 * table.width, "bin_0_centre")], "bin_centres")
    middle = table.start + (bins - 1) / 2 * table.width
    own_less_middle = b.op("Sub", [tables[1], b.floats(middle, "middle")], "own_less_middle")
    others = b.op("Add", [tables[0], z], "exponents")
    if not wide:
        others = b.op("Exp", [others], "exponentials")
    return (
        b.op("Reshape", [others, b.integers([C * bins, C], "rows")], "rows_of_all"),
        b.op("Reshape", [own_less_middle, b.integers([C * bins], "flat")], "own_of_all"),
    )


def _range(b: Builder, count: int, name: str) -> str:
    """0, 1, ... count - 1 in float, [count]."""
    ends = [b.floats(float(n), f"{name}_{end}") for n, end in ((0, "from"), (count, "to"), (1, "step"))]
    return b.op("Range", ends, name)


def _knots_below(b: Builder, table: LookupTable) -> str:
    """For every bin of a channel, [C, bins] int32: the row of its last knot at or below it.

    Rows are those of the knots but the last of each channel, of all channels one after the other.
    """
    (C, M), bins = table.knots.shape, table.bins
    R = math.isqrt(bins - 1) + 1
    # The first knot is bin 0 and the last one ends the last piece; neither begins another.
    knots = b.floats(table.knots[:, 1:-1, None], "inner_knots")  # [C, M - 2, 1]
    halves = b.op("Add", [knots, b.floats(0.5, "half_bin")], "inner_knot_middles")
    high = b.op("Floor", [b.op("Mul", [halves, b.floats(1 / R, "per_block")], "in_blocks")], "knot_blocks")
    low = b.op("Sub", [knots, b.op("Mul", [high, b.floats(R, "block")], "block_starts")], "in_block")
    digits = _range(b, R, "digits")
    flags = []
    for name, kind, inputs in (
        ("same_block", "Equal", [high, digits]),
        ("not_above", "LessOrEqual", [low, digits]),
        ("block_before", "Less", [high, digits]),
    ):
        flag = b.op(kind, inputs, name)  # [C, M - 2, R]
        flags.append(b.op("Cast", [flag], f"{name}_float", to=TensorProto.FLOAT))
    same = b.op("Transpose", [flags[0]], "same_block_last", perm=[0, 2, 1])
    inside = b.op("MatMul", [same, flags[1]], "knots_in_block")  # [C, R, R]
    before = b.op("ReduceSum", [flags[2], b.integers([1], "sum_axis")], "knots_before", keepdims=0)
    before = b.op("Reshape", [before, b.integers([C, R, 1], "blocks_second")], "knots_before_column")
    count = b.op("Add", [inside, before], "knots_below")
    count = b.op("Reshape", [count, b.integers([C, R * R], "all_bins")], "knots_below_flat")
    ends = [b.integers([n], f"bins_{name}") for n, name in ((0, "from"), (bins, "to"), (1, "axis"))]
    count = b.op("Slice", [count, *ends], "knots_below_bins")
    first = (np.arange(C) * (M - 1.0)).reshape(C, 1)
    rows = b.op("Add", [count, b.floats(first, "first_knots")], "knot_rows")
    return b.op("Cast", [rows], "whole_knot_rows", to=TensorProto.INT32)


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
