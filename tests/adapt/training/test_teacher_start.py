"""When the teacher begins to label, and how much each of its labels weighs."""

import json
from pathlib import Path

import pytest
import tiny
import torch
import watch_oracle
from click.testing import CliRunner, Result
from refusals import expect_refusal
from training_step import small_segmenter

from adapt.augmentation.pairs import Pair
from adapt.cli import main
from adapt.config.method import Method
from adapt.run.run import load_run
from adapt.training.teacher import label_crops, pseudo_label
from adapt.training.trainer import Trainer


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


def train(domains: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(main, tiny.train_arguments(domains, out, *more))


def trace(run: Path) -> list[set[str]]:
    """Which losses every iteration had."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [set(json.loads(line)) - {"iteration", "iterations_per_second"} for line in lines]


def test_the_teacher_begins_as_the_student_that_learned_from_the_source(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same: list[bool] = []
    step = Trainer._step

    def recorded(self: Trainer, pairs: list[Pair]) -> dict[str, float]:
        values = step(self, pairs)
        assert self.teacher is not None
        both = zip(self.teacher.parameters(), self.student.segmenter.parameters(), strict=True)
        same.append(all(torch.equal(slow, fast) for slow, fast in both))
        return values

    monkeypatch.setattr(Trainer, "_step", recorded)
    run, source = tmp_path / "run", tmp_path / "source"
    assert train(domains, run, "method.source_start=3", "method.balance=posthoc").exit_code == 0
    assert trace(run) == [{"source"}] * 3 + [{"source", "mixed", "confident"}] * 3
    # From then on it averages students, beginning with the first that learned from its labels.
    assert same == [True, True, True, True, False, False]
    # Up to there the run is one of the source alone: the same losses to the last bit.
    monkeypatch.undo()
    assert train(domains, source, "method.host=source", "method.balance=posthoc").exit_code == 0
    first, second = (
        [json.loads(line)["source"] for line in (r / "metrics.jsonl").open()] for r in (run, source)
    )
    assert first[:4] == second[:4] and first[4:] != second[4:]
    assert load_run(run).card.finished


def test_a_start_without_an_end_is_refused(domains: Path, tmp_path: Path) -> None:
    result = train(domains, tmp_path / "run", "method.source_start=6")
    expect_refusal(result, "method.source_start=6", "none of the 6", "method.host=source")
    result = train(domains, tmp_path / "run", "method.source_start=2", "method.host=source")
    expect_refusal(result, "method.source_start=2, since method.host is source")


def test_weights_per_class_match_their_twin() -> None:
    segmenter = small_segmenter().eval()
    torch.manual_seed(1)
    images, padding = torch.rand(2, 3, 32, 48), torch.zeros(2, 32, 48, dtype=torch.bool)
    padding[1, 20:] = True
    method = Method(confidence=0.5, confidence_per="class", ignored_rows=(0.25, 0.0))
    got = label_crops(segmenter, images, padding, method)
    plain = pseudo_label(segmenter, segmenter.normalise(images), padding, 0.5)
    assert torch.equal(got.labels, plain.labels) and torch.equal(got.confident, plain.confident)
    assert not got.weights[:, :8].any()
    for picture in range(2):
        inside = ~padding[picture]
        labels, sure = got.labels[picture][inside].tolist(), (got.confidence[picture] > 0.5)[inside].tolist()
        want = torch.tensor(watch_oracle.class_weights(labels, sure))
        counted = torch.arange(32).view(-1, 1).expand(32, 48)[inside] >= 8
        torch.testing.assert_close(got.weights[picture][inside][counted], want[counted])
    assert len(got.weights[0, 8:].unique()) == len(got.labels[0, 8:].unique()) > 1
    assert len(plain.weights[0].unique()) == 1
