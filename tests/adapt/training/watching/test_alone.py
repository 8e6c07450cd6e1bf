"""A step without a source: which terms, what is mixed, and what the statistics take in."""

import copy

import pytest
import torch
from random_statistics import random_statistics
from training_step import backward, pair, small_segmenter

from adapt.balance.logit_statistics import LogitStatistics, UpdateRule
from adapt.balance.online import Balance
from adapt.config.method import Method
from adapt.data.classes import IGNORE
from adapt.model.segmenter import StudentNetwork
from adapt.training.step import Step, masked_term, mixed_term, source_term, terms_of
from adapt.training.watching.watch import Watch

METHOD = Method(balance="online", confidence=0.01)


def step_alone(statistics: LogitStatistics, favour: torch.Tensor | None = None) -> Step:
    student = StudentNetwork(small_segmenter())
    batch = pair()
    padding = torch.zeros_like(batch.source_labels)
    padding[0, :, 40:] = IGNORE  # of the picture that is pasted from
    return Step(
        network=student,
        segmenter=student.segmenter,
        pair=batch._replace(source_labels=padding),
        method=METHOD,
        backward=backward,
        generator=torch.Generator().manual_seed(0),
        balance=Balance(statistics, lambda tensor: tensor, 4, alone=True),
        teacher=copy.deepcopy(student.segmenter).eval(),
        watch=Watch("abc", lambda tensor: tensor),
        source_free=True,
        favour=favour,
    )


def test_the_terms_are_the_host_s_without_the_source_s() -> None:
    assert terms_of(Method(), source_free=True) == (mixed_term,)
    assert terms_of(Method(host="mic"), source_free=True) == (mixed_term, masked_term)
    assert terms_of(Method())[0] is source_term


def test_all_pixels_are_the_target_s() -> None:
    statistics = LogitStatistics(3, rule=UpdateRule(min_pixels=5))
    step = step_alone(statistics)
    losses = mixed_term(step)
    assert set(losses) == {"mixed", "mixed_density", "confident"}
    mixed = step.mixed
    assert mixed is not None and bool(mixed.from_target.all())
    teacher = {0: step.pseudo.labels, 1: step.pasted.labels}
    assert bool(((mixed.labels == teacher[0]) | (mixed.labels == teacher[1])).all())
    assert bool((mixed.labels != step.pseudo.labels).any()), "something was pasted"
    # The weight of a pixel is that of the picture it came from, and padding is never pasted.
    weights = step.pseudo.weights, step.pasted.weights
    assert bool(((mixed.weights == weights[0]) | (mixed.weights == weights[1])).all())
    assert torch.equal(mixed.labels[0, :, 40:], step.pseudo.labels[0, :, 40:])
    assert int(statistics.iteration) == 1
    assert bool(statistics.target.seen.any()) and not bool(statistics.source.seen.any())
    assert bool(statistics.anchors.seen.all())
    counted = (mixed.labels != IGNORE)[:, 2::4, 2::4].sum()
    assert step.watch is not None and int(step.watch.counts.sum()) == int(counted)


def test_given_anchors_stay_and_others_follow_the_target() -> None:
    given = random_statistics(3, 5).to(torch.float32).anchors
    kept = LogitStatistics(3, rule=UpdateRule(min_pixels=5), anchors=given)
    for _ in range(2):
        mixed_term(step_alone(kept))
    for name, value in given._asdict().items():
        assert torch.equal(getattr(kept.anchors, name)[:, 0], value)
        assert torch.equal(getattr(kept.shift_statistics("target").anchors, name), value)
    free = LogitStatistics(3, rule=UpdateRule(min_pixels=5))
    mixed_term(step_alone(free))
    assert not torch.equal(free.anchors.means[:, 0], given.means)


def test_the_loss_takes_the_target_s_shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    balanced = mixed_term(step_alone(LogitStatistics(3, rule=UpdateRule(min_pixels=5))))
    step = step_alone(LogitStatistics(3, rule=UpdateRule(min_pixels=5)))
    step.method = METHOD.model_copy(update={"correct_mixed": False})
    plain = mixed_term(step)
    assert float(balanced["mixed"]) != float(plain["mixed"])


def test_favoured_classes_are_pasted() -> None:
    favour = torch.tensor([1.0, 1e-3, 1e-3])
    step = step_alone(LogitStatistics(3, rule=UpdateRule(min_pixels=5)), favour)
    mixed_term(step)
    assert step.mixed is not None
    for number, labels in enumerate(step.pasted.labels):
        where = labels == 0
        if bool(where.any()):
            assert bool((step.mixed.labels[number][where] == 0).all())
