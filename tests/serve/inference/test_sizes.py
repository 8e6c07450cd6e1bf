"""Scores to labels as graphs do it: probabilities, and pixels that lie in other places than OpenCV's."""

import log_odds
import numpy as np
import pytest

from serve.card import Upsampling
from serve.inference import sizes
from serve.inference.sizes import Behind, best_labels, between, probabilities

COORDINATES = ("half_pixel", "align_corners", "asymmetric")


def scores(seed: int = 0, scale: float = 3.0) -> np.ndarray:
    """float32 [5, 9, 7]"""
    return np.random.default_rng(seed).normal(0, scale, (5, 9, 7)).astype(np.float32)


def rows(maps: np.ndarray) -> np.ndarray:
    """[C, h, w] to [P, C], float64."""
    return maps.reshape(len(maps), -1).T.astype(np.float64)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "exp"])
def test_probabilities_of_logits_are_the_oracle_s(kind: str) -> None:
    found = probabilities(scores(), Behind(Upsampling("probabilities", kind), corrected=False))
    np.testing.assert_allclose(rows(found), log_odds.of_logits(rows(scores()), kind), rtol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("excluded", [(), (1,), (0, 4)])
@pytest.mark.parametrize("scale", [2.0, 15.0, 80.0])
def test_probabilities_of_log_odds_are_the_oracle_s(scale: float, excluded: tuple[int, ...]) -> None:
    found = probabilities(scores(0, scale), Behind(Upsampling("probabilities"), True, excluded))
    exact = log_odds.probabilities(rows(scores(0, scale)), excluded)
    np.testing.assert_allclose(rows(found), exact, rtol=2e-4, atol=1e-6)
    assert np.isfinite(found).all()


def test_without_excluded_classes_they_are_those_of_a_softmax_when_nothing_is_corrected() -> None:
    """Log-odds of logits, each class against the sum of the others, come back as the softmax."""
    logits = rows(scores())
    corrected = np.repeat(logits[:, None, :], 5, axis=1)  # a_c[l] = f[l] under every hypothesis c
    odds = log_odds.of_corrected(corrected).T.reshape(5, 9, 7).astype(np.float32)
    found = probabilities(odds, Behind(Upsampling("probabilities")))
    np.testing.assert_allclose(rows(found), log_odds.of_logits(logits, "softmax"), rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("full", [28, 21, 49, 7])
def test_lines_lie_where_the_oracle_has_them(full: int, coordinates: str) -> None:
    maps = scores()[:, :7]
    lines = between(7, full, coordinates)
    found = lines.of(lines.of(maps.transpose(1, 2, 0)).transpose(1, 0, 2)).transpose(2, 1, 0)
    np.testing.assert_allclose(found, log_odds.resized(maps, (full, full), coordinates), atol=1e-5)


@pytest.mark.parametrize("of", ["scores", "probabilities"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("strip", [1, 100, 1 << 20])
def test_labels_are_those_of_the_oracle(
    of: str, coordinates: str, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "_STRIP", strip)
    maps = scores()
    exact = rows(maps)
    if of == "probabilities":
        exact = log_odds.probabilities(exact)
    full = log_odds.upsampled(exact.T.reshape(maps.shape), 4, coordinates)
    labels = best_labels(maps, 4, Behind(Upsampling(of, "softmax", coordinates)))
    first, second = np.sort(full, axis=0)[:-3:-1]
    clear = first - second > 1e-4
    assert clear.mean() > 0.99 and (labels == full.argmax(0))[clear].all()
    assert labels.shape == (36, 28) and labels.dtype == np.uint8


def test_many_classes_take_two_bytes() -> None:
    behind = Behind(Upsampling(coordinates="align_corners"))
    assert best_labels(np.zeros((300, 2, 2), np.float32), 4, behind).dtype == np.uint16
