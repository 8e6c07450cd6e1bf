"""The histograms' range fits the logits, whatever their scale: found, widened exactly, kept, reported."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapt.balance.bins import BINS, LOGIT_RANGE, Bins, Extent, default_bins, extent_of, fresh, no_bins
from adapt.balance.correction import posthoc_scores, shift_table
from adapt.balance.histogram import counted_in_all, logit_histogram
from adapt.balance.logit_statistics import (
    LogitStatistics,
    ShiftStatistics,
    UpdateRule,
    fit_shift_statistics,
    range_warning,
)
from adapt.balance.mixtures import Mixture
from adapt.balance.online import Balance

CHANGES = [(0.05, 0.0), (5.0, 0.0), (20.0, 0.0), (1.0, 100.0)]


def picture(seed: int, classes: int = 4, side: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [1, C, h, w] that know their labels [1, h, w] well enough."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (1, side, side), generator=g)
    logits = 2 * torch.randn(1, classes, side, side, generator=g) - 1
    return logits + 6 * torch.nn.functional.one_hot(labels, classes).permute(0, 3, 1, 2), labels


def moved(mixture: Mixture, factor: float, offset: float) -> Mixture:
    return Mixture(mixture.weights, factor * mixture.means + offset, factor**2 * mixture.variances)


def extent(low: float, high: float) -> Extent:
    return Extent(torch.tensor(low), torch.tensor(high))


# ---- where the bins lie -----------------------------------------------------------------------------------


@given(
    low=st.floats(-50, 50),
    width=st.floats(0.01, 50),
    more=st.lists(st.tuples(st.floats(-500, 500), st.floats(0, 300)), min_size=1, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_widened_bins_hold_everything_and_every_old_bin_lies_inside_of_one(low, width, more) -> None:
    bins = no_bins().around(extent(low, low + width))
    assert float(bins.low) < low and low + width < float(bins.high)
    assert float(bins.high - bins.low) < 2 * width
    for start, length in more:
        before, bins = bins, bins.around(extent(start, start + length))
        doubled = float(bins.step / before.step)
        assert np.log2(doubled) == pytest.approx(round(np.log2(doubled)))
        shifted = float((before.low - bins.low) / bins.step)
        assert shifted == pytest.approx(round(shifted), abs=1e-3)
        assert float(bins.low) <= start and start + length < float(bins.high) + 1e-3
        assert float(bins.low) <= float(before.low) + 1e-3 and float(before.high) <= float(bins.high) + 1e-3
        span = max(start + length, float(before.high)) - min(start, float(before.low))
        assert doubled == 1 or float(bins.high - bins.low) <= 4 * span, "no wider than needed"


def test_bins_that_hold_the_logits_stay_as_they_are() -> None:
    bins = default_bins()
    for low, high in ((-32.0, 31.9), (0.0, 0.0), (3.0, 2.0)):  # the last: no logits at all
        assert bins.around(extent(low, high)) == bins


def test_counts_move_into_wider_bins_exactly() -> None:
    """As if they had been counted there from the beginning, wherever no logit lies at the edge of a bin."""
    logits, labels = picture(0)
    bins = fresh(extent(float(logits.min()), float(logits.max())))
    narrow = logit_histogram(logits, labels, bins=bins)
    for low, high in ((-60.0, 10.0), (-9.0, 300.0), (-2000.0, 2000.0)):
        wide = bins.around(extent(low, high))
        there = logit_histogram(logits, labels, bins=wide)
        again = narrow.in_bins(wide)
        assert torch.equal(again.counts.sum(-1), narrow.counts.sum(-1))
        assert int((again.counts - there.counts).abs().sum()) <= 2


def test_pictures_seen_one_by_one_are_counted_in_bins_for_all() -> None:
    maps = [picture(seed) for seed in range(3)]
    maps = [(logits * factor, labels) for (logits, labels), factor in zip(maps, (1, 0.3, 4), strict=True)]
    maps.insert(0, (maps[0][0], torch.full_like(maps[0][1], 255)))  # a first one without a label
    total = counted_in_all(maps)
    assert total is not None and int(total.outside) == 0
    together = logit_histogram(*(torch.cat(part) for part in zip(*maps, strict=True)), bins=total.bins)
    assert int((total.counts - together.counts).abs().sum()) <= 4
    assert counted_in_all([]) is None


@pytest.mark.parametrize("value", [-1e4, -1e9, -np.inf, np.nan])
def test_a_masked_class_takes_no_resolution_from_the_others(value: float) -> None:
    logits, labels = picture(1)
    counted = labels != 3
    without = extent_of(logits[:, :3], counted)
    logits[:, 3] = value
    found = extent_of(logits, counted)
    assert found.low == without.low and found.high == without.high
    logits[:, 3] = torch.where(torch.rand(1, 24, 24) < 0.1, value, logits[:, 2])  # at some pixels only
    found = extent_of(logits, counted)
    assert float(found.high - found.low) < 200 * float(without.high - without.low)


def test_ignored_pixels_and_constant_logits() -> None:
    logits, labels = picture(2)
    logits[..., :4] *= 50
    counted = torch.ones_like(labels, dtype=torch.bool)
    counted[..., :4] = False
    found = extent_of(logits, counted)
    assert float(found.low) == float(logits[..., 4:].min()) and float(found.high) == float(
        logits[..., 4:].max()
    )
    nothing = extent_of(logits, torch.zeros_like(counted))
    assert nothing.low > nothing.high
    bins = fresh(extent_of(torch.full((1, 2, 3, 3), 5.0), torch.ones(1, 3, 3, dtype=torch.bool)))
    assert float(bins.low) < 5 < float(bins.high) and float(bins.step) > 0


# ---- statistics follow the logits -------------------------------------------------------------------------


def fitted(maps: list[tuple[torch.Tensor, torch.Tensor]]) -> ShiftStatistics:
    rows = counted_in_all(maps)
    assert rows is not None
    return fit_shift_statistics(rows, rows.anchors(), min_pixels=10)


@pytest.mark.parametrize(("factor", "offset"), CHANGES)
def test_fitted_statistics_scale_with_the_logits(factor: float, offset: float) -> None:
    maps = [picture(seed) for seed in range(3)]
    plain = fitted(maps)
    other = fitted([(factor * logits + offset, labels) for logits, labels in maps])
    grid = torch.linspace(-8, 12, 101).expand(4, 4, 101)
    from adapt.balance.mixtures import cdf

    for expected, found in ((plain.rows, other.rows), (plain.anchors, other.anchors)):
        z = grid if expected is plain.rows else grid[0, :2]
        # A logit at the edge of a bin may fall to either side, one of the some 400 of a row.
        difference = cdf(found, factor * z + offset) - cdf(expected, z)
        assert float(difference.abs().max()) < 0.005
    low, high = plain.logit_range
    assert other.logit_range == pytest.approx((factor * low + offset, factor * high + offset), rel=1e-4)


def test_an_offset_changes_no_label() -> None:
    maps = [picture(seed) for seed in range(2)]
    plain, other = fitted(maps), fitted([(logits + 100, labels) for logits, labels in maps])
    logits, _ = picture(9)
    before, after = (
        posthoc_scores(f, shift_table(s), 0.5) for f, s in ((logits, plain), (logits + 100, other))
    )
    best = before.topk(2, 1).values
    clear = (best[:, 0] - best[:, 1]) > 0.05
    assert clear.float().mean() > 0.95
    assert torch.equal(before.argmax(1)[clear], after.argmax(1)[clear])


@pytest.mark.parametrize(("factor", "offset"), CHANGES)
def test_running_statistics_scale_with_the_logits(factor: float, offset: float) -> None:
    found = []
    for a, b in ((1.0, 0.0), (factor, offset)):
        balance = Balance(LogitStatistics(4, rule=UpdateRule(min_pixels=10, warmup=4)), lambda t: t, 1)
        for step in range(6):
            logits, labels = picture(step)
            logits = (0.2 + 0.5 * step) * logits  # a network that becomes surer
            balance.take_source(a * logits + b, labels)
            balance.take_target(a * 0.8 * logits + b, labels)
        assert balance.statistics.outside_share == 0
        found.append(balance)
    plain, other = found
    for domain in ("source", "target"):
        expected, got = (each.statistics.shift_statistics(domain).rows for each in (plain, other))
        expected = moved(expected, factor, offset)
        spread = expected.variances.sqrt().mean()
        assert float((got.means - expected.means).abs().mean()) < 0.02 * float(spread)
    assert float(other.statistics.step) == pytest.approx(factor * float(plain.statistics.step), rel=1e-3)


def test_the_range_is_in_the_state_and_old_states_have_that_of_before() -> None:
    balance = Balance(LogitStatistics(4, rule=UpdateRule(min_pixels=10)), lambda t: t, 1)
    logits, labels = picture(0)
    balance.take_source(0.01 * logits, labels)
    state = balance.statistics.state_dict()
    copy = LogitStatistics(4)
    copy.load_state_dict(state)
    assert copy.bins == balance.statistics.bins and float(copy.step) < 0.01
    old = {name: value for name, value in state.items() if name not in ("low", "step")}
    copy.load_state_dict(old)
    assert (float(copy.low), float(copy.bins.high)) == LOGIT_RANGE
    fitted_once = fitted([picture(0)])
    assert (
        ShiftStatistics.from_state(fitted_once.state()).logit_range == fitted_once.logit_range != LOGIT_RANGE
    )
    old = {k: v for k, v in fitted_once.state().items() if k not in ("logit_range", "outside")}
    assert ShiftStatistics.from_state(old).logit_range == LOGIT_RANGE


def test_ranks_count_in_the_same_bins() -> None:
    """The greatest of all ranks' ends decides, so a rank with small logits counts as the others do."""
    small, large = picture(0)[0] * 0.1, picture(1)[0] * 3
    labels = picture(0)[1]
    counted = torch.ones_like(labels, dtype=torch.bool)
    ends = torch.stack([extent_of(logits, counted).stacked() for logits in (small, large)]).amax(0)
    balances = [Balance(LogitStatistics(4), lambda t: t, 1, lambda t: torch.maximum(t, ends)) for _ in "ab"]
    histograms = [b.count(f, labels) for b, f in zip(balances, (small, large), strict=True)]
    assert histograms[0].bins == histograms[1].bins
    alone = Balance(LogitStatistics(4), lambda t: t, 1).count(
        torch.cat([small, large]), torch.cat([labels] * 2)
    )
    assert alone.bins == histograms[0].bins
    assert torch.equal(alone.counts, histograms[0].counts + histograms[1].counts)


def test_logits_beyond_the_range_are_told_from_a_thousandth_on() -> None:
    logits, labels = picture(3)
    statistics = fitted([(logits, labels)])
    assert statistics.outside == 0 and range_warning(0.001, statistics.logit_range) == ""
    logits[:, 3] = -1e9
    statistics = fitted([(logits, labels)])
    assert statistics.outside == pytest.approx(0.25)
    assert "25.0% of the logits lie beyond" in range_warning(statistics.outside, statistics.logit_range)


def test_bins_are_never_read_back() -> None:
    """On a GPU that would wait: nothing here asks a tensor for its value."""
    with torch.device("meta"):
        bins = Bins(torch.empty(()), torch.empty(()))
        logits, counted = torch.empty(2, 4, 40, 40), torch.empty(2, 40, 40, dtype=torch.bool)
    widened = bins.around(extent_of(logits, counted))
    assert widened.low.device.type == "meta" and widened.centres().shape == (BINS,)
