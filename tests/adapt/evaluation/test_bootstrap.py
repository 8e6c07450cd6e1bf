"""Intervals by drawing pictures again: those of a slow loop, and no more often wrong than they may be."""

import evaluation_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt.evaluation.bootstrap import LEAST_PICTURES, changes, drawn

EXACT = 1e-12  # float64 ratios of integers


def pictures(rng: np.random.Generator, count: int, classes: int, hits: float) -> list[np.ndarray]:
    """Confusion matrices with a class that is not in every picture."""
    found = []
    for _ in range(count):
        confusion = rng.integers(0, 30, (classes, classes)) + np.diag(rng.poisson(hits, classes))
        if rng.random() < 0.5:
            confusion[-1] = 0
        found.append(confusion)
    return found


def margins(confusions: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.stack([c.diagonal(), c.sum(1), c.sum(0)]) for c in confusions])


@given(st.integers(0, 2**32 - 1), st.integers(LEAST_PICTURES, 9), st.integers(2, 5))
@settings(deadline=None, max_examples=15)
def test_intervals_are_those_of_the_slow_loop(seed: int, count: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    plain = pictures(rng, count, classes, 30)
    other = [c + np.diag(rng.integers(0, 9, classes)) * (c.sum(1) > 0) for c in plain]
    found = changes({0.0: margins(plain), 0.5: margins(other)}, 0.0, draws=40, seed=7)
    assert list(found) == [0.5]
    expected = oracle.bootstrap_intervals(plain, other, draws=40, seed=7)
    assert found[0.5].mean_iou == pytest.approx(expected[0], abs=EXACT)
    assert found[0.5].mean_accuracy == pytest.approx(expected[1], abs=EXACT)


def test_the_same_seed_gives_the_same_draws_and_another_does_not() -> None:
    first, again, other = (np.stack(list(drawn(8, 5, seed))) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()
    assert (first.sum(1) == 8).all()


def test_pictures_without_labels_change_nothing() -> None:
    rng = np.random.default_rng(3)
    plain, other = (margins(pictures(rng, 6, 3, hits)) for hits in (20, 40))
    empty = np.zeros((2, 3, 3), np.int64)
    padded = {0.0: np.concatenate([empty, plain]), 1.0: np.concatenate([empty, other])}
    assert changes(padded, 0.0, draws=20) == changes({0.0: plain, 1.0: other}, 0.0, draws=20)


def test_too_few_pictures_have_no_interval() -> None:
    few = margins(pictures(np.random.default_rng(0), LEAST_PICTURES - 1, 3, 20))
    assert changes({0.0: few, 1.0: few}, 0.0) == {}


def test_equal_ways_differ_by_nothing() -> None:
    same = margins(pictures(np.random.default_rng(0), 6, 3, 20))
    (change,) = changes({0.0: same, 1.0: same}, 0.0, draws=20).values()
    assert change.mean_iou == change.mean_accuracy == (0.0, 0.0)


@pytest.mark.parametrize("count", [16, 60])
def test_what_makes_no_difference_is_seldom_called_one(count: int) -> None:
    """Of 200 data sets where two ways differ by chance alone, an interval of 95 % should lie above 0 in 5.

    Of few pictures it is a little too narrow, as percentile intervals are; 20 of 200 are allowed.
    """
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(200):
        truth = rng.integers(50, 400, (count, 3))
        hits = [rng.binomial(truth, rng.beta(40, 20, (count, 3))) for _ in range(2)]
        made = [np.stack([right, truth, truth], 1) for right in hits]
        change = changes({0.0: made[0], 1.0: made[1]}, 0.0, draws=200)[1.0]
        wrong += change.mean_accuracy.low > 0
    assert wrong <= 20
