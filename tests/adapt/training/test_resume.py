"""Training that is killed or stopped by Ctrl-C goes on as if nothing had happened, and keeps its scores."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner
from training_runs import HOSTS, adapt, album, trace, train

from adapt.augmentation.pairs import Pair
from adapt.cli import main
from adapt.commands.resuming import resumed_trainer
from adapt.run.run import load_run
from adapt.training.trainer import Trainer
from serve.media.partial import temporary_for


class Killed(BaseException):
    """Caught by nothing, and nothing is saved."""


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a run that ends in the step of an iteration."""

    def make(at: int, *more: str) -> Path:
        tiny.make_domains(tmp_path, images=3)
        step = Trainer._step

        def last(self: Trainer, pairs: list[Pair]) -> dict[str, float]:
            if self.iteration + 1 == at:
                raise Killed
            return step(self, pairs)

        arguments = tiny.train_arguments(tmp_path, tmp_path / "run", *more)
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_step", last)
            with pytest.raises(Killed):
                CliRunner().invoke(main, [*arguments, "--evaluate", str(tmp_path / "target_eval")])
        return tmp_path / "run"

    return make


def records(run: Path, name: str) -> list[int]:
    return [json.loads(line)["iteration"] for line in (run / name).read_text().splitlines()]


def test_scores_stay_in_the_card(killed: Callable[..., Path]) -> None:
    run = killed(6, "training.evaluate_every=4", "training.save_every=4")
    assert load_run(run).card.evaluation == {}  # it was saved before it was evaluated

    trainer = resumed_trainer(run)
    assert trainer.iteration == 4
    trainer.save()
    card = load_run(run).card
    assert card.evaluated_at == 4 and set(card.evaluation) == {"0.0"}
    lines = (run / "evaluations.jsonl").read_text()
    measured = json.loads(lines)["tau"]["0"]
    assert card.evaluation["0.0"] == measured

    later = lines.replace('"iteration": 4', '"iteration": 5')
    (run / "evaluations.jsonl").write_text(lines + later)  # of steps that are done again
    assert resumed_trainer(run).evaluated.evaluated_at == 4
    assert records(run, "evaluations.jsonl") == [4]

    (run / "evaluations.jsonl").unlink()
    trainer = resumed_trainer(run)
    assert trainer.evaluated == (card.evaluation, 4)
    trainer.save()
    assert load_run(run).card == card

    rest = ["--set", "data.evaluate=null"]
    result = CliRunner().invoke(main, ["train", "--resume", str(run), *rest])
    assert result.exit_code == 0, result.output
    ended = load_run(run).card
    assert ended.finished and ended.iterations == 6
    assert (ended.evaluation, ended.evaluated_at) == (card.evaluation, 4)


def test_scores_from_after_the_checkpoint_are_forgotten(killed: Callable[..., Path]) -> None:
    run = killed(6, "training.evaluate_every=5", "training.save_every=2")
    assert records(run, "evaluations.jsonl") == [5]
    trainer = resumed_trainer(run)
    assert trainer.iteration == 4 and trainer.evaluated == ({}, None)


@pytest.mark.parametrize("while_writing", [False, True], ids=["before", "while writing it"])
def test_a_run_killed_before_its_first_checkpoint_writes_every_line_once(
    killed: Callable[..., Path], while_writing: bool
) -> None:
    run = killed(4, "training.evaluate_every=3", "training.save_every=100")
    assert not (run / "last").exists()
    if while_writing:
        if (writer := os.fork()) == 0:
            with temporary_for(run / "last" / "0000003.safetensors"):
                os._exit(0)  # a kill removes nothing
        os.waitpid(writer, 0)
        assert len(list((run / "last").iterdir())) == 1
    result = CliRunner().invoke(main, ["train", "--resume", str(run)])
    assert result.exit_code == 0, result.output
    assert [path.name for path in (run / "last").iterdir()] == ["0000006.safetensors"]
    assert records(run, "metrics.jsonl") == [1, 2, 3, 4, 5, 6]
    assert records(run, "evaluations.jsonl") == [3, 6]


STOP = """
import os, signal, sys
from adapt.training import trainer
step = trainer.Trainer._step
def counted(self, pair):
    values = step(self, pair)
    if self.iteration + 1 == {at}:
        os.kill(os.getpid(), signal.{signal})
    return values
trainer.Trainer._step = counted
from adapt.cli import main
main({arguments!r})
"""


@pytest.mark.parametrize("at", [1, 3, 5])
def test_kill_and_resume_repeat_the_uninterrupted_run(
    domains: Path, finished: Path, tmp_path: Path, at: int
) -> None:
    """kill -9 inside a step; the resumed run's losses and weights are bitwise those of the whole run."""
    run = tmp_path / "run"
    code = STOP.format(at=at, signal="SIGKILL", arguments=tiny.train_arguments(domains, run))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    load_run(run).segmenter()  # loadable at any moment
    result = adapt("train", "--resume", str(run))
    assert result.exit_code == 0, result.output
    assert trace(run) == trace(finished)
    assert album(run) == album(finished)
    first, second = load_run(finished).tensors, load_run(run).tensors
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_kill_and_resume_of_everything_at_once(domains: Path, own: str, tmp_path: Path) -> None:
    """Masks, feature distance, two scales and accumulated gradients go on as if nothing had happened."""
    more = (own, *HOSTS["mic"], "model.multi_resolution=true", "training.batch=1", "training.accumulate=2")
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(domains, whole, *more).exit_code == 0
    code = STOP.format(at=3, signal="SIGKILL", arguments=tiny.train_arguments(domains, run, *more))
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == -signal.SIGKILL
    assert adapt("train", "--resume", str(run)).exit_code == 0
    assert trace(run) == trace(whole)
    first, second = load_run(whole).tensors, load_run(run).tensors
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(
    domains: Path, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code = STOP.format(at=3, signal="SIGINT", arguments=tiny.train_arguments(domains, run))
    stopped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert stopped.returncode == 130, stopped.stderr
    assert f"adapt train --resume {run}" in stopped.stdout
    assert load_run(run).card.iterations == 3
    assert adapt("train", "--resume", str(run)).exit_code == 0
    assert trace(run) == trace(finished)


def test_kill_at_any_moment_leaves_a_loadable_run(domains: Path, tmp_path: Path) -> None:
    """Killed from outside at random times while it does nothing but save: never half a file."""
    run = tmp_path / "run"
    arguments = tiny.train_arguments(domains, run, "training.save_every=1", "training.iterations=100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "adapt", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while len(list((run / "last").glob("*.safetensors"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        for _ in range(20):  # the reader sees whole files while the writer replaces them
            load_run(run).segmenter()
            time.sleep(0.013)
    finally:
        process.kill()
        process.wait()
    opened = load_run(run)
    assert opened.segmenter().num_classes == 3
    assert opened.card.iterations > 0
