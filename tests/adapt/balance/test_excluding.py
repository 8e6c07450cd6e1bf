"""Classes that take no part in the correction: neither raised nor lowered, and nothing to the others."""

import log_odds
import numpy as np
import pytest
import torch
from random_statistics import as_oracle, random_statistics

from adapt.balance.bias import bias_without_labels, bias_without_labels_corrected
from adapt.balance.correction import exact_shift, excluding, posthoc_scores, shift_table
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.run.stored import stored_statistics

C = 5


def excluded(*classes: int) -> torch.Tensor:
    return torch.isin(torch.arange(C), torch.tensor(classes))


def some_logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, C, 8, 25, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 5


@pytest.mark.parametrize("tau", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("classes", [(0,), (4,), (1, 3)])
def test_scores_agree_with_the_oracle(tau, classes):
    stats = random_statistics(C, 3)
    table = shift_table(excluding(stats, excluded(*classes)), 4096)
    logits = some_logits()
    found = posthoc_scores(logits, table, tau)[0].flatten(1).T
    flat = logits[0].flatten(1).T.numpy()
    expected = log_odds.scores_excluding(*as_oracle(stats), excluded(*classes).numpy(), flat, tau)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_a_pixel_is_of_an_excluded_class_exactly_where_it_was():
    logits = some_logits(1).float()
    for seed in range(5):
        table = shift_table(excluding(random_statistics(C, seed).to(torch.float32), excluded(1, 2)))
        before, after = logits.argmax(1), posthoc_scores(logits, table, 1.5).argmax(1)
        for v in (1, 2):
            assert torch.equal(before == v, after == v)
        assert (before != after).any()


def test_a_class_without_logits_is_as_one_that_is_not_there():
    stats = random_statistics(C, 5).to(torch.float32)
    logits = some_logits(2).float()
    logits[:, 4] = -torch.inf
    whole = posthoc_scores(logits, shift_table(excluding(stats, excluded(4))), 0.7)
    fewer = ShiftStatistics(stats.rows.select((slice(4), slice(4))), stats.anchors, stats.seen[:4])
    alone = posthoc_scores(logits[:, :4], shift_table(fewer), 0.7)
    torch.testing.assert_close(whole[:, :4], alone)
    assert bool(whole[:, 4].isneginf().all())


def test_there_is_no_shift_of_it_and_no_bias():
    stats = excluding(random_statistics(C, 6), excluded(2))
    z = torch.linspace(-20, 20, 50, dtype=torch.float64).expand(C, C, 50)
    shift = exact_shift(stats, z)
    assert not bool(shift[2].any()) and not bool(shift[:, 2].any()) and bool(shift[1, 3].any())
    for bias in (bias_without_labels(stats), bias_without_labels_corrected(stats, 0.5)):
        assert float(bias[2]) == 0 and float(bias.abs().sum()) > 0
        assert float(bias.sum()) == pytest.approx(0, abs=1e-6)


def test_it_is_kept_in_the_file_and_older_files_have_none():
    stats = excluding(random_statistics(C, 7).to(torch.float32), excluded(0, 1))
    back = stored_statistics(stats.state(), C)
    assert back.excluded is not None and torch.equal(back.excluded, excluded(0, 1))
    assert torch.equal(excluding(back, excluded(2)).excluded, excluded(0, 1, 2))
    assert stored_statistics(random_statistics(C, 7).state(), C).excluded is None
    broken = stats.state() | {"excluded": torch.ones(C, dtype=torch.bool)}
    with pytest.raises(ValueError, match="all classes but one"):
        stored_statistics(broken, C)
    with pytest.raises(ValueError, match="excluded has the shape"):
        stored_statistics(stats.state() | {"excluded": torch.ones(3, dtype=torch.bool)}, C)
