"""Captured functions: on a CPU called each time; what a GPU replays is tried by `make gpu`.

And what only runs on a GPU, held against what a CPU runs.
"""

import torch
from random_statistics import random_statistics

from adapt.balance.captured import Captured
from adapt.balance.mixtures import _cdf_at_once, cdf, quantile


def test_a_cpu_calls_the_function_each_time():
    seen = []

    def double(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return 2 * x

    captured = Captured(double)
    for number in range(5):
        assert float(captured(torch.tensor(float(number)))) == 2.0 * number
    assert len(seen) == 5


def test_components_at_once_or_one_by_one_make_the_same_distribution():
    rows = random_statistics(4, 1).rows.to(torch.float64)
    z = torch.linspace(-12, 12, 101, dtype=torch.float64).expand(4, 4, 101)
    torch.testing.assert_close(_cdf_at_once(rows, z), cdf(rows, z), atol=1e-14, rtol=0)


def test_quantiles_do_not_depend_on_the_sections():
    rows = random_statistics(4, 2).rows.to(torch.float64)
    probability = torch.tensor([0.01, 0.3, 0.99], dtype=torch.float64).expand(4, 4, 3)
    expected = quantile(rows, probability, 32)
    torch.testing.assert_close(quantile(rows, probability, 256), expected, atol=1e-12, rtol=0)
