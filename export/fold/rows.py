"""The tables of corrections inside a graph, and which of them a run looks its logits up in.

A table is made of the few knots that the file stores, see export/fold/correct.py. Runtimes fold that into
constants when a file is opened; of a run-time tau, all but the last exponential.

Of several corrections (profiles), every one is made by the same nodes as if it were alone, so its numbers are
the same bit by bit. Their tables are stacked, and the run's profile p moves the first row of each channel:

    row = first_row[p, l] + k[l]

Four small constants are gathered once per run, and no pixel costs more than with one table. With a run-time
tau the exponentials are taken per run, so the tables of p are gathered before that: once per run, of a few
MB. There, tables of fewer bins than others are filled up with bins that nothing falls into.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from export.fold.nodes import Builder
from export.fold.tables import LookupTable

PROFILE = "profile"
"""The graph's input that chooses, int32; its default is 0, the first profile."""
MAX_EXPONENT = 80.0
"""Largest tau * |Delta| of centred rows and half of the grid together whose exponential goes into a table;
float32 holds exp(88), and 300 classes add 6 to the exponent of their sum."""
NOTHING = -1e38
"""D of what a sum leaves out: of tau above 1e-36, exp(tau * NOTHING) is 0; of 2, it still is a float32."""


class Tabled(NamedTuple):
    """One correction."""

    table: LookupTable
    """With every row of Delta centred on 0, but for the own logit, which is in no sum."""
    tau: float


def scope_of(profile: int) -> str:
    """What the names of a profile's own constants begin with, behind PREFIX; nothing for the first one's."""
    return f"profile{profile}/" if profile else ""


def centred_table(table: LookupTable, most: float) -> tuple[LookupTable, bool]:
    """The table with every row of Delta centred on 0, its own logit left aside.

    And whether exponents at the strength `most` are too wide for their exponentials to be tabled.
    """
    own = np.eye(len(table.knots), dtype=bool)[:, :, None]
    top = np.where(own, -np.inf, table.shift).max((1, 2))
    bottom = np.where(own, np.inf, table.shift).min((1, 2))
    widest = most * float((top - bottom).max() / 2) + table.width * table.bins / 2
    centred = replace(table, shift=table.shift - ((top + bottom) / 2)[:, None, None])
    return centred, widest > MAX_EXPONENT


class Rows(NamedTuple):
    """Names of what logits are looked up with."""

    others: str
    """[rows, C]: exp(z - middle + tau * D), 0 for c == l; without its exponential for wide sums."""
    own: str
    """[rows]: tau * D - middle of the own logit."""
    bins_per_logit: str
    bin_of_0: str
    """Where logit 0 lies, in bins, and a half, so that cutting off rounds."""
    last_bin: str
    first_rows: str
    """int32 [C, 1, 1]: of every channel."""


class _Shifts(NamedTuple):
    """Names of Delta in every bin, before the strength."""

    others: str
    """[C, bins, C]: [l, k, c], NOTHING for c == l."""
    own: str
    """[C, bins, 1]"""
    centres: str
    """[1, bins, 1]: of the bins, beside the grid's middle."""
    middle: str
    """In logits."""


def rows_of_one(b: Builder, tabled: Sequence[Tabled], runtime: bool, wide: bool) -> Rows:
    """Of a single correction: all but the tables of a run-time tau is constant."""
    (table, tau), C = tabled[0], len(tabled[0].table.knots)
    strength = "tau" if runtime else b.floats(tau, "strength")
    per_logit = b.floats(_per_logit(table), "bins_per_logit")
    of_0 = b.floats(_of_0(table), "bin_of_0")
    last = b.constant(np.array(table.bins - 1, np.int32), "bin_n")
    first = b.constant(_first_rows(C, table.bins), "first_rows")
    others, own = _strong(b, _shifts(b, table), strength, wide, (C, table.bins))
    return Rows(others, own, per_logit, of_0, last, first)


def rows_of_several(b: Builder, tabled: Sequence[Tabled], runtime: bool, wide: bool) -> Rows:
    """Of several corrections, for the one that the input `profile` says."""
    tables, C = [each.table for each in tabled], len(tabled[0].table.knots)
    most = max(table.bins for table in tables)
    parts = [b.within(scope_of(n)) for n in range(len(tabled))]
    if runtime:
        shifts = [
            _filled(part, _shifts(part, table), most - table.bins)
            for part, table in zip(parts, tables, strict=True)
        ]
        others, own = _strong(b, _chosen(b, shifts), "tau", wide, (C, most))
        first = np.stack([_first_rows(C, most) for _ in tables])
    else:
        made = [
            _strong(part, _shifts(part, table), part.floats(tau, "strength"), wide, (C, table.bins))
            for part, (table, tau) in zip(parts, tabled, strict=True)
        ]
        others, own = (
            b.op("Concat", list(names), f"{name}_of_profiles", axis=0)
            for name, names in zip(("rows", "own"), zip(*made, strict=True), strict=True)
        )
        begins = np.cumsum([0, *(C * table.bins for table in tables[:-1])])
        first = np.stack([begin + _first_rows(C, t.bins) for begin, t in zip(begins, tables, strict=True)])
    per_logit, of_0, last, rows = (
        b.op("Gather", [constant, PROFILE], name, axis=0)
        for constant, name in (
            (b.floats(np.array([_per_logit(t) for t in tables]), "all_bins_per_logit"), "bins_per_logit"),
            (b.floats(np.array([_of_0(t) for t in tables]), "all_bin_of_0"), "bin_of_0"),
            (b.constant(np.array([t.bins - 1 for t in tables], np.int32), "all_bin_n"), "bin_n"),
            (b.constant(first.astype(np.int32), "all_first_rows"), "first_rows"),
        )
    )
    return Rows(others, own, per_logit, of_0, last, rows)


def _per_logit(table: LookupTable) -> float:
    return 1 / table.width


def _of_0(table: LookupTable) -> float:
    return 0.5 - table.start / table.width


def _first_rows(C: int, bins: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.int32]]:
    return (np.arange(C, dtype=np.int32) * bins).reshape(C, 1, 1)


def _shifts(b: Builder, table: LookupTable) -> _Shifts:
    """Delta in every bin, of the knots."""
    C, bins = len(table.knots), table.bins
    k = _range(b, bins, "bin_numbers")
    below = _knots_below(b, table)  # [C, bins]
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
        flat = b.integers([-1, values.shape[2]], f"{name}_flat")
        lower = b.op("Slice", [stored, ends[0], ends[1], axis], f"{name}_lower")
        upper = b.op("Slice", [stored, ends[2], last, axis], f"{name}_upper")
        slopes = b.op("Mul", [b.op("Sub", [upper, lower], f"{name}_rises"), widths], f"{name}_slopes")
        at, slope = (
            b.op("Gather", [b.op("Reshape", [x, flat], f"{name}_{of}_flat"), below], f"{name}_{of}", axis=0)
            for x, of in ((lower, "at_knot"), (slopes, "slope"))
        )  # [C, bins, C], and [C, bins, 1] of the own
        beyond = b.op("Mul", [slope, after], f"{name}_beyond")
        tables.append(b.op("Add", [at, beyond], f"{name}_table"))
    z = b.op("Reshape", [k, b.integers([1, bins, 1], "bins_alone")], "bin_column")
    z = b.op("Mul", [z, b.floats(table.width, "bin_width")], "bin_offsets")
    z = b.op("Add", [z, b.floats(-(bins - 1) / 2 * table.width, "bin_0_centre")], "bin_centres")
    middle = b.floats(table.start + (bins - 1) / 2 * table.width, "middle")
    return _Shifts(tables[0], tables[1], z, middle)


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


def _strong(b: Builder, shifts: _Shifts, strength: str, wide: bool, size: tuple[int, int]) -> tuple[str, str]:
    """The tables at a strength, [C * bins, C] and [C * bins], of C, bins = `size`.

    The first is 0 for c == l: the exponential of NOTHING times tau, which needs no operator of its own.
    """
    C, bins = size
    strong, own = (
        b.op("Mul", [values, strength], f"strong_{name}")
        for name, values in (("shift", shifts.others), ("own", shifts.own))
    )
    own = b.op("Sub", [own, shifts.middle], "own_less_middle")
    others = b.op("Add", [strong, shifts.centres], "exponents")
    if not wide:
        others = b.op("Exp", [others], "exponentials")
    return (
        b.op("Reshape", [others, b.integers([C * bins, C], "rows")], "rows_of_all"),
        b.op("Reshape", [own, b.integers([C * bins], "flat")], "own_of_all"),
    )


def _filled(b: Builder, shifts: _Shifts, missing: int) -> _Shifts:
    """With so many bins more, which hold 0."""
    if not missing:
        return shifts
    pads = b.integers([0, 0, 0, 0, missing, 0], "missing_bins")

    def wider(values: str, name: str) -> str:
        return b.op("Pad", [values, pads], f"filled_{name}", mode="constant")

    own, centres = wider(shifts.own, "own"), wider(shifts.centres, "centres")
    return _Shifts(wider(shifts.others, "shift"), own, centres, shifts.middle)


def _chosen(b: Builder, all_of: Sequence[_Shifts]) -> _Shifts:
    """Those of the run's profile."""
    axis = b.integers([0], "profile_axis")
    found = []
    for field, names in zip(_Shifts._fields, zip(*all_of, strict=True), strict=True):
        each = [b.op("Unsqueeze", [name, axis], f"{field}_{n}") for n, name in enumerate(names)]
        stacked = b.op("Concat", each, f"{field}_of_profiles", axis=0)
        found.append(b.op("Gather", [stacked, PROFILE], f"chosen_{field}", axis=0))
    return _Shifts(*found)
