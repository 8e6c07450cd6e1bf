"""Logits on the grid of the look-up, far beyond it, and ones that are no numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_segmenters import (
    as_rows,
    card,
    correction_alone,
    logits_as_pixels,
    oracle_scores,
    statistics,
)

from export.fold.fold import Extras, Strength, fold


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000),
    classes=st.sampled_from([2, 3, 5]),
    tau=st.sampled_from([0.2, 1.0, 2.0]),
    largest=st.sampled_from([1.0, 10.0, 30.0, 100.0]),
)
def test_scores_are_right_for_any_logits_on_the_grid_and_finite_beyond(seed, classes, tau, largest):
    stats = statistics(classes, seed)
    strength = Strength(stats, "", tau, error_bound=0.1 * tau)
    model = fold(logits_as_pixels(classes), card(classes), strength, Extras(scores=True))
    logits = np.random.default_rng(seed).uniform(-largest, largest, (1, classes, 8, 8)).astype(np.float32)
    logits[0, :, 0, 0] = largest
    logits[0, :, 0, 1] = -largest
    scores = as_rows(correction_alone(model, logits))
    exact = oracle_scores(stats, as_rows(logits), tau)
    assert np.isfinite(scores).all()
    f = as_rows(logits)
    others = np.stack([np.delete(f, c, axis=1).max(1) for c in range(classes)], axis=1)  # what a score sums
    on_grid = (others > -6) & (others < 10)  # above the least quantile of these statistics, below the end
    assert np.abs(scores - exact)[on_grid].max(initial=0) <= 0.1 * tau + 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_spoils_no_other_pixel(value):
    strength = Strength(statistics(3), "")
    model = fold(logits_as_pixels(3), card(3), strength, Extras(scores=True))
    logits = np.random.default_rng(0).normal(0, 5, (1, 3, 8, 8)).astype(np.float32)
    expected = correction_alone(model, logits)
    logits[0, 1, 3, 4] = value
    scores = correction_alone(model, logits)
    scores[0, :, 3, 4] = expected[0, :, 3, 4]
    np.testing.assert_array_equal(scores, expected)
