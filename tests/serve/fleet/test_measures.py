"""Distances and bias against their slow twins, and what they must be."""

import drift_oracle
import numpy as np
import pytest
from gathered_files import drawn, subject
from scipy.stats import norm

from serve.fleet.measures import (
    bias_of_joint,
    jensen_shannon,
    mean_confidence,
    shared_out,
    wasserstein,
)
from serve.fleet.sides import binned
from serve.gathering.counts import LEVELS
from serve.gathering.rule import BINS, Rule


def some(seed: int, C: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return shared_out(rng.integers(0, 50, (C, 40)) * (rng.random((C, 40)) < 0.5))


def test_distances_are_those_of_the_oracle() -> None:
    p, q = some(0), some(1)
    js, moved = jensen_shannon(p, q), wasserstein(p, q, 0.25)
    for c in range(4):
        assert js[c] == pytest.approx(drift_oracle.jensen_shannon(p[c], q[c]), abs=1e-9)
        assert moved[c] == pytest.approx(drift_oracle.wasserstein(p[c], q[c], 0.25), abs=1e-9)


def test_distances_are_symmetric_and_vanish_for_the_same() -> None:
    p, q = some(2), some(3)
    np.testing.assert_allclose(jensen_shannon(p, q), jensen_shannon(q, p))
    np.testing.assert_allclose(wasserstein(p, q, 1), wasserstein(q, p, 1))
    assert not jensen_shannon(p, p).any() and not wasserstein(p, p, 1).any()


def test_a_shift_moves_by_its_length_and_no_overlap_is_one() -> None:
    p = np.zeros(40)
    p[:10] = 0.1
    assert wasserstein(p, np.roll(p, 17), 0.5) == pytest.approx(17 * 0.5)
    assert jensen_shannon(p, np.roll(p, 17)) == pytest.approx(1)


def test_bias_is_that_of_the_oracle_and_sums_to_nothing() -> None:
    joint = drawn(subject(4), np.random.default_rng(4), 3000, np.array([1.5, 0, 0, -1])).joint.copy()
    found = bias_of_joint(joint, 100)
    np.testing.assert_allclose(found, drift_oracle.bias(joint, 100), atol=1e-9)
    assert found.sum() == pytest.approx(0, abs=1e-9) and np.abs(found).max() > 0.01
    joint[2] = 0  # never predicted
    np.testing.assert_allclose(bias_of_joint(joint, 100), drift_oracle.bias(joint, 100), atol=1e-9)
    assert not bias_of_joint(joint * 0, 100).any()


def test_confidence_is_a_mean_of_levels() -> None:
    counts = np.zeros((3, LEVELS), int)
    counts[0, [0, -1]] = 1, 3
    found = mean_confidence(counts)
    assert found[0] == pytest.approx((0.025 + 3 * 0.975) / 4) and np.isnan(found[1:]).all()


def test_mixtures_are_binned_as_scipy_says() -> None:
    rule = Rule(-4.0, 0.05, (0.0,))
    weights, means, variances = np.array([[0.3, 0.7]]), np.array([[-1.0, 3.0]]), np.array([[0.5, 2.0]])
    edges = np.concatenate([[-np.inf], rule.low + rule.step * np.arange(1, BINS), [np.inf]])
    levels = sum(
        w * norm.cdf(edges, m, np.sqrt(v)) for w, m, v in zip(weights[0], means[0], variances[0], strict=True)
    )
    np.testing.assert_allclose(binned(rule, weights, means, variances)[0], np.diff(levels), atol=1e-12)
