"""Training with losses that know shares of classes: what the steps count, exact resume, what comes after."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner
from refusals import expect_refusal
from training_step import Pyramid, backward, new_step, pair, small_segmenter

from adapt.balance.class_priors import SOURCE, TARGET, ClassPriors, new_priors
from adapt.balance.losses import corrected_cross_entropy
from adapt.cli import main
from adapt.config.method import Method
from adapt.data.classes import IGNORE
from adapt.model.decoders import SegformerDecoder
from adapt.model.hrda import HrdaSegmenter
from adapt.model.segmenter import StudentNetwork
from adapt.run.run import load_run, read_tensors
from adapt.training.step import DETAIL_WEIGHT, Step, masked_term, mixed_term, source_term

BALANCES = ("logit-adjustment", "class-balanced")


def a_step(method: Method, seed: int = 0) -> tuple[Step, ClassPriors]:
    student = StudentNetwork(small_segmenter())
    step = new_step(student, method, None, small_segmenter(seed=5).eval().requires_grad_(False), seed)
    step.priors = new_priors(method, 3, (32, 48), torch.device("cpu"), lambda counts: counts)
    assert step.priors is not None
    return step, step.priors


def shares_of(labels: torch.Tensor) -> torch.Tensor:
    counts = torch.bincount(labels[labels != IGNORE].long(), minlength=3)
    return counts / counts.sum()


@pytest.mark.parametrize("balance", BALANCES)
def test_a_step_counts_labels_of_the_source_and_pseudo_labels_that_count(balance: str) -> None:
    method = Method(balance=balance, confidence=0.5, ignored_rows=(0.25, 0.0))
    step, priors = a_step(method)
    losses = source_term(step)
    torch.testing.assert_close(priors.shares.shares[SOURCE], shares_of(step.pair.source_labels))
    assert priors.shares.batches.tolist() == [1, 0]
    losses |= mixed_term(step)
    mixed = step.mixed
    assert mixed is not None and bool((mixed.weights == 0).any())
    counted = mixed.labels[mixed.from_target & (mixed.weights > 0)]
    torch.testing.assert_close(priors.shares.shares[TARGET], shares_of(counted))

    segmenter = step.segmenter
    with torch.no_grad():
        logits = segmenter(segmenter.normalise(mixed.images))
    want = corrected_cross_entropy(
        logits,
        mixed.labels,
        weights=priors.weigh(mixed.weights, mixed.labels, mixed.from_target),
        offsets=priors.offsets(mixed.from_target),
    )
    torch.testing.assert_close(losses["mixed"], want)
    plain = corrected_cross_entropy(logits, mixed.labels, weights=mixed.weights)
    assert float(losses["mixed"]) != pytest.approx(float(plain), rel=1e-4)


@pytest.mark.parametrize("balance", BALANCES)
def test_masked_pictures_are_of_the_target_and_are_not_counted(balance: str) -> None:
    method = Method(host="mic", balance=balance, confidence=0.4, mask_patch=8)
    losses = []
    for target in ([1 / 3] * 3, [0.9, 0.09, 0.01]):
        step, priors = a_step(method)
        priors.shares.shares.copy_(torch.tensor([[0.2, 0.5, 0.3], target]))
        priors.shares.batches.fill_(1)
        losses.append(float(masked_term(step)["masked"]))
        assert priors.shares.batches.tolist() == [1, 1]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("balance", BALANCES)
def test_the_detail_of_two_scales_is_adjusted_as_well(balance: str) -> None:
    torch.manual_seed(0)
    method = Method(balance=balance)
    decoder, attention = (SegformerDecoder((6, 8), (4, 8), 8) for _ in range(2))
    segmenter = HrdaSegmenter(Pyramid(), decoder, attention, 8, 3, dropout=0.0)
    student = StudentNetwork(segmenter).train()
    step = Step(student, segmenter, pair(), method, backward, torch.Generator().manual_seed(0))
    step.priors = new_priors(method, 3, (32, 48), torch.device("cpu"), lambda counts: counts)
    assert step.priors is not None
    torch.manual_seed(1)
    got = source_term(step)["source"]
    torch.manual_seed(1)  # where the detail lies
    with torch.no_grad():
        output = student(segmenter.normalise(step.pair.source_image.permute(0, 3, 1, 2).float() / 255))
    assert output.detail is not None
    labels = step.pair.source_labels.long()
    weights, offsets = step.priors.weigh(None, labels, None), step.priors.offsets(None)
    top, left, height, width = output.detail.box
    part = (slice(None), slice(top, top + height), slice(left, left + width))
    whole = corrected_cross_entropy(output.logits, labels, weights=weights, offsets=offsets)
    inner = corrected_cross_entropy(
        output.detail.logits,
        labels[part],
        weights=None if weights is None else weights[part],
        offsets=offsets,
    )
    torch.testing.assert_close(got, (1 - DETAIL_WEIGHT) * whole + DETAIL_WEIGHT * inner)


STOP = """
import os, signal
from adapt.training import trainer
step = trainer.Trainer._step
def counted(self, pairs):
    values = step(self, pairs)
    if self.iteration + 1 == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return values
trainer.Trainer._step = counted
from adapt.cli import main
main({arguments!r})
"""


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


@pytest.mark.parametrize("balance", BALANCES)
def test_resume_repeats_the_run_and_its_statistics_are_final(
    domains: Path, tmp_path: Path, balance: str
) -> None:
    more = (f"method.balance={balance}", "method.confidence=0.01")
    whole, run = tmp_path / "whole", tmp_path / "run"
    arguments = [*tiny.train_arguments(domains, whole, *more), "--evaluate", str(domains / "target_eval")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "took the shares of the classes off" in load_run(whole).doubt
    assert f"blda export onnx {whole} --without-correction" in result.output
    code = STOP.format(arguments=tiny.train_arguments(domains, run, *more))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = read_tensors(run / "last" / "0000004.safetensors")
    assert kept["shares.batches"].tolist() == [4, 4]
    assert CliRunner().invoke(main, ["train", "--resume", str(run)]).exit_code == 0
    first, second = load_run(whole), load_run(run)
    assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)
    assert second.shift_statistics().seen.any()

    scores = tmp_path / "scores.json"
    words = ["eval", str(run), "--data", str(domains / "target_eval"), "--json", str(scores)]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert set(json.loads(scores.read_text())["tau"]) == {"0", "1"}
    assert set(first.card.evaluation) == {"0.0", "0.5", "1.0"}


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (
            ("method.balance=class-balanced", "method.effective_beta=0.9", "data.crop=[512, 512]"),
            ("262 pixels or more of a crop of 512x512", "0.9962"),
        ),
        (("method.adjustment_tau=0.5",), ("method.adjustment_tau=0.5", "not logit-adjustment")),
        (
            ("method.balance=logit-adjustment", "method.effective_beta=0.9", "method.tau=0.2"),
            ("method.effective_beta=0.9, since method.balance is not class-balanced", "method.tau=0.2"),
        ),
        (("method.balance=logit-adjustment", "method.adjustment_tau=0"), ("greater than 0",)),
        (("method.balance=posthoc", "method.momentum=0.5"), ("no running statistics or shares",)),
    ],
)
def test_settings_without_meaning_are_refused(
    domains: Path, tmp_path: Path, sets: tuple[str, ...], words: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    expect_refusal(CliRunner().invoke(main, tiny.train_arguments(domains, run, *sets)), *words)
    assert not run.exists()
