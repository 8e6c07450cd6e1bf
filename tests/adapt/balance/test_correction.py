"""Shifts and scores against the float64 oracle, and what must hold of them for any statistics."""

import numpy as np
import oracle
import pytest
import torch
from random_statistics import as_oracle, random_statistics

import adapt.balance.correction
from adapt.balance.correction import (
    exact_shift,
    own_shifts,
    posthoc_scores,
    shift_table,
    stack_tables,
    support,
)
from adapt.balance.logit_statistics import (
    ShiftStatistics,
)
from adapt.balance.losses import cumulative_density, shift_of_labels
from adapt.balance.mixtures import Mixture, cdf, pdf, quantile

TABLE_TOLERANCE = 0.02  # what tables of 256 points promise, in logits; these reach 0.0154 at their kinks


@pytest.mark.parametrize("C", [2, 11])
def test_exact_shift_matches_the_oracle(C: int) -> None:
    statistics = random_statistics(C, C, unseen=1)
    lower, upper = support(statistics)
    inside = torch.linspace(-0.2, 1.2, 41, dtype=torch.float64)  # reaches beyond both tails
    z = lower.unsqueeze(-1) + (upper - lower).unsqueeze(-1) * inside
    got = exact_shift(statistics, z)
    rows, anchors, seen = as_oracle(statistics)
    for c, l in np.ndindex(C, C):
        want = oracle.delta(rows, anchors, seen, c, l, z[c, l].numpy())
        np.testing.assert_allclose(got[c, l].numpy(), want, atol=1e-6)
    assert not got[1].any()


@pytest.mark.parametrize("variance", [1.0, 1e-4])
def test_exact_shift_is_exact_to_rounding(variance: float) -> None:
    """Against bisection; modes with hardly anything between them have quantiles there all the same."""
    statistics = random_statistics(3, 21)
    anchors = statistics.anchors
    apart = Mixture(anchors.weights, anchors.means * 3, anchors.variances * variance)
    statistics = ShiftStatistics(statistics.rows, apart, statistics.seen)
    lower, upper = (end.unsqueeze(-1) for end in support(statistics))
    z = lower + (upper - lower) * torch.linspace(0, 1, 1001, dtype=torch.float64)
    moved = z + exact_shift(statistics, z)
    levels = cdf(statistics.rows, z).clamp(statistics.eps, 1 - statistics.eps)
    for c, l in np.ndindex(3, 3):
        anchor = apart.select(int(c != l))
        want = quantile(anchor, levels[c, l])
        # An error of a rounding in the level moves the quantile by that over the density.
        allowed = 1e-12 + 4e-16 / pdf(anchor, want)
        assert ((moved[c, l] - want).abs() <= allowed).all()


def test_own_shifts_are_those_on_the_diagonal_of_the_table() -> None:
    statistics = random_statistics(5, 22, unseen=2)
    own, table, c = own_shifts(statistics, 33), shift_table(statistics, 33), torch.arange(5)
    for one, whole in zip(own[:3], table[:3], strict=True):
        assert torch.equal(one, whole[c, c])
    assert not own.shift[2].any()


def test_scores_do_not_depend_on_how_many_pixels_are_scored_at_a_time(monkeypatch) -> None:
    table = shift_table(random_statistics(5, 23).to(torch.float32))
    logits = 4 * torch.randn(2, 5, 7, 22)[..., ::2]  # and not on where they lie
    whole = posthoc_scores(logits, table, 0.5)
    monkeypatch.setattr(adapt.balance.correction, "_NUMBERS", 5 * 8)
    one = posthoc_scores(logits[1:, :, 3:4, 4:5].contiguous(), table, 0.5)
    for found, wanted in ((posthoc_scores(logits, table, 0.5), whole), (one, whole[1:, :, 3:4, 4:5])):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)  # a vector's rest is rounded otherwise


def test_tables_are_as_near_as_promised() -> None:
    """The issue's number: |error| <= 0.02 logit on 99.9 % of a fine grid inside [eps, 1 - eps]."""
    statistics = random_statistics(19, 8)
    lower, upper = support(statistics)
    fine = torch.rand(19, 19, 997, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = lower.unsqueeze(-1) + (upper - lower).unsqueeze(-1) * fine
    exact = exact_shift(statistics, z)
    table = shift_table(statistics.to(torch.float32))
    rows = torch.arange(19).view(1, 19, 1).expand(1, 19, 997)
    # channel first: [1, l, c, G]
    got = shift_of_labels(table, z.permute(1, 0, 2).float().unsqueeze(0), rows)[0].permute(1, 0, 2)
    error = (got - exact).abs()
    assert float((error <= TABLE_TOLERANCE).float().mean()) >= 0.999, (
        f"largest error {float(error.max()):.4f}"
    )


def test_shift_vanishes_where_a_class_matches_its_anchor() -> None:
    statistics = random_statistics(3, 10)
    rows = Mixture(*(p.clone() for p in statistics.rows))
    for values, anchor in zip(rows, statistics.anchors, strict=True):
        values[:] = anchor[1]
        values[torch.arange(3), torch.arange(3)] = anchor[0]
    same = ShiftStatistics(rows, statistics.anchors, statistics.seen)
    lower, upper = support(same)
    z = lower.unsqueeze(-1) + (upper - lower).unsqueeze(-1) * torch.linspace(0, 1, 33, dtype=torch.float64)
    assert exact_shift(same, z).abs().max() < 1e-6


def test_shifted_logit_rises_with_its_logit() -> None:
    statistics = random_statistics(4, 11)
    z = torch.linspace(-40, 40, 4001, dtype=torch.float64).expand(4, 4, 4001)
    moved = z + exact_shift(statistics, z)
    assert (moved.diff(dim=-1) >= -1e-9).all()
    # slope one in the tails: order is kept where the authors' clipping loses it
    torch.testing.assert_close(moved[..., 1] - moved[..., 0], z[..., 1] - z[..., 0])


def test_permuting_classes_permutes_scores() -> None:
    statistics = random_statistics(5, 12).to(torch.float32)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = ShiftStatistics(
        statistics.rows.select((order.unsqueeze(1), order)), statistics.anchors, statistics.seen[order]
    )
    logits = torch.randn(2, 5, 6, 6)
    scores = posthoc_scores(logits, shift_table(statistics), 0.7)
    permuted = posthoc_scores(logits[:, order], shift_table(shuffled), 0.7)
    torch.testing.assert_close(permuted, scores[:, order], atol=1e-4, rtol=0)


def test_shift_of_labels_picks_row_and_domain() -> None:
    source, target = random_statistics(3, 13), random_statistics(3, 14)
    tables = stack_tables(*(shift_table(s.to(torch.float32)) for s in (source, target)))
    logits = torch.randn(2, 3, 4, 6) * 4
    rows = torch.randint(0, 6, (2, 4, 6))
    rows[0, 0, 0] = -1
    got = shift_of_labels(tables, logits, rows)
    assert not got[0, :, 0, 0].any()
    for n, y, x in np.ndindex(2, 4, 6):
        row = int(rows[n, y, x])
        if row < 0:
            continue
        parts = as_oracle(source if row < 3 else target)
        want = [oracle.delta(*parts, row % 3, l, float(logits[n, l, y, x])) for l in range(3)]
        np.testing.assert_allclose(got[n, :, y, x].numpy(), want, atol=TABLE_TOLERANCE)


def test_shift_does_not_depend_on_memory_layout() -> None:
    table = shift_table(random_statistics(3, 15).to(torch.float32))
    logits, rows = torch.randn(2, 3, 4, 6), torch.randint(0, 3, (2, 4, 6))
    last = logits.to(memory_format=torch.channels_last)
    assert torch.equal(shift_of_labels(table, last, rows), shift_of_labels(table, logits, rows))


def test_cumulative_density_matches_the_oracle() -> None:
    statistics = random_statistics(4, 16).to(torch.float32)
    logits, labels = torch.randn(1, 4, 5, 5) * 5, torch.randint(0, 4, (1, 5, 5))
    diagonal = torch.arange(4)
    got = cumulative_density(statistics.rows.select((diagonal, diagonal)), logits, labels)
    rows, _, _ = as_oracle(statistics)
    want = oracle.density(rows, logits[0].flatten(1).t().double().numpy(), labels.flatten().numpy())
    np.testing.assert_allclose(got.flatten().numpy(), want, atol=1e-5)
