"""Pixels that statistics want are those of the full-size label map, whatever the decoder's stride."""

import math

import pytest
import torch

from adapt.balance.histogram import logit_histogram
from adapt.balance.logit_statistics import LogitStatistics, UpdateRule, fit_shift_statistics

CASES = [(4, 7, True), (4, 6, False), (1, 99, False), (1, 100, True), (8, 2, True), (8, 1, False)]


@pytest.mark.parametrize(("stride", "counted", "updated"), CASES)
def test_fewest_pixels_are_counted_at_full_size(stride: int, counted: int, updated: bool) -> None:
    """N_min = 100 (METHOD 4): at stride s, ceil(100 / s^2) decoder pixels of a class are enough."""
    assert updated == (counted >= math.ceil(100 / stride**2))
    statistics = LogitStatistics(2, rule=UpdateRule(min_pixels=100))
    labels = torch.full((1, 20, 20), 255)
    labels.view(-1)[:counted] = 1
    histogram = logit_histogram(torch.randn(1, 2, 20, 20), labels, stride)
    statistics.update_source(histogram)
    statistics.update_target(histogram)
    assert statistics.source.seen.tolist() == statistics.target.seen.tolist() == [False, updated]
    fitted = fit_shift_statistics(histogram, histogram.anchors(), min_pixels=100, steps=2)
    assert fitted.seen.tolist() == [False, updated]


def test_a_handful_of_pixels_is_no_class_in_the_pooled_anchors() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 40, 40) + torch.tensor([0.0, 1.0, 9.0]).view(1, 3, 1, 1)
    labels = torch.zeros(1, 40, 40, dtype=torch.long)
    labels[0, :10], labels[0, 20, 0] = 1, 2  # a single pixel of the last class, which has the largest logits
    histogram = logit_histogram(logits, labels)
    without = logit_histogram(logits, torch.where(labels == 2, 255, labels))
    rare, expected = histogram.anchors("classes", 2), without.anchors("classes")
    torch.testing.assert_close(rare / rare[0].sum(), expected / expected[0].sum())
    every = histogram.anchors("classes", 1)
    assert not torch.allclose(every / every[0].sum(), rare / rare[0].sum(), atol=1e-3)
