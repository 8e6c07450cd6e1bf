"""Statistics: the running update rule against the float64 oracle, anchors, fits, and what is kept of them."""

import numpy as np
import oracle
import pytest
import torch
from random_statistics import random_statistics

from adapt.balance.histogram import LOGIT_RANGE, Histogram, bin_centres, logit_histogram
from adapt.balance.logit_statistics import (
    LogitStatistics,
    MixtureBank,
    ShiftStatistics,
    UpdateRule,
    fit_shift_statistics,
)
from adapt.balance.mixtures import cdf, spread


def test_float_counts_of_old_still_fit() -> None:
    """Counts that somebody kept as floats give the same statistics."""
    torch.manual_seed(0)
    histogram = logit_histogram(torch.randn(1, 3, 40, 40), torch.randint(0, 3, (1, 40, 40)))
    floats = Histogram(histogram.counts.float(), histogram.outside)
    for pooling in ("pixels", "classes"):
        new, old = (fit_shift_statistics(h, h.anchors(pooling)) for h in (histogram, floats))
        for key, value in new.state().items():
            torch.testing.assert_close(old.state()[key], value)


def test_anchors_pool_the_diagonal_and_the_rest() -> None:
    counts = torch.rand(3, 3, 256)
    anchors = Histogram(counts, torch.tensor(0)).anchors()
    positive = sum(counts[c, c] for c in range(3))
    negative = sum(counts[c, l] for c in range(3) for l in range(3) if c != l)
    torch.testing.assert_close(anchors, torch.stack([positive, negative]))  # type: ignore[list-item]


def test_anchors_pooled_over_classes_weigh_every_class_alike() -> None:
    """As many draws from each class as from any other: pooling over pixels of an even sample."""
    torch.manual_seed(3)
    logits = torch.randn(1, 3, 40, 40) + torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1)
    labels = torch.zeros(1, 40, 40, dtype=torch.long)
    labels[0, :10, :10], labels[0, 20:21] = 1, 2
    histogram = logit_histogram(logits, labels)
    even = [histogram.counts[c] / (labels == c).sum() for c in range(3)]
    positive = sum(even[c][c] for c in range(3))
    negative = sum(even[c][l] for c in range(3) for l in range(3) if c != l)
    anchors = histogram.anchors("classes")
    torch.testing.assert_close(anchors / anchors[0].sum(), torch.stack([positive, negative]) / 3)
    assert float(anchors[0].sum()) == pytest.approx(labels.numel())
    without = logit_histogram(logits, torch.where(labels == 2, 255, labels))
    assert torch.isfinite(without.anchors("classes")).all()


def test_bank_follows_the_update_rule() -> None:
    """First estimate replaces; later ones are blended with m = (mom * min(i / warmup, 1)) ** n."""
    rng = np.random.default_rng(6)
    rule = UpdateRule(em_steps=3, momentum=0.9, warmup=10, min_pixels=20)
    bank = MixtureBank(2, 2, 3).double()
    centres = bin_centres(dtype=torch.float64)
    expected: list[list[oracle.Mixture | None]] = [[None, None], [None, None]]
    last = [-1, -1]
    floor = float(centres[1] - centres[0]) ** 2 / 12
    for iteration, sizes in enumerate([(100, 0), (100, 50), (5, 50), (19, 50), (400, 50), (100, 19)]):
        counts = torch.zeros(2, 2, 256, dtype=torch.float64)
        for c, l in np.ndindex(2, 2):
            data = rng.normal(5.0 if c == l else -3.0, 2, sizes[c])
            counts[c, l] = torch.tensor(np.histogram(data, bins=256, range=LOGIT_RANGE)[0])
        bank.update(counts, torch.tensor(iteration), rule)
        for c in range(2):
            if sizes[c] < rule.min_pixels:
                continue
            for l in range(2):
                stored = expected[c][l]
                initial = spread(counts[c, l], centres, 3)
                start = tuple(p.numpy() for p in initial) if stored is None else stored
                fresh: oracle.Mixture = start  # type: ignore[assignment]
                for _ in range(rule.em_steps):
                    fresh = oracle.em_step(centres.numpy(), counts[c, l].numpy(), fresh, floor)
                m = oracle.momentum(iteration, iteration - last[c], rule.momentum, rule.warmup)
                expected[c][l] = fresh if stored is None else oracle.blend(stored, fresh, m)
            last[c] = iteration
        assert bank.updated.tolist() == last
        for c, l in np.ndindex(2, 2):
            want = expected[c][l]
            if want is not None:
                for got, value in zip(bank.mixture.select((c, l)), want, strict=True):
                    # bin centres are float32 in the bank
                    np.testing.assert_allclose(got.numpy(), value, rtol=1e-6, atol=1e-6)


def test_statistics_survive_the_state_dict() -> None:
    torch.manual_seed(7)
    statistics = LogitStatistics(3, rule=UpdateRule(min_pixels=1))
    logits, labels = torch.randn(1, 3, 16, 16), torch.randint(0, 3, (1, 16, 16))
    statistics.update_source(logit_histogram(logits, labels))
    statistics.update_target(logit_histogram(logits * 2, labels))
    copy = LogitStatistics(3, rule=UpdateRule(min_pixels=1))
    copy.load_state_dict(statistics.state_dict())
    for domain in ("source", "target"):
        for a, b in zip(
            statistics.shift_statistics(domain).state().values(),
            copy.shift_statistics(domain).state().values(),
            strict=True,
        ):
            assert torch.equal(a, b)
    assert int(copy.iteration) == 1


def test_overflow_is_reported() -> None:
    statistics = LogitStatistics(2, rule=UpdateRule(min_pixels=1))
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0] = 1000
    statistics.update_source(logit_histogram(logits, torch.zeros(1, 2, 2, dtype=torch.int64)))
    assert statistics.outside_share == pytest.approx(0.5)


def test_fit_leaves_out_classes_with_too_few_pixels() -> None:
    torch.manual_seed(17)
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[0, 0, :5] = 1
    histogram = logit_histogram(torch.randn(1, 2, 32, 32), labels)
    fitted = fit_shift_statistics(histogram, histogram.anchors(), min_pixels=10)
    assert fitted.seen.tolist() == [True, False]


def test_fit_describes_the_data() -> None:
    """The fitted CDF stays within a bin's worth of the empirical one."""
    rng = np.random.default_rng(18)
    data = np.concatenate([rng.normal(2, 1, 30_000), rng.gamma(3, 2, 30_000) - 8]).astype(np.float32)
    logits = torch.tensor(data).view(1, 1, 240, 250)
    histogram = logit_histogram(logits, torch.zeros(1, 240, 250, dtype=torch.int64))
    fitted = fit_shift_statistics(histogram, histogram.anchors())
    z = torch.linspace(-8, 8, 65)
    empirical = (np.sort(data)[None] <= z.numpy()[:, None]).mean(1)
    assert np.abs(cdf(fitted.rows.select((0, 0)), z).numpy() - empirical).max() < 0.02


def test_statistics_round_trip_through_plain_tensors() -> None:
    statistics = random_statistics(3, 19, unseen=2)
    again = ShiftStatistics.from_state(statistics.state())
    assert again.eps == statistics.eps
    assert torch.equal(again.seen, statistics.seen)
    for a, b in zip(again.rows, statistics.rows, strict=True):
        assert torch.equal(a, b)
