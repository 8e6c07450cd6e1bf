"""Histograms: what a loop counts, exactly, whatever the logits and however many."""

import numpy as np
import torch

from adapt.balance.histogram import LOGIT_RANGE, Histogram, labels_at_stride, logit_histogram
from adapt.balance.logit_statistics import (
    LogitStatistics,
    UpdateRule,
)
from adapt.balance.online import Balance


def test_histogram_counts_what_a_loop_counts() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5, 7) * 8, torch.randint(0, 4, (2, 5, 7))
    labels[0, 0, 0], labels[1, 2, 3] = 255, -1
    logits[0, 1, 1, 1], logits[1, 2, 2, 2] = 99.0, -99.0
    histogram = logit_histogram(logits, labels)
    low, high = LOGIT_RANGE
    expected = np.zeros((4, 4, 256))
    for n, y, x in np.ndindex(2, 5, 7):
        if 0 <= labels[n, y, x] < 4:
            for l in range(4):
                bin_ = int((float(logits[n, l, y, x]) - low) / (high - low) * 256)
                expected[labels[n, y, x], l, min(max(bin_, 0), 255)] += 1
    np.testing.assert_array_equal(histogram.counts.numpy(), expected)
    assert int(histogram.outside) == 2
    assert histogram.row_pixels.sum() == 2 * 5 * 7 - 2


def test_ignored_pixels_change_nothing() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(1, 3, 8, 8), torch.randint(0, 3, (1, 8, 8))
    labels[:, 4:] = 255
    whole = logit_histogram(logits, labels)
    logits[:, :, 4:] = torch.randn(1, 3, 4, 8) * 20
    assert torch.equal(logit_histogram(logits, labels).counts, whole.counts)


def test_a_nan_logit_is_counted_as_something_and_breaks_nothing() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0, 0, 0] = float("nan")
    assert logit_histogram(logits, torch.zeros(1, 2, 2, dtype=torch.int64)).counts.sum() == 8


def test_histograms_of_two_halves_add_up() -> None:
    torch.manual_seed(2)
    logits, labels = torch.randn(4, 3, 6, 6), torch.randint(0, 3, (4, 6, 6))
    both = logit_histogram(logits[:2], labels[:2]) + logit_histogram(logits[2:], labels[2:])
    assert torch.equal(both.counts, logit_histogram(logits, labels).counts)


MANY = 2**24
"""Where a float32 stops counting: one more is the same number."""


def test_counts_stay_exact_beyond_what_a_float32_counts() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 3, 8, 8), torch.randint(0, 3, (1, 8, 8))
    one = logit_histogram(logits, labels)
    many = Histogram(one.counts * MANY, one.outside * MANY)
    total = one
    for _ in range(3):
        total = total + many
    expected = one.counts.long() * (3 * MANY + 1)
    assert torch.equal(total.counts.long(), expected)
    assert total.row_pixels.tolist() == [int((labels == c).sum()) * (3 * MANY + 1) for c in range(3)]
    positive = sum(expected[c, c] for c in range(3))
    negative = sum(expected[c, l] for c in range(3) for l in range(3) if c != l)
    assert torch.equal(total.anchors().long(), torch.stack([positive, negative]))  # type: ignore[list-item]


def test_the_count_of_all_logits_is_exact() -> None:
    statistics = LogitStatistics(2, rule=UpdateRule(min_pixels=1))
    one = logit_histogram(torch.randn(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.long))
    odd = Histogram(one.counts * (MANY + 1), one.outside)
    statistics.update_source(odd)
    statistics.update_target(odd)
    assert int(statistics.counted) == 2 * 2 * (MANY + 1)


def test_ranks_exchange_integers() -> None:
    """Over ranks a sum of floats would stop counting as well."""
    kinds = []
    balance = Balance(LogitStatistics(2), lambda tensor: (kinds.append(tensor.dtype), tensor * 3)[1], 4)
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    histogram = balance.count(torch.randn(1, 2, 2, 2), labels)
    assert not any(kind.is_floating_point for kind in kinds)
    assert histogram.counts.dtype == torch.int64 and int(histogram.row_pixels[0]) == 3 * 8 * 8


def test_labels_are_taken_at_the_centres_of_decoder_pixels() -> None:
    labels = torch.arange(64).view(1, 8, 8)
    assert labels_at_stride(labels, 4).tolist() == [[[2 * 8 + 2, 2 * 8 + 6], [6 * 8 + 2, 6 * 8 + 6]]]
