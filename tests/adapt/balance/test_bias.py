"""Bias with and without labels against the oracle."""

import itertools

import numpy as np
import oracle
import oracle_scores
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import adapt.balance.bias
from adapt.balance.bias import (
    argmax_shares,
    bias_left,
    bias_of_shares,
    bias_with_labels,
    bias_without_labels,
    bias_without_labels_corrected,
    corrected_argmax_shares,
    doubt,
)
from adapt.balance.correction import shift_table
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture

EXACT = 1e-12  # float64 sums
QUADRATURE = 1e-3  # documented accuracy of argmax_shares
HYPERCUBE = 0.5 / np.sqrt(4096)  # one standard error of corrected_argmax_shares, at most

seeds = st.integers(0, 2**32 - 1)


def statistics_of(rows: oracle.Mixture, anchors: oracle.Mixture, seen: np.ndarray) -> ShiftStatistics:
    def tensors(mixture: oracle.Mixture) -> Mixture:
        return Mixture(*(torch.from_numpy(np.ascontiguousarray(part)).float() for part in mixture))

    return ShiftStatistics(tensors(rows), tensors(anchors), torch.from_numpy(seen), eps=0.01)


@given(seeds, st.integers(2, 12), st.floats(0, 1))
def test_bias_with_labels_matches_the_oracle(seed, classes, absent):
    rng = np.random.default_rng(seed)
    confusion = rng.integers(0, 1000, size=(classes, classes))
    confusion[rng.random(classes) < absent] = 0
    if confusion.sum() == 0:
        confusion[0, 0] = 1
    bias = bias_with_labels(torch.from_numpy(confusion)).numpy()
    assert bias == pytest.approx(oracle_scores.bias(confusion), abs=EXACT)
    assert bias.sum() == pytest.approx(0, abs=1e-9)


def test_bias_of_nothing_known_is_zero():
    shares = torch.full((3, 3), torch.nan)
    assert bias_of_shares(shares, torch.zeros(3, dtype=torch.bool)).tolist() == [0, 0, 0]


@given(seeds, st.integers(2, 6))
@settings(max_examples=10, deadline=None)
def test_quadrature_matches_an_adaptive_integral(seed, classes):
    rng = np.random.default_rng(seed)
    rows, anchors, seen = oracle.random_statistics(rng, classes)
    shares = argmax_shares(statistics_of(rows, anchors, seen)).numpy()
    c, l = rng.integers(0, classes, size=2)

    def integrand(z: float) -> float:
        others = [float(oracle.cdf(oracle.at(rows, c, k), z)) for k in range(classes) if k != l]
        return float(oracle.pdf(oracle.at(rows, c, l), z)) * np.prod(others)

    # In pieces, so that the adaptive rule finds narrow components.
    edges = np.linspace(-20, 20, 41)
    integral = sum(quad(integrand, a, b)[0] for a, b in itertools.pairwise(edges))
    assert shares[c, l] == pytest.approx(integral, abs=QUADRATURE)


@given(seeds, st.integers(2, 8))
@settings(max_examples=10, deadline=None)
def test_bias_without_labels_matches_draws(seed, classes):
    rng = np.random.default_rng(seed)
    rows, anchors, seen = oracle.random_statistics(rng, classes)
    seen[rng.integers(classes)] = False
    draws = 20_000
    bias = bias_without_labels(statistics_of(rows, anchors, seen)).numpy()
    expected = oracle_scores.bias_without_labels(rows, seen, draws, rng)
    assert bias == pytest.approx(expected, abs=5 * 0.5 / np.sqrt(draws) + QUADRATURE)
    assert bias.sum() == pytest.approx(0, abs=1e-9)


def test_narrow_components_keep_their_mass():
    """Spikes a thousand times narrower than a grid cell: each row is decided for certain."""
    means = np.array([[3.0, 1.0, -40.0], [0.5, 0.4, -1.0], [9.0, 8.0, 60.0]])[..., None]
    rows = (np.ones((3, 3, 1)), means, np.full((3, 3, 1), 1e-10))
    anchors = (np.ones((2, 1)), np.zeros((2, 1)), np.ones((2, 1)))
    shares = argmax_shares(statistics_of(rows, anchors, np.ones(3, dtype=bool)))
    assert shares.numpy() == pytest.approx(np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1]]), abs=QUADRATURE)


def test_the_grid_of_many_classes_is_fine_enough(monkeypatch):
    statistics = statistics_of(*oracle.random_statistics(np.random.default_rng(3), 12))
    fine = argmax_shares(statistics)
    monkeypatch.setattr(adapt.balance.bias, "FEW", 11)
    coarse = argmax_shares(statistics)
    assert not torch.equal(coarse, fine)
    assert (coarse - fine).abs().max() < 0.1 * QUADRATURE


def test_rows_are_the_same_however_many_are_drawn_at_once():
    """With few draws, some rows at a time; with the default, one."""
    statistics = statistics_of(*oracle.random_statistics(np.random.default_rng(4), 5))
    wanted = torch.tensor([True, False, True, True, False])
    together = corrected_argmax_shares(statistics, [0.0, 0.5], 256)
    some = corrected_argmax_shares(statistics, [0.0, 0.5], 256, wanted, shift_table(statistics))
    for whole, part in zip(together, some, strict=True):
        assert torch.equal(part[wanted], whole[wanted]) and not part[~wanted].any()
    for c in range(5):
        alone = corrected_argmax_shares(statistics, [0.5], 256, torch.arange(5) == c)[0]
        assert torch.equal(alone[c], together[1][c])


@pytest.mark.parametrize("tau", [0.0, 0.2, 1.0])
def test_corrected_shares_match_draws_scored_by_the_oracle(tau):
    rng = np.random.default_rng(7)
    rows, anchors, seen = oracle.random_statistics(rng, 3)
    seen[1] = False
    shares = corrected_argmax_shares(statistics_of(rows, anchors, seen), [tau])[0].numpy()
    draws = 4000
    for c in (0, 2):
        logits = np.stack([oracle_scores.draw(oracle.at(rows, c, l), draws, rng) for l in range(3)], axis=1)
        predicted = oracle.scores(rows, anchors, seen, logits, tau).argmax(axis=1)
        expected = np.bincount(predicted, minlength=3) / draws
        assert shares[c] == pytest.approx(expected, abs=5 * 0.5 / np.sqrt(draws))


def test_zero_strength_agrees_with_the_quadrature():
    statistics = statistics_of(*oracle.random_statistics(np.random.default_rng(1), 7))
    plain, drawn = argmax_shares(statistics), corrected_argmax_shares(statistics, [0.0, 0.5])[0]
    assert drawn.numpy() == pytest.approx(plain.numpy(), abs=5 * HYPERCUBE)
    assert torch.equal(drawn, corrected_argmax_shares(statistics, [0.0])[0]), "the same every time"


def test_correction_reduces_the_estimated_bias_of_a_favoured_class():
    """Class 0 gets higher logits than the rest, on its own pixels and on everybody else's."""
    means = np.where(np.eye(4, dtype=bool), 2.0, -1.0)
    means[:, 0] += 2.0
    rows = (np.ones((4, 4, 1)), means[..., None], np.full((4, 4, 1), 1.0))
    pooled = [np.diag(means), means[~np.eye(4, dtype=bool)]]
    anchors = (
        np.ones((2, 1)),
        np.array([[part.mean()] for part in pooled]),
        np.array([[1 + part.var()] for part in pooled]),
    )
    statistics = statistics_of(rows, anchors, np.ones(4, dtype=bool))
    plain = bias_without_labels(statistics)
    assert plain[0] > 0.1 and (plain[1:] < 0).all()
    totals = [float(plain.abs().sum())]
    totals += [float(bias_without_labels_corrected(statistics, tau).abs().sum()) for tau in (0.2, 0.5, 1.0)]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < 0.2 * totals[0]


def test_permuting_the_classes_permutes_the_bias():
    rows, anchors, seen = oracle.random_statistics(np.random.default_rng(5), 5)
    seen[3] = False
    order = np.array([4, 1, 0, 3, 2])
    permuted = tuple(part[np.ix_(order, order)] for part in rows)
    plain = bias_without_labels(statistics_of(rows, anchors, seen)).numpy()
    moved = bias_without_labels(statistics_of(permuted, anchors, seen[order])).numpy()
    assert moved == pytest.approx(plain[order], abs=1e-9)


def favouring(gain: float) -> ShiftStatistics:
    """Statistics of six classes; logits of the first are larger by `gain`, on all pixels."""
    means = np.where(np.eye(6, dtype=bool), 2.0, -1.0)
    means[:, 0] += gain
    rows = (np.ones((6, 6, 1)), means[..., None], np.full((6, 6, 1), 1.0))
    anchors = (np.ones((2, 1)), np.array([[2.0], [-1.0]]), np.ones((2, 1)))
    return statistics_of(rows, anchors, np.ones(6, dtype=bool))


def test_what_a_little_correction_leaves_is_the_ratio_of_two_estimates():
    statistics = favouring(2.0)
    before = float(bias_without_labels_corrected(statistics, 0.0).abs().sum())
    after = float(bias_without_labels_corrected(statistics, 0.1).abs().sum())
    assert bias_left(statistics) == pytest.approx(after / before, abs=0.01)
    assert bias_left(statistics) < 0.82 and doubt(statistics) == ""


def test_a_correction_that_evens_nothing_out_is_doubted():
    """The first class is favoured, and its anchors say that it should be even more."""
    rows = favouring(2.0).rows
    raised = ShiftStatistics(
        rows,
        Mixture(torch.ones(2, 1), torch.tensor([[9.0], [-1.0]]), torch.tensor([[25.0], [1.0]])),
        torch.tensor([True, False, False, False, False, False]),
        eps=0.01,
    )
    assert bias_left(raised) > 0.82
    assert f"would leave {bias_left(raised):.0%} of the bias" in doubt(raised)


def test_where_there_is_no_bias_nothing_is_doubted():
    rows = (np.ones((2, 2, 1)), np.full((2, 2, 1), 1.0), np.full((2, 2, 1), 1.0))
    anchors = (np.ones((2, 1)), np.ones((2, 1)), np.ones((2, 1)))
    even = statistics_of(rows, anchors, np.zeros(2, dtype=bool))
    assert np.isnan(bias_left(even)) and doubt(even) == ""
