"""The tables keep what they promise: at any logit, for any statistics, against the float64 oracle."""

import numpy as np
import oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_segmenters import statistics

import export.fold.tables
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from export.fold.curves import shift_curves
from export.fold.tables import LookupTable, lookup_table


def looked_up(table: LookupTable, l: int, z: np.ndarray) -> np.ndarray:
    """D[:, l] at logits z inside the grid, [C, P], from the knots alone."""
    k = np.clip(np.round((z - table.start) / table.width), 0, table.bins - 1)
    return np.stack([np.interp(k, table.knots[l], row) for row in table.shift[:, l]])


def oracle_delta(stats: ShiftStatistics, c: int, l: int, z: np.ndarray) -> np.ndarray:
    rows, anchors = (
        tuple(part.double().numpy() for part in mixture) for mixture in (stats.rows, stats.anchors)
    )
    return oracle.delta(rows, anchors, stats.seen.numpy(), c, l, z, stats.eps)


def everywhere(table: LookupTable, l: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Random logits on the grid and beyond, and the edges of bins at knots."""
    low, high = table.start, table.start + table.bins * table.width
    edges = low + (table.knots[l] + 0.5) * table.width
    return np.concatenate([rng.uniform(low - 3, high + 3, count), edges, edges - 1e-6, [-100, 100]])


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    classes=st.sampled_from([2, 3]),
    tau=st.sampled_from([0.05, 0.2, 1.0, 2.0]),
    bound=st.sampled_from([0.005, 0.02, 0.1]),
)
def test_the_proven_error_holds_at_any_logit(seed, classes, tau, bound):
    stats = statistics(classes, seed)
    bound *= max(1, tau / 0.2)
    table = lookup_table(stats, tau, bound)
    assert table.error_at(tau) <= bound
    rng = np.random.default_rng(seed)
    errors = np.zeros((classes, classes))
    for l in range(classes):
        z = everywhere(table, l, rng, 400)
        folded = looked_up(table, l, z)
        errors[:, l] = [np.abs(folded[c] - oracle_delta(stats, c, l, z)).max() for c in range(classes)]
    for c in range(classes):
        others = max(errors[c, l] for l in range(classes) if l != c)
        assert errors[c, c] + others <= table.error_per_tau + 1e-6


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_the_grid_does_not_show_lies_within_the_remainder(seed):
    stats = statistics(2, seed)
    rng = np.random.default_rng(seed)
    for l, curves in enumerate(shift_curves(stats)):
        for c in range(2):
            cell = rng.integers(0, curves.z.shape[1] - 1, 200)
            inside = rng.uniform(0, 1, 200)
            z = curves.z[c, cell] * (1 - inside) + curves.z[c, cell + 1] * inside
            miss = np.abs(curves.at(np.broadcast_to(z, (2, 200)))[c] - oracle_delta(stats, c, l, z))
            assert (miss <= curves.remainder[c, cell] + 1e-7).all()


def narrow(width: float) -> ShiftStatistics:
    """Logits that hardly vary, moved onto broad anchors: as steep as a shift can be."""
    stats = statistics(2)
    one = Mixture(
        stats.rows.weights,
        stats.rows.means[..., :1].expand_as(stats.rows.means).clone(),
        torch.full_like(stats.rows.variances, width**2),
    )
    return ShiftStatistics(one, stats.anchors, stats.seen)


def test_very_narrow_logits_take_more_bins():
    table, wide = lookup_table(narrow(0.05), 0.2, 0.02), lookup_table(statistics(2), 0.2, 0.02)
    assert table.error_at(0.2) <= 0.02
    assert table.bins > wide.bins


def test_what_memory_does_not_hold_gets_the_finest_table_and_says_so(monkeypatch):
    monkeypatch.setattr(export.fold.tables, "MAX_BYTES", 4 * 2 * 2 * 5000)
    stats = narrow(0.001)
    table = lookup_table(stats, 0.2, 0.02)
    assert table.bins == 5000 and table.error_at(0.2) > 0.02
    z = everywhere(table, 0, np.random.default_rng(0), 2000)
    errors = [np.abs(looked_up(table, 0, z)[c] - oracle_delta(stats, c, 0, z)).max() for c in range(2)]
    assert errors[0] + max(errors) <= table.error_per_tau + 1e-6


def test_a_smaller_bound_takes_more_bins_and_the_bound_is_not_wasted():
    coarse, fine = (lookup_table(statistics(11, 1), 0.2, bound) for bound in (0.05, 0.02))
    assert coarse.bins < fine.bins
    assert coarse.error_at(0.2) <= 0.05
    assert 0.4 * 0.02 < fine.error_at(0.2) <= 0.02


def test_knots_are_few_beside_bins():
    table = lookup_table(statistics(3, 5), 0.2, 0.02)
    assert table.knots.shape[1] < table.bins / 20


def test_a_class_without_statistics_has_no_shift():
    table = lookup_table(statistics(3, 2, unseen=(1,)), 0.2, 0.02)
    assert np.abs(table.shift[1]).max() < 1e-9
    assert np.abs(table.shift[0]).max() > 0.1


def test_a_class_that_matches_its_anchors_has_no_shift():
    mixture = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 0.5]))
    rows = Mixture(*(part.expand(2, 2, 2) for part in mixture))
    anchors = Mixture(*(part.expand(2, 2) for part in mixture))
    table = lookup_table(ShiftStatistics(rows, anchors, torch.tensor([True, True])), 1.0, 0.02)
    assert np.abs(table.shift).max() < 1e-6


def test_permuting_classes_permutes_the_table():
    stats, order = statistics(4, 3), torch.tensor([2, 0, 3, 1])
    permuted = ShiftStatistics(
        Mixture(*(part[order][:, order] for part in stats.rows)), stats.anchors, stats.seen[order], stats.eps
    )
    table, other = (lookup_table(s, 0.2, 0.1) for s in (stats, permuted))
    z = np.linspace(table.start, table.start + table.bins * table.width, 300)
    for l, source in enumerate(order.tolist()):
        expected = looked_up(table, source, z)[order.numpy()]
        np.testing.assert_allclose(looked_up(other, l, z), expected, atol=1e-5)
