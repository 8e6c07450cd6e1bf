"""Probabilities that a check compares with: the oracle's, and as far off as scores may be."""

import log_odds
import numpy as np
import pytest
import torch

from export.verification.exact import Exact
from export.verification.probable import ROUNDING, probable

C, P = 5, 400


def maps(rows: np.ndarray) -> torch.Tensor:
    """[P, C] to [1, C, P, 1]."""
    return torch.from_numpy(rows.T[None, :, :, None].copy())


def exact(plain: bool, excluded: tuple[int, ...], scale: float, seed: int = 0) -> Exact:
    rng = np.random.default_rng(seed)
    scores, allowed = rng.normal(0, scale, (P, C)), rng.uniform(0, 0.3, (P, C))
    return Exact(maps(scores), maps(allowed), plain, excluded)


def rows(x: torch.Tensor) -> np.ndarray:
    return x[0, :, :, 0].numpy().T


def of_oracle(scores: np.ndarray, right: Exact, kind: str) -> np.ndarray:
    if right.plain:
        return log_odds.of_logits(scores, kind)
    return log_odds.probabilities(scores, right.excluded)


CASES = [
    (True, (), "softmax"),
    (True, (), "sigmoid"),
    (True, (), "exp"),
    (False, (), "softmax"),
    (False, (2,), "softmax"),
    (False, (0, 3), "softmax"),
]


@pytest.mark.parametrize("scale", [2.0, 12.0])
@pytest.mark.parametrize(("plain", "excluded", "kind"), CASES)
def test_probabilities_are_those_of_the_oracle(plain, excluded, kind, scale):
    right = exact(plain, excluded, scale)
    found, _ = probable(right, kind)
    np.testing.assert_allclose(rows(found), of_oracle(rows(right.scores), right, kind), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", [2.0, 12.0])
@pytest.mark.parametrize(("plain", "excluded", "kind"), CASES)
def test_scores_within_what_is_allowed_give_probabilities_within(plain, excluded, kind, scale):
    right = exact(plain, excluded, scale)
    found, allowed = (rows(x) for x in probable(right, kind))
    reached = np.zeros((P, C))
    rng = np.random.default_rng(1)
    for _ in range(40):
        moved = rows(right.scores) + rows(right.allowed) * rng.choice([-1, 0, 1], (P, C))
        off = np.abs(of_oracle(moved, right, kind) - found)
        assert (off <= allowed + 1e-12).all()
        reached = np.maximum(reached, off)
    told = allowed > 0.01 * found.clip(0.1)
    assert told.sum() > 50 and np.median(reached[told] / allowed[told]) > 0.6, "no wider than it must be"


def test_masked_and_far_logits_are_as_exact_as_the_others():
    """What a class may be off by that weighs nothing adds nothing."""
    logits = torch.tensor([3.0, 1.0, -1e9, 400.0]).double().view(1, 4, 1, 1)
    allowed = torch.tensor([0.01, 0.01, 1e4, 0.01]).double().view(1, 4, 1, 1)
    found, off = probable(Exact(logits, allowed, plain=True), "softmax")
    assert torch.allclose(found.flatten(), torch.tensor([0.0, 0, 0, 1]).double(), rtol=0, atol=1e-30)
    assert (off < 2 * ROUNDING).all()
    scores = torch.tensor([3.0, -1.0, -1e9]).double().view(1, 3, 1, 1)
    found, off = probable(Exact(scores, allowed[:, :3], excluded=(2,)), "softmax")
    assert found[0, 2, 0, 0] == 0 and (off < 0.01).all()
