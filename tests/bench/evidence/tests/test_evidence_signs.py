"""The signs without labels that the evidence holds against what a correction changes."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from evidence_premise import SIGNS, Statistics, positive_means, positive_shift, signs

from adapt.balance.correction import shift_table
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture


def two_classes(first: float, second: float) -> ShiftStatistics:
    """Statistics of two classes whose own logits lie around these values, and the others' around 0."""
    means = torch.tensor([[first, 0.0], [0.0, second]]).unsqueeze(-1)
    rows = Mixture(torch.ones(2, 2, 1), means, torch.full((2, 2, 1), 0.25))
    anchors = Mixture(torch.ones(2, 1), torch.tensor([[3.0], [0.0]]), torch.full((2, 1), 0.25))
    return ShiftStatistics(rows, anchors, torch.ones(2, dtype=torch.bool))


def test_signs_say_whether_the_premise_holds():
    # the class with the larger logits is labelled more often, and the correction evens that out
    statistics = two_classes(4.0, 2.0)
    table = shift_table(statistics)
    draws = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)) * 0.5
    own = torch.tensor([4.0, 2.0]).repeat_interleave(2000)
    first = torch.where(torch.arange(4000) < 2000, own + draws[0], draws[0])
    second = torch.where(torch.arange(4000) < 2000, draws[1], own + draws[1])
    logits = [torch.stack([first, second]).view(1, 2, 40, 100)]
    found = signs(logits, Statistics(statistics, table, (table, table), table, (statistics, statistics)))
    assert set(found) == set(SIGNS)
    assert found["premise"] == pytest.approx(1)
    assert found["halves"] == found["target alone"] == pytest.approx(1)
    assert found["positive halves"] == pytest.approx(1)
    assert 0 < found["unchanged"] < 1
    assert positive_means(statistics).tolist() == [4.0, 2.0]
    assert positive_shift(statistics, table).tolist() == pytest.approx([-1, 1], abs=0.05)
    other = shift_table(two_classes(2.0, 4.0))
    opposed = signs(logits, Statistics(statistics, table, (table, other), other, (statistics, statistics)))
    assert opposed["halves"] < 1
    assert opposed["positive halves"] == pytest.approx(-1)
