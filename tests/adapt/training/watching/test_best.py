"""RUN/best: there when an earlier moment was better, a run like any other, the same after a restart."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner, Result

from adapt.cli import main
from adapt.run.run import load_run, read_tensors, write_tensors
from adapt.training.watching import watch as watching


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


def adapt(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.fixture
def like(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Makes a watch that likes the moments as it is told, from its first batch on."""
    monkeypatch.setattr(watching, "MEMORY", 1)

    def set_it(by_steps: dict[int, float]) -> None:
        look = watching.Watch.keeps

        def keeps(self: watching.Watch, iteration: int) -> bool:
            monkeypatch.setattr(watching, "agreement_of", lambda counts: by_steps[iteration])
            return look(self, iteration)

        monkeypatch.setattr(watching.Watch, "keeps", keeps)

    return set_it


def test_an_earlier_moment_is_kept_as_a_run_of_its_own(domains: Path, tmp_path: Path, like) -> None:  # type: ignore[no-untyped-def]
    like({2: 0.5, 4: 0.7, 6: 0.6})
    run, early = tmp_path / "run", tmp_path / "early"
    result = adapt(*tiny.train_arguments(domains, run))
    assert result.exit_code == 0, result.output
    assert "agreed best on the target at iteration 4" in result.output and str(run / "best") in result.output
    best = load_run(run / "best")
    assert best.card.iterations == 4 and len(best.frames) == 4
    last, kept = load_run(run).tensors, best.tensors
    assert not torch.equal(kept["student.classify.weight"], last["student.classify.weight"])
    fourth = read_tensors(run / "last" / "0000004.safetensors")
    assert torch.equal(kept["student.classify.weight"], fourth["student.segmenter.classify.weight"])
    assert torch.equal(kept["teacher.classify.weight"], fourth["teacher.classify.weight"])
    assert any(key.startswith("posthoc.") for key in kept), "statistics of its own weights"
    assert not torch.equal(kept["posthoc.rows.means"], last["posthoc.rows.means"])

    scores = tmp_path / "scores.json"
    result = adapt("eval", str(run / "best"), "--data", str(domains / "target_eval"), "--json", str(scores))
    assert result.exit_code == 0, result.output
    assert set(json.loads(scores.read_text())["tau"]) == {"0", "0.5", "1"}
    assert not early.exists()


def test_there_is_none_where_the_last_is_the_best(domains: Path, tmp_path: Path, like) -> None:  # type: ignore[no-untyped-def]
    like({2: 0.5, 4: 0.4, 6: 0.6, 8: 0.3})
    run = tmp_path / "run"
    assert adapt(*tiny.train_arguments(domains, run)).exit_code == 0
    assert not (run / "best").exists()
    sixth = load_run(run).tensors["student.classify.weight"]
    result = adapt("train", "--resume", str(run), "--set", "training.iterations=8")
    assert result.exit_code == 0, result.output
    best = load_run(run / "best")
    assert best.card.iterations == 6, "it was the best when the run went on"
    assert torch.equal(best.tensors["student.classify.weight"], sixth)


def test_without_statistics_none_are_gathered(domains: Path, tmp_path: Path, like) -> None:  # type: ignore[no-untyped-def]
    like({2: 0.7, 4: 0.6, 6: 0.5})
    run = tmp_path / "run"
    assert adapt(*tiny.train_arguments(domains, run, "method.balance=off")).exit_code == 0
    best = load_run(run / "best")
    assert best.card.iterations == 2
    assert not any(key.startswith("posthoc.") for key in best.tensors)


STOP = """
import os, signal
from adapt.training import trainer
from adapt.training.watching import watch
watch.MEMORY = 1
step = trainer.Trainer._step
def counted(self, pairs):
    values = step(self, pairs)
    if self.iteration + 1 == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return values
trainer.Trainer._step = counted
from adapt.cli import main
main({arguments!r})
"""


@pytest.mark.parametrize("at", [3, 5])
def test_a_killed_run_watches_on_as_if_nothing_had_happened(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(watching, "MEMORY", 1)
    whole, run = tmp_path / "whole", tmp_path / "run"
    more = ("method.source_start=1", "method.confidence_per=class", "method.confidence=0.4")
    assert adapt(*tiny.train_arguments(domains, whole, *more)).exit_code == 0
    code = STOP.format(at=at, arguments=tiny.train_arguments(domains, run, *more))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert adapt("train", "--resume", str(run)).exit_code == 0
    assert (run / "watch.jsonl").read_text() == (whole / "watch.jsonl").read_text()
    records = [json.loads(line) for line in (run / "watch.jsonl").read_text().splitlines()]
    assert [record["iteration"] for record in records] == [2, 3, 4, 5, 6]
    assert all(len(record["shares"]) == 3 and 0 <= record["agreement"] <= 1 for record in records)
    assert (run / "best").exists() == (whole / "best").exists()
    first, second = load_run(whole).tensors, load_run(run).tensors
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_best_from_after_the_checkpoint_is_forgotten(domains: Path, tmp_path: Path, like) -> None:  # type: ignore[no-untyped-def]
    """Killed between writing RUN/best and the checkpoint that knows of it."""
    like({2: 0.5, 4: 0.7, 6: 0.6})
    run = tmp_path / "run"
    assert adapt(*tiny.train_arguments(domains, run)).exit_code == 0
    (run / "last" / "0000006.safetensors").unlink()
    (run / "last" / "0000004.safetensors").rename(run / "last" / "0000003.safetensors")
    path = run / "last" / "0000003.safetensors"
    tensors = read_tensors(path)
    tensors["watch.kept"], tensors["watch.kept_at"] = torch.tensor(0.5), torch.tensor(2)
    write_tensors(path, tensors, {"iteration": "3", "scaler": "{}"})
    card = json.loads((run / "card.json").read_text())
    (run / "card.json").write_text(json.dumps(card | {"finished": False, "iterations": 3}))
    result = adapt("train", "--resume", str(run))
    assert result.exit_code == 0, result.output
    assert load_run(run / "best").card.iterations == 4


def test_a_checkpoint_of_before_the_watch_goes_on(domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert adapt(*tiny.train_arguments(domains, run)).exit_code == 0
    for path in (run / "last").glob("*.safetensors"):
        kept = {k: v for k, v in read_tensors(path).items() if not k.startswith("watch.")}
        write_tensors(path, kept, {"iteration": str(int(path.stem)), "scaler": "{}"})
    result = adapt("train", "--resume", str(run), "--set", "training.iterations=8")
    assert result.exit_code == 0, result.output


def test_the_source_alone_is_not_watched(domains: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert adapt(*tiny.train_arguments(domains, run, "method.host=source")).exit_code == 0
    assert not (run / "watch.jsonl").exists() and not (run / "best").exists()
