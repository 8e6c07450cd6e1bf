"""Post-hoc scores are log-odds: against the float64 oracle, at decoder pixels and between them."""

import log_odds
import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_statistics import as_oracle, random_statistics

from adapt.balance.correction import posthoc_scores, shift_table
from adapt.evaluation.prediction import labels_of_logits


def flat(maps: torch.Tensor) -> np.ndarray:
    """[1, C, h, w] -> [P, C] in float64."""
    return maps[0].flatten(1).t().double().numpy()


@given(seed=st.integers(0, 10_000), C=st.sampled_from([2, 3, 7]), tau=st.sampled_from([0.1, 0.2, 1.0, 2.0]))
@settings(max_examples=12, deadline=None)
def test_posthoc_scores_match_the_oracle(seed: int, C: int, tau: float) -> None:
    statistics = random_statistics(C, seed, unseen=seed % C if seed % 2 else None)
    logits = torch.randn(1, C, 4, 5, generator=torch.Generator().manual_seed(seed)) * 6
    got = posthoc_scores(logits, shift_table(statistics.to(torch.float32), 1024), tau)
    want = log_odds.scores(*as_oracle(statistics), flat(logits), tau)
    np.testing.assert_allclose(flat(got), want, atol=0.02 * max(1.0, tau))


def test_strength_zero_takes_the_logits_themselves() -> None:
    logits = torch.randn(1, 4, 8, 8)
    table = shift_table(random_statistics(4, 9).to(torch.float32))
    assert torch.equal(posthoc_scores(logits, table, 0.0), logits)
    assert posthoc_scores(logits.half(), table, 0.0).dtype == torch.float32


def test_at_a_pixel_the_best_class_is_that_of_the_log_probabilities() -> None:
    parts = as_oracle(random_statistics(5, 3))
    logits = np.random.default_rng(0).normal(size=(300, 5)) * 4
    log_probabilities = oracle.scores(*parts, logits, 0.7)
    odds = log_odds.scores(*parts, logits, 0.7)
    np.testing.assert_allclose(odds, log_probabilities - np.log1p(-np.exp(log_probabilities)), atol=1e-6)
    assert (odds.argmax(1) == log_probabilities.argmax(1)).all()


def test_two_classes_by_hand() -> None:
    a = np.array([[[3.0, 1.0], [0.5, 2.5]]])  # [pixel, hypothesis, channel]
    np.testing.assert_allclose(log_odds.of_corrected(a), [[2.0, 2.0]])


def test_a_sure_pixel_keeps_its_odds() -> None:
    """In float32, log(1 - p) of a probability this near to 1 is minus infinity: nothing is subtracted."""
    statistics = random_statistics(3, 4)
    logits = torch.tensor([60.0, -20.0, -25.0]).view(1, 3, 1, 1)
    got = posthoc_scores(logits, shift_table(statistics.to(torch.float32), 1024), 0.2)
    want = log_odds.scores(*as_oracle(statistics), flat(logits), 0.2)
    assert want[0, 0] > 60
    np.testing.assert_allclose(flat(got), want, atol=0.02)


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_between_pixels_log_odds_decide(tau: float) -> None:
    """Labels at full size are the oracle's, upsampled by loops; log-probabilities give others."""
    statistics = random_statistics(3, 6)
    logits = torch.randn(1, 3, 5, 6, generator=torch.Generator().manual_seed(1)) * 5
    table = shift_table(statistics.to(torch.float32), 1024)
    got = labels_of_logits(logits, 4, (20, 24), table, tau)

    def labels(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """And where they are clear."""
        full = log_odds.upsampled(scores.T.reshape(3, 5, 6), 4)
        first, second = np.sort(full, axis=0)[:-3:-1]
        return full.argmax(0), first - second > 0.1

    want, clear = labels(log_odds.scores(*as_oracle(statistics), flat(logits), tau))
    assert clear.mean() > 0.9 and (got == want)[clear].all()
    other, _ = labels(oracle.scores(*as_oracle(statistics), flat(logits), tau))
    assert (other != want)[clear].any()
    plain = labels_of_logits(logits, 4, (20, 24), table, 0.0)
    assert (plain == log_odds.upsampled(logits[0].double().numpy(), 4).argmax(0)).mean() > 0.99
