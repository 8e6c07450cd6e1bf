"""Logits -> scores inside a graph: the correction as a few convolutions and one matrix product.

The correction (Li et al. 2025, section 3.2) judges each class c under its own hypothesis:

    a_c[l] = f[l] + tau * Delta[c,l](f[l]),     score[c] = a_c[c] - log sum_l exp a_c[l].

Written out, with E[c,l](z) = exp(tau * Delta[c,l](z)) and e[l] = exp(f[l] - max f),

    score[c] = (f[c] - max f) + tau * Delta[c,c](f[c]) - log S[c],     S[c] = sum_l E[c,l](f[l]) * e[l].

E and Delta[l,l] are piecewise linear in one logit, between knots z[l,0..M] that all rows c share
(export/tables.py). With bounded ramps r[l,m] = clip((f[l] - z[l,m-1]) / (z[l,m] - z[l,m-1]), 0, 1), m = 1..M,

    E[c,l](f[l]) = E[c,l,0] + sum_m (E[c,l,m] - E[c,l,m-1]) * r[l,m],

so the sum over l *and* m is one matrix product, [C, C*M] with the products r[l,m] * e[l], plus [C, C] with e:

    ramps = Clip(Conv(f, groups=C))             C -> C*M
    own   = Conv(ramps, groups=C)               C*M -> C      tau * Delta[c,c]
    S     = steps @ (ramps * e) + start @ e     C*M -> C

Where E falls by many orders of magnitude that sum would cancel. Hats p[l,k] = min(clip(line rising to knot
k), clip(line falling from it)) then take the ramps' place: E = sum_k E[c,l,k] * p[l,k], all terms positive.

No C*C tensor exists, and exp is taken of C numbers per pixel, not of C*C. Adding a constant to all logits of
a hypothesis changes nothing, so every row of Delta is centred on 0 first: exponents stay within float32 as
long as tau * (half the range of a row) <= MAX_EXPONENT, and S >= exp(-MAX_EXPONENT) because some e[l] is 1.

With tau as an input, E at the knots is exp(tau * s[c,l,m]), computed from constants inside the graph (C*C*M
numbers), and at tau == 0 the logits themselves are taken, so that labels equal the uncorrected ones exactly.
"""

import numpy as np

from export.curves import Array
from export.nodes import Builder
from export.tables import MAX_TAU, KnotTable

MAX_RAMP_EXPONENT = 8.0
"""Largest range of tau * Delta[c,l] summed from ramps: float32 then keeps E to exp(8) / 2^24 = 0.0002."""


def corrected_scores(b: Builder, logits: str, table: KnotTable, tau: float, runtime: bool) -> str:
    """Write the nodes from logits [N, C, h, w] to scores [N, C, h, w]; returns the scores' name.

    Args:
        b: collects the nodes.
        logits: name of f.
        table: knots, with every row of Delta centred on 0.
        tau: strength; when `runtime` the graph's input `tau` takes its place.
        runtime: whether that input exists.
    """
    C = len(table.knots)
    peak = b.op("ReduceMax", [logits, b.integers([1], "channel_axis")], "peak", keepdims=1)
    centred = b.op("Sub", [logits, peak], "centred")
    likelihood = b.op("Exp", [centred], "likelihood")  # e[l]

    most = MAX_TAU if runtime else tau
    steep = most * float(np.ptp(table.shift, axis=2).max()) > MAX_RAMP_EXPONENT
    basis, own = (_hats if steep else _ramps)(b, logits, table.knots, table.own)
    B = table.intervals + (1 if steep else 0)

    flat = b.op("Reshape", [basis, b.integers([0, C, B, -1], "per_channel")], "flat_basis")  # [N, C, B, P]
    each = b.op("Reshape", [likelihood, b.integers([0, C, 1, -1], "per_pixel")], "flat_likelihood")
    product = b.op("Mul", [flat, each], "weighted_basis")
    product = b.op("Reshape", [product, b.integers([0, C * B, -1], "stacked")], "stacked_basis")

    exponentials = _exponentials(b, table, tau, runtime)
    if steep:
        weight = b.op("Reshape", [exponentials, b.integers([C, C * B], "weight_shape")], "weight")
        total = b.op("MatMul", [weight, product], "totals")  # S [N, C, P]
    else:
        rise, start = _rises(b, exponentials, C, B)
        each = b.op("Reshape", [likelihood, b.integers([0, C, -1], "pixels_last")], "stacked_likelihood")
        starts = b.op("MatMul", [start, each], "starts")
        total = b.op("Add", [b.op("MatMul", [rise, product], "rises"), starts], "totals")
    log = b.op("Reshape", [b.op("Log", [total], "log_totals"), b.op("Shape", [logits], "shape")], "log_sums")
    scale = "tau" if runtime else b.floats(tau, "strength")
    shifted = b.op("Add", [centred, b.op("Mul", [own, scale], "strong_own_shift")], "own_corrected")
    scores = b.op("Sub", [shifted, log], "corrected")
    if not runtime:
        return scores
    off = b.op("Equal", ["tau", b.floats(0.0, "no_tau")], "off")
    return b.op("Where", [off, logits, scores], "scores_or_logits")


def _ramps(b: Builder, logits: str, knots: Array, own: Array) -> tuple[str, str]:
    """r[l,m] [N, C*M, h, w], and the own shift [N, C, h, w] made of them."""
    slope = 1 / np.diff(knots)
    ramps = _clipped_lines(b, logits, slope, -knots[:, :-1] * slope, "ramps")
    steps, start = b.floats(np.diff(own)[:, :, None, None], "own_steps"), b.floats(own[:, 0], "own_start")
    return ramps, b.op("Conv", [ramps, steps, start], "own_shift", group=len(own))


def _hats(b: Builder, logits: str, knots: Array, own: Array) -> tuple[str, str]:
    """p[l,k] [N, C*(M+1), h, w], and the own shift [N, C, h, w] made of them."""
    slope = 1 / np.diff(knots)
    none, full = np.zeros((len(knots), 1)), np.ones((len(knots), 1))
    rise = np.concatenate([none, slope], 1), np.concatenate([full, -knots[:, :-1] * slope], 1)
    fall = np.concatenate([-slope, none], 1), np.concatenate([knots[:, 1:] * slope, full], 1)
    sides = [_clipped_lines(b, logits, *rise, "rising"), _clipped_lines(b, logits, *fall, "falling")]
    hats = b.op("Min", sides, "hats")
    return hats, b.op(
        "Conv", [hats, b.floats(own[:, :, None, None], "own_knots")], "own_shift", group=len(own)
    )


def _clipped_lines(b: Builder, logits: str, slope: Array, offset: Array, name: str) -> str:
    """clip(slope * f[l] + offset, 0, 1), [N, C*B, h, w], from slopes and offsets [C, B]."""
    weight = b.floats(slope.reshape(-1, 1, 1, 1), f"{name}_slope")
    line = b.op(
        "Conv",
        [logits, weight, b.floats(offset.reshape(-1), f"{name}_offset")],
        f"{name}_lines",
        group=len(slope),
    )
    return b.op("Clip", [line, b.floats(0.0, f"{name}_least"), b.floats(1.0, f"{name}_most")], name)


def _exponentials(b: Builder, table: KnotTable, tau: float, runtime: bool) -> str:
    """E[c,l] at the knots, [C, C, M + 1]: constants, or made of the input `tau`."""
    if not runtime:
        return b.floats(np.exp(tau * table.shift), "knot_exponentials")
    exponent = b.op("Mul", [b.floats(table.shift, "knot_shift"), "tau"], "knot_exponents")
    return b.op("Exp", [exponent], "knot_exponentials")


def _rises(b: Builder, exponentials: str, C: int, M: int) -> tuple[str, str]:
    """E[c,l,m] - E[c,l,m-1] as [C, C*M], and E[c,l,0] as [C, C]; runtimes fold this when tau is fixed."""
    last = b.integers([2], "knot_axis")
    zero, one = b.integers([0], "first"), b.integers([1], "second")
    after = b.op("Slice", [exponentials, one, b.integers([M + 1], "end"), last], "after")
    before = b.op("Slice", [exponentials, zero, b.integers([M], "last_but_one"), last], "before")
    rise = b.op("Sub", [after, before], "rise")
    first = b.op("Slice", [exponentials, zero, one, last], "first_knots")
    return (
        b.op("Reshape", [rise, b.integers([C, C * M], "steps_shape")], "steps"),
        b.op("Reshape", [first, b.integers([C, C], "start_shape")], "start"),
    )
