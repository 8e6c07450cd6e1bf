"""Losses, pseudo-labels and the training step against the oracle."""

import copy

import numpy as np
import oracle
import pytest
import torch
from random_statistics import as_oracle, random_statistics
from torch import nn
from training_step import Concatenate, new_balance, new_step, pair, run_step, small_segmenter

from adapt.balance.correction import shift_table, stack_tables
from adapt.balance.losses import corrected_cross_entropy, density_regression
from adapt.config.method import Method
from adapt.data.classes import IGNORE
from adapt.model.segmenter import StudentNetwork
from adapt.training.step import mixed_term, source_term
from adapt.training.teacher import follow, new_teacher, pseudo_label, teacher_momentum


@pytest.mark.parametrize("tau", [0.0, 0.1, 1.0])
def test_corrected_cross_entropy_matches_the_oracle(tau: float) -> None:
    source, target = random_statistics(3, 1, unseen=2), random_statistics(3, 2)
    tables = stack_tables(*(shift_table(s.to(torch.float32), 1024) for s in (source, target)))
    logits = torch.randn(2, 3, 4, 6) * 4  # at the labels' size: the upsampling is then the identity
    labels = torch.randint(0, 3, (2, 4, 6))
    labels[0, 0] = IGNORE
    weights = torch.rand(2, 4, 6)
    from_target = torch.rand(2, 4, 6) > 0.5
    rows = torch.where(labels == IGNORE, -1, labels + 3 * from_target)
    got = corrected_cross_entropy(logits, labels, table=tables, tau=tau, rows=rows, weights=weights)
    flat = logits.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    corrected = flat.copy()
    for statistics, mask in ((source, ~from_target), (target, from_target)):
        chosen = (mask & (labels != IGNORE)).flatten().numpy()
        y = labels.flatten().numpy()[chosen]
        corrected[chosen] = oracle.online_logits(*as_oracle(statistics), flat[chosen], y, tau)
    want = oracle.cross_entropy(corrected, labels.flatten().numpy(), weights.flatten().double().numpy())
    assert float(got) == pytest.approx(want, abs=2e-4)


def test_the_shift_carries_no_gradient() -> None:
    table = shift_table(random_statistics(3, 3).to(torch.float32))
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    labels = torch.randint(0, 3, (1, 4, 4))
    corrected_cross_entropy(logits, labels, table=table, tau=1.0).backward()
    from adapt.balance.losses import shift_of_labels

    corrected = (logits - shift_of_labels(table, logits, labels)).detach()
    onehot = nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(logits.grad, (corrected.softmax(1) - onehot) / 16, atol=1e-6, rtol=1e-5)


def test_all_ignored_costs_nothing() -> None:
    labels = torch.full((1, 4, 4), IGNORE)
    loss = corrected_cross_entropy(torch.randn(1, 3, 4, 4, requires_grad=True), labels)
    assert float(loss.detach()) == 0
    loss.backward()  # and does not break


def test_density_regression_is_a_weighted_mean_of_squares() -> None:
    predicted, density = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
    weights = torch.rand(2, 3, 4) * (torch.rand(2, 3, 4) > 0.4)
    want = sum(
        float(weights[i]) * float(predicted[i] - density[i]) ** 2 for i in np.ndindex(2, 3, 4)
    ) / int((weights > 0).sum())  # fmt: skip
    assert float(density_regression(predicted, density, weights)) == pytest.approx(want, rel=1e-5)


def test_teacher_momentum_matches_the_oracle() -> None:
    for iteration in (0, 1, 10, 998, 999, 5000):
        assert teacher_momentum(iteration, 0.999) == oracle.teacher_alpha(iteration)


def test_teacher_follows_parameters_and_copies_batch_statistics() -> None:
    student = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    teacher = copy.deepcopy(student).requires_grad_(False)
    with torch.no_grad():
        student[0].weight.add_(1.0)  # type: ignore[operator]
        student[1].running_mean.fill_(3.0)  # type: ignore[union-attr, operator]
    before = teacher[0].weight.clone()  # type: ignore[operator]
    follow(teacher, student, 0.9)  # type: ignore[arg-type]
    torch.testing.assert_close(teacher[0].weight, before + 0.1)  # type: ignore[arg-type]
    assert torch.equal(teacher[1].running_mean, student[1].running_mean)  # type: ignore[arg-type]


def test_teacher_has_no_dropout_and_normalises_by_the_batch_at_hand() -> None:
    student = small_segmenter()
    student.dropout = nn.Dropout2d(0.9)
    student.decoder = nn.Sequential(Concatenate(), nn.BatchNorm2d(14))
    teacher = new_teacher(student, (32, 48))
    pixels = torch.randn(2, 3, 32, 48) * 5 + 3
    with torch.no_grad():
        fused = teacher.maps(pixels).fused
        assert torch.equal(teacher(pixels), teacher.classify(fused))
    torch.testing.assert_close(fused.mean((0, 2, 3)), torch.zeros(14), atol=1e-4, rtol=0)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_pseudo_labels_weigh_each_picture_by_its_confident_share() -> None:
    segmenter = small_segmenter().eval()
    with torch.no_grad():
        segmenter.classify.weight.mul_(3)
    pixels = torch.randn(2, 3, 32, 48)
    padding = torch.zeros(2, 32, 48, dtype=torch.bool)
    padding[1, :, 40:] = True
    labels, weights, confidence, _ = pseudo_label(segmenter, pixels, padding, 0.8)
    full = nn.functional.interpolate(segmenter(pixels), size=(32, 48), mode="bilinear").softmax(1)
    assert torch.equal(labels[~padding], full.argmax(1)[~padding])
    assert torch.equal(confidence, full.amax(1))
    assert (labels[padding] == IGNORE).all()
    for n in range(2):
        share = float((full[n].max(0).values > 0.8)[~padding[n]].float().mean())
        assert 0 < share < 1
        assert weights[n].unique().tolist() == pytest.approx([share])


# ---- the step --------------------------------------------------------------------------------------------


def test_a_step_reaches_every_weight_and_both_domains_statistics() -> None:
    balance = new_balance()
    losses, student = run_step(Method(), balance)
    assert set(losses) == {"source", "source_density", "mixed", "mixed_density", "confident"}
    assert all(torch.isfinite(value) for value in losses.values())
    missing = [name for name, p in student.named_parameters() if p.grad is None or not p.grad.any()]
    # weights of 0 (nothing is confident) would leave the mixed part out; the source part reaches all
    assert not missing
    assert balance.statistics.source.seen.all()
    assert balance.statistics.target.seen.any()
    assert int(balance.statistics.iteration) == 1


def test_without_balance_the_step_is_plain_self_training() -> None:
    losses, _ = run_step(Method(balance="off"), None)
    assert set(losses) == {"source", "mixed", "confident"}


def test_strength_zero_without_density_equals_plain_self_training() -> None:
    plain, student_a = run_step(Method(balance="off"), None)
    balanced, student_b = run_step(Method(tau=0, density_weight=0), new_balance())
    for name in plain:
        assert torch.equal(plain[name], balanced[name])
    for a, b in zip(student_a.segmenter.parameters(), student_b.segmenter.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        assert torch.equal(a.grad, b.grad)


def test_a_fully_confident_target_pixel_still_counts_as_target() -> None:
    """The domain is an explicit mask; the authors infer it from weight < 1."""
    balance = new_balance()
    student = StudentNetwork(small_segmenter())
    teacher = copy.deepcopy(student.segmenter).eval().requires_grad_(False)
    with torch.no_grad():
        teacher.classify.weight.mul_(1e4)  # certain everywhere: all weights are 1
    step = new_step(student, Method(), balance, teacher)
    source_term(step)
    losses = mixed_term(step)
    assert float(losses["confident"]) > 0.999
    assert balance.statistics.target.seen.any()


def test_padding_of_small_target_pictures_teaches_nothing() -> None:
    balance, one = new_balance(), pair()
    run_step(Method(), balance)
    torch.manual_seed(0)
    noise = torch.randint(0, 256, one.target_image.shape, dtype=torch.uint8)
    images = torch.where(one.target_padding.unsqueeze(-1), noise, one.target_image)
    segmenter = small_segmenter().eval().requires_grad_(False)
    before, after = (
        pseudo_label(segmenter, segmenter.normalise(x.permute(0, 3, 1, 2) / 255), one.target_padding, 0.4)
        for x in (one.target_image, images)
    )
    assert torch.equal(before.labels[:, :20], after.labels[:, :20])  # away from the padding's edge
    assert (before.labels[1, 24:] == IGNORE).all()
    counted = balance.statistics.counted
    assert int(counted) < 2 * one.source_labels.numel() / 16 * 3


def test_the_same_generator_gives_the_same_step() -> None:
    first, second = run_step(Method(), new_balance(), 3)[0], run_step(Method(), new_balance(), 3)[0]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_target_pixels_that_nobody_believes_do_not_count() -> None:
    """METHOD 4: a target pixel whose weight is 0 says nothing about the target."""
    counted = []
    for confidence in (0.01, 0.9999):  # all of the teacher's labels are confident, or none is
        balance = new_balance()
        run_step(Method(confidence=confidence), balance)
        counted.append((bool(balance.statistics.target.seen.any()), int(balance.statistics.counted)))
    (believed, most), (unbelieved, least) = counted
    assert believed and not unbelieved
    assert 0 < least < most
