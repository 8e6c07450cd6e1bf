"""A few labelled pictures of the target in training: how they are drawn, counted, corrected and resumed."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner, Result
from refusals import expect_refusal
from training_step import new_balance, new_step, small_segmenter

from adapt.augmentation.pairs import LabelledTarget, TrainingPairs
from adapt.balance.class_priors import SOURCE, TARGET, new_priors
from adapt.balance.correction import stack_tables
from adapt.balance.losses import corrected_cross_entropy, domain_rows
from adapt.balance.online import Balance
from adapt.cli import main
from adapt.config.method import Method
from adapt.data.classes import IGNORE, load_classes
from adapt.data.datasets import LabelledFolder, UnlabelledFolder, check_labels
from adapt.model.segmenter import StudentNetwork
from adapt.run.run import load_run
from adapt.training.step import Step, mixed_term, source_term


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two labelled pictures of the target in `few`."""
    root = tiny.make_domains(tmp_path_factory.mktemp("domains"))
    for part in ("images", "labels"):
        (root / "few" / part).mkdir(parents=True)
        for index in range(2):
            shutil.copy(root / "target_eval" / part / f"{index}.png", root / "few" / part)
    return root


def train(
    domains: Path, out: Path, *more: str, few: Path | None = None, also: tuple[str, ...] = ()
) -> Result:
    words = [
        *tiny.train_arguments(domains, out, *more),
        "--target-labels",
        str(few or domains / "few"),
        *also,
    ]
    return CliRunner().invoke(main, words)


# ---- drawn -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [None, 0.01])
def test_they_are_a_share_of_the_labelled_crops_however_few_they_are(
    domains: Path, temperature: float | None
) -> None:
    classes = load_classes(domains / "classes.yaml")
    source, few = (LabelledFolder(domains / name, classes) for name in ("source", "few"))
    pairs = TrainingPairs(
        source,
        UnlabelledFolder(domains / "target"),
        check_labels(source).class_pixels,
        crop=(48, 64),
        rare_class_temperature=temperature,
        seed=3,
        labelled=LabelledTarget(few, check_labels(few).class_pixels, 0.3),
    )
    drawn = [pairs[index] for index in range(200)]
    of_target = [bool(pair.labelled_target) for pair in drawn]
    assert 40 < sum(of_target) < 80
    pictures = {domain: [folder[i] for i in range(len(folder))] for domain, folder in ((0, source), (1, few))}
    for pair, labelled in zip(drawn[:40], of_target, strict=False):
        image = pair.source_image.numpy()
        whole = [(s.image[:, ::step], s.labels[:, ::step]) for s in pictures[labelled] for step in (1, -1)]
        assert any((image == i).all() and (pair.source_labels.numpy() == y).all() for i, y in whole)
    assert torch.equal(pairs[7].source_image, drawn[7].source_image), "a pair depends on its number alone"


# ---- counted and corrected -------------------------------------------------------------------------------


def a_step(method: Method, balance: Balance | None = None) -> Step:
    """Two labelled crops, the second of which is of the target."""
    student = StudentNetwork(small_segmenter())
    step = new_step(student, method, balance, small_segmenter(seed=5).eval().requires_grad_(False))
    step.pair = step.pair._replace(labelled_target=torch.tensor([False, True]))
    step.target_labels = True
    return step


def shares_of(labels: torch.Tensor) -> torch.Tensor:
    counts = torch.bincount(labels[labels != IGNORE].long(), minlength=3)
    return counts / counts.sum()


@pytest.mark.parametrize("host", ["source", "dacs"])
def test_their_pixels_count_as_the_targets_with_their_true_classes(host: str) -> None:
    method = Method(host=host, balance="logit-adjustment", confidence=0.4)
    step = a_step(method)
    step.priors = new_priors(method, 3, (32, 48), torch.device("cpu"), lambda counts: counts)
    assert step.priors is not None
    source_term(step)
    labels = step.pair.source_labels
    torch.testing.assert_close(step.priors.shares.shares[SOURCE], shares_of(labels[0]))
    counted = labels[1].long().flatten()
    if host == "dacs":
        assert step.priors.shares.batches.tolist() == [1, 0], "once a step, with the mixed pictures"
        mixed_term(step)
        mixed = step.mixed
        assert mixed is not None
        assert mixed.from_target[1].all() and not mixed.from_target[0].all()  # pasted from target into target
        own = mixed.labels[mixed.from_target & (mixed.weights > 0)]
        counted = torch.cat([own.flatten(), counted])
    torch.testing.assert_close(step.priors.shares.shares[TARGET], shares_of(counted))
    assert step.priors.shares.batches.tolist() == [1, 1]


def test_statistics_of_the_source_are_those_of_its_own_crops_alone() -> None:
    both, alone = new_balance(), new_balance()
    source_term(a_step(Method(), both))
    step = a_step(Method(), alone)
    step.target_labels = False
    labels = step.pair.source_labels.clone()
    labels[1] = IGNORE
    step.pair = step.pair._replace(source_labels=labels)
    source_term(step)
    for name, value in both.statistics.state_dict().items():
        assert torch.equal(value, alone.statistics.state_dict()[name]), name


def test_the_target_counts_true_labels_of_the_logits_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    balance, taken = new_balance(), []
    take = Balance.take_target

    def recorded(self: Balance, logits: torch.Tensor, labels: torch.Tensor) -> None:
        taken.append((logits, labels))
        take(self, logits, labels)

    monkeypatch.setattr(Balance, "take_target", recorded)
    step = a_step(Method(), balance)
    source_term(step)
    mixed_term(step)
    ((logits, labels),) = taken
    with torch.no_grad():
        images = step.pair.source_image.permute(0, 3, 1, 2).float() / 255
        own = step.segmenter(step.segmenter.normalise(images))
    torch.testing.assert_close(logits[2:], own)
    assert (labels[2] == IGNORE).all() and torch.equal(labels[3], step.pair.source_labels[1].long())
    assert balance.statistics.target.seen.any()


def test_the_loss_takes_the_targets_shifts_of_the_step_before() -> None:
    balance, method = new_balance(), Method(tau=1.0, density_weight=0.0)
    first = a_step(method, balance)
    source_term(first)
    mixed_term(first)
    before = balance.target_table
    fresh = new_balance()
    fresh.statistics.load_state_dict(balance.statistics.state_dict())
    for got, want in zip(
        fresh.target_so_far()[:3], before[:3], strict=True
    ):  # the fourth is of networks elsewhere
        assert torch.equal(got, want), "a resumed run has the same"
    step = a_step(method, balance)
    loss = source_term(step)["source"]
    with torch.no_grad():
        images = step.pair.source_image.permute(0, 3, 1, 2).float() / 255
        logits = step.segmenter(step.segmenter.normalise(images))
    labels, of_target = step.pair.source_labels.long(), step.from_target
    assert of_target is not None
    table, rows = stack_tables(balance.source_table, before), domain_rows(labels, of_target, 3)
    want = corrected_cross_entropy(logits, labels, table=table, tau=1.0, rows=rows)
    torch.testing.assert_close(loss, want)
    other = corrected_cross_entropy(logits, labels, table=balance.source_table, tau=1.0)
    assert abs(float(loss - other)) > 1e-3


# ---- from the command line -------------------------------------------------------------------------------

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


@pytest.mark.parametrize(
    "sets",
    [
        ("method.host=source", "method.balance=posthoc"),
        ("method.host=source", "method.balance=online"),
        ("method.host=mic", "method.feature_distance=0", "method.mask_patch=8", "method.balance=online"),
    ],
)
def test_a_killed_run_goes_on_with_them(domains: Path, tmp_path: Path, sets: tuple[str, ...]) -> None:
    whole, run, without = tmp_path / "whole", tmp_path / "run", tmp_path / "without"
    more = (*sets, "method.labelled_share=0.5")
    result = train(domains, whole, *more)
    assert result.exit_code == 0, result.output
    assert "labelled target: 2 images in the layout of" in result.output
    words = [*tiny.train_arguments(domains, run, *more), "--target-labels", str(domains / "few")]
    killed = subprocess.run([sys.executable, "-c", STOP.format(arguments=words)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert CliRunner().invoke(main, ["train", "--resume", str(run)]).exit_code == 0
    first, second = load_run(whole).tensors, load_run(run).tensors
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert CliRunner().invoke(main, tiny.train_arguments(domains, without, *sets)).exit_code == 0
    assert not torch.equal(
        first["student.classify.weight"], load_run(without).tensors["student.classify.weight"]
    )


def test_a_run_knows_how_many_they_were(domains: Path, tmp_path: Path) -> None:
    few = shutil.copytree(domains / "few", tmp_path / "few")
    code = ("training.iterations=2", "training.save_every=1", "method.host=source", "method.balance=off")
    run = tmp_path / "run"
    assert train(domains, run, *code, few=few).exit_code == 0
    (few / "images" / "1.png").unlink()
    (few / "labels" / "1.png").unlink()
    resumed = CliRunner().invoke(main, ["train", "--resume", str(run), "--set", "training.iterations=3"])
    expect_refusal(resumed, "labelled target", "2 gone (images/1.png, labels/1.png)")


def test_pictures_that_are_used_twice_are_named(domains: Path, tmp_path: Path) -> None:
    few, once = str(domains / "few"), ("training.iterations=1", "method.balance=off")
    apart = train(domains, tmp_path / "apart", *once)
    assert "unlabelled ones too" not in apart.output and "warning" not in apart.output
    both = train(domains, tmp_path / "both", *once, also=("--target", few, "--evaluate", few))
    assert both.exit_code == 0, both.output
    assert "2 of the 2 labelled target pictures are unlabelled ones too" in both.output
    assert "warning: 2 of the 2 pictures to evaluate on are trained on" in both.output


def test_what_cannot_be_used_is_refused(domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    expect_refusal(
        CliRunner().invoke(main, tiny.train_arguments(domains, run, "method.labelled_share=0.5")),
        "method.labelled_share=0.5, since data.target_labels is not given",
    )
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "labels").mkdir()
    expect_refusal(train(domains, run, few=tmp_path / "empty"), "holds no images")
    other = shutil.copytree(domains / "few", tmp_path / "other")
    (other / "classes.yaml").write_text((domains / "classes.yaml").read_text().replace("box", "crate"))
    expect_refusal(train(domains, run, few=other), "box", "crate")
    expect_refusal(train(domains, run, "method.labelled_share=1", few=None), "labelled_share")
    assert not run.exists()
