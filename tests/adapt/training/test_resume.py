"""What a resumed run remembers: its scores, with the iteration they belong to, and its lines, each once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner

from adapt.augmentation.pairs import Pair
from adapt.cli import main
from adapt.commands.start import resumed_trainer
from adapt.run.run import load_run
from adapt.training.trainer import Trainer


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


def test_a_run_killed_before_its_first_checkpoint_writes_every_line_once(killed: Callable[..., Path]) -> None:
    run = killed(4, "training.evaluate_every=3", "training.save_every=100")
    assert not (run / "last").exists()
    result = CliRunner().invoke(main, ["train", "--resume", str(run)])
    assert result.exit_code == 0, result.output
    assert records(run, "metrics.jsonl") == [1, 2, 3, 4, 5, 6]
    assert records(run, "evaluations.jsonl") == [3, 6]
