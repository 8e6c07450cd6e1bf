"""The knots keep what they promise: at any logit, for any statistics, against the float64 oracle."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from onnx_segmenters import statistics

from adapt.errors import InputError
from adapt.logit_statistics import ShiftStatistics
from adapt.mixtures import Mixture
from export.curves import shift_curves
from export.tables import KnotTable, Strengths, knot_table


def knot_values(table: KnotTable, l: int, z: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """What the graph computes of channel l at z, from the table alone: (log E / tau [C, P], own [P])."""
    exponentials = np.exp(tau * table.shift[:, l])
    sums = np.stack([np.interp(z, table.knots[l], row) for row in exponentials])
    return np.log(sums) / tau, np.interp(z, table.knots[l], table.own[l])


def oracle_delta(stats: ShiftStatistics, c: int, l: int, z: np.ndarray) -> np.ndarray:
    rows, anchors = (
        tuple(part.double().numpy() for part in mixture) for mixture in (stats.rows, stats.anchors)
    )
    return oracle.delta(rows, anchors, stats.seen.numpy(), c, l, z, stats.eps)


def everywhere(table: KnotTable, l: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Random logits inside and outside the knots, and the knots with their neighbourhood."""
    low, high = table.knots[l, 0], table.knots[l, -1]
    near = table.knots[l] + rng.normal(0, 1e-3, table.knots[l].shape)
    return np.concatenate([rng.uniform(low - 3, high + 3, count), table.knots[l], near, [-100, 100]])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.sampled_from([2, 3]), tau=st.sampled_from([0.05, 0.2, 1.0]))
def test_the_proven_error_holds_at_any_logit(seed, classes, tau):
    stats = statistics(classes, seed)
    try:
        table = knot_table(stats, Strengths(tau, tau), 0.02 / tau)
    except InputError as refusal:  # so steep that it is refused in words, which is no wrong table
        assert "more than 512 knots" in refusal.message
        reject()
    assert table.error_per_tau * tau <= 0.02
    rng = np.random.default_rng(seed)
    for l in range(classes):
        z = everywhere(table, l, rng, 400)
        folded, own = knot_values(table, l, z, tau)
        exponent = [np.abs(folded[c] - oracle_delta(stats, c, l, z)).max() for c in range(classes)]
        own_error = np.abs(own - oracle_delta(stats, l, l, z)).max()
        assert own_error + exponent[l] <= table.error_per_tau + 1e-6
        assert max(exponent) <= table.error_per_tau + 1e-6


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), tau=st.floats(0.01, 2.0))
def test_a_table_for_a_range_of_tau_holds_in_proportion_to_tau(seed, tau):
    stats = statistics(2, seed)
    table = knot_table(stats, Strengths(0, 2), 0.1)
    for l in range(2):
        z = everywhere(table, l, np.random.default_rng(seed), 300)
        folded, _ = knot_values(table, l, z, tau)
        for c in range(2):
            assert np.abs(folded[c] - oracle_delta(stats, c, l, z)).max() <= table.error_per_tau + 1e-6


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


def test_a_smaller_bound_takes_more_knots_and_the_bound_is_not_wasted():
    stats = statistics(11, 1)
    coarse, fine = (knot_table(stats, Strengths(0.2, 0.2), bound / 0.2) for bound in (0.05, 0.02))
    assert coarse.intervals < fine.intervals
    for table, bound in ((coarse, 0.05), (fine, 0.02)):
        assert 0.7 * bound < 0.2 * table.error_per_tau <= bound


def test_fewer_knots_than_even_spacing_needs():
    """The reason for placing by curvature: even knots of the same number miss by far more."""
    stats = statistics(3, 5)
    table = knot_table(stats, Strengths(0.2, 0.2), 0.1)
    worst = 0.0
    for l, curves in enumerate(shift_curves(stats)):
        even = np.linspace(table.knots[l, 0], table.knots[l, -1], table.intervals + 1)
        z = np.linspace(even[0], even[-1], 4000)
        exact, at_knots = curves.at(z), curves.at(even)
        worst = max(
            worst, *(np.abs(np.interp(z, even, v) - e).max() for v, e in zip(at_knots, exact, strict=True))
        )
    assert worst > 2 * table.error_per_tau


def test_a_class_without_statistics_has_no_shift():
    table = knot_table(statistics(3, 2, unseen=(1,)), Strengths(0.2, 0.2), 0.1)
    assert np.abs(table.shift[1]).max() == 0
    assert np.abs(table.own[1]).max() == 0
    assert np.abs(table.shift[0]).max() > 0.1


def test_a_class_that_matches_its_anchors_has_no_shift():
    mixture = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 0.5]))
    rows = Mixture(*(part.expand(2, 2, 2) for part in mixture))
    anchors = Mixture(*(part.expand(2, 2) for part in mixture))
    table = knot_table(ShiftStatistics(rows, anchors, torch.tensor([True, True])), Strengths(1, 1), 0.02)
    assert np.abs(table.shift).max() < 1e-6
    assert table.intervals == 1


def test_permuting_classes_permutes_the_table():
    stats, order = statistics(4, 3), torch.tensor([2, 0, 3, 1])
    permuted = ShiftStatistics(
        Mixture(*(part[order][:, order] for part in stats.rows)), stats.anchors, stats.seen[order], stats.eps
    )
    table, other = (knot_table(s, Strengths(0.2, 0.2), 0.1) for s in (stats, permuted))
    p = order.numpy()
    np.testing.assert_allclose(other.knots, table.knots[p], atol=1e-5)
    np.testing.assert_allclose(other.shift, table.shift[p][:, p], atol=1e-5)
    np.testing.assert_allclose(other.own, table.own[p], atol=1e-5)


def test_a_bound_that_cannot_be_met_is_refused_in_one_sentence():
    with pytest.raises(InputError, match=r"raise --error-bound, or lower --tau"):
        knot_table(statistics(2, 0), Strengths(2, 2), 1e-5)
