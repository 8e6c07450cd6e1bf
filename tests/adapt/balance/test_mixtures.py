"""Mixtures: EM on histograms, and quantiles, against the float64 oracle."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_statistics import random_statistics

import adapt.balance.mixtures
from adapt.balance.histogram import LOGIT_RANGE, bin_centres
from adapt.balance.mixtures import cdf, em, em_in_blocks, quantile, spread


@given(seed=st.integers(0, 10_000), steps=st.integers(1, 4), K=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_em_on_histograms_matches_the_oracle(seed: int, steps: int, K: int) -> None:
    rng = np.random.default_rng(seed)
    centres = bin_centres(dtype=torch.float64)
    counts = torch.tensor(rng.poisson(3 * np.exp(-0.5 * ((centres.numpy() - rng.normal(0, 5)) / 3) ** 2)))
    counts = counts.double()
    start = spread(counts, centres, K)
    fitted = em(counts, centres, start, steps)
    floor = float(centres[1] - centres[0]) ** 2 / 12
    weights, means, variances = (p.numpy() for p in start)
    expected: oracle.Mixture = (weights, means, variances)
    if counts.sum() > 0:
        for _ in range(steps):
            expected = oracle.em_step(centres.numpy(), counts.numpy(), expected, floor)
    for got, want in zip(fitted, expected, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-7, atol=1e-7)


def test_em_in_float32_stays_near_float64() -> None:
    rng = np.random.default_rng(3)
    centres = bin_centres()
    counts = torch.tensor(rng.poisson(50 * np.exp(-0.5 * ((centres.numpy() - 20) / 0.4) ** 2))).float()
    single = em(counts, centres, spread(counts, centres, 5), 3)
    double = em(counts.double(), centres.double(), spread(counts.double(), centres.double(), 5), 3)
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("block", [1, 2000, 2**17])
def test_em_in_blocks_is_em_whatever_is_empty(block, monkeypatch) -> None:
    """Histograms that are narrow, broad, of one bin, of none or with gaps, one at a time or many."""
    monkeypatch.setattr(adapt.balance.mixtures, "_BLOCK", block)
    rng = np.random.default_rng(4)
    centres = bin_centres(dtype=torch.float64)
    counts = torch.tensor(rng.poisson(rng.uniform(0, 2, (5, 7, len(centres))))).double()
    counts[0, :3, 20:] = counts[1, :, :250] = counts[2, 1:] = 0
    counts[3, 0, 1:] = 0
    counts[3, 0, 0] = 40
    counts[4, :, ::3] = 0
    start = spread(counts, centres, 5)
    for got, want in zip(
        em_in_blocks(counts, centres, start, 40), em(counts, centres, start, 40), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_em_recovers_separated_clusters() -> None:
    rng = np.random.default_rng(4)
    data = np.concatenate([rng.normal(-10, 1, 6000), rng.normal(8, 2, 4000)])
    centres = bin_centres(dtype=torch.float64)
    counts = torch.tensor(np.histogram(data, bins=256, range=LOGIT_RANGE)[0]).double()
    weights, means, variances = em(counts, centres, spread(counts, centres, 2), 50)
    np.testing.assert_allclose(weights, [0.6, 0.4], atol=0.01)
    np.testing.assert_allclose(means, [-10, 8], atol=0.1)
    np.testing.assert_allclose(variances.sqrt(), [1, 2], atol=0.1)


def test_quantile_inverts_the_cdf() -> None:
    rows = random_statistics(3, 5).rows
    p = torch.linspace(0.001, 0.999, 50, dtype=torch.float64).expand(3, 3, 50)
    torch.testing.assert_close(cdf(rows, quantile(rows, p)), p, rtol=0, atol=1e-10)
