"""What the measurements of tests/bench/gathering are made of."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "bench" / "gathering"))

from corruptions import KINDS, STRENGTHS
from drift_summary import rank_correlation, scatter, summary


def slow_rank_correlation(x: list[float], y: list[float]) -> float:
    """Pearson's of mean ranks, pair by pair."""

    def ranks(values: list[float]) -> list[float]:
        return [sum(v < w for v in values) + (sum(v == w for v in values) + 1) / 2 for w in values]

    a, b = ranks(x), ranks(y)
    mean = (len(x) + 1) / 2
    over = sum((p - mean) * (q - mean) for p, q in zip(a, b, strict=True))
    return over / (sum((p - mean) ** 2 for p in a) * sum((q - mean) ** 2 for q in b)) ** 0.5


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlations_are_those_of_the_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 8, 30).tolist(), rng.integers(0, 8, 30).tolist()
    assert rank_correlation(x, y) == pytest.approx(slow_rank_correlation(x, y), abs=1e-12)
    assert rank_correlation(x, [v**3 + v for v in x]) == pytest.approx(1)
    assert rank_correlation(x, [-v for v in x]) == pytest.approx(-1)
    assert np.isnan(rank_correlation(x, [1.0] * 30))


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_changes_more_the_stronger_it_is(kind: str) -> None:
    """Of a picture with edges and texture; the picture itself stays."""
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(20, 235, (12, 16, 3)), np.ones((5, 7, 1), int)).astype(np.uint8)
    before, changes = picture.copy(), []
    for strength in STRENGTHS:
        found = KINDS[kind](picture, strength, np.random.default_rng(1))
        assert found.dtype == np.uint8 and found.shape == picture.shape
        changes.append(np.abs(found.astype(int) - picture).mean())
    assert changes == sorted(changes) and changes[0] > 0 and changes[-1] > 1.5 * changes[0]
    np.testing.assert_array_equal(picture, before)


def test_the_summary_counts_every_point() -> None:
    points = [
        {
            "pair": pair,
            "seed": seed,
            "name": f"fog-{n}",
            "lost": 3.0 * n - 1,
            "alarm": n > 1,
            "p": 0.001 if n > 1 else 0.4,
            **dict.fromkeys(("unlikeness", "moved", "most moved", "shares"), 0.1 * n),
            "confidence": -0.1 * n,
            "classes": [["road", 3.0 * n, 0.2 * n, n > 1], ["sky", None, None, False]],
        }
        for pair in ("dusk", "weeds")
        for seed in (0, 1)
        for n in range(6)
    ]
    said = summary(points)
    assert "| unlikeness | - | 1.00 (1.00 to 1.00) |" in said
    assert "| confidence | - | -1.00 (-1.00 to -1.00) |" in said
    rows = [line.split("|") for line in said.splitlines() if line.startswith(("| below", "| from"))]
    assert sum(int(row[2]) for row in rows) == len(points)
    assert sum(int(row[3]) for row in rows) == sum(point["alarm"] for point in points)
    assert scatter(points).count("<circle") == len(points)
