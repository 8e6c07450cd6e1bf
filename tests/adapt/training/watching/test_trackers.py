"""Curves for other programs, through accelerate: what they get, and which are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from accelerate import tracking
from click.testing import CliRunner, Result
from refusals import expect_refusal

from adapt.cli import main


class Recorder(tracking.GeneralTracker):
    """Stands for a tracker that is installed."""

    name = "wandb"
    requires_logging_directory = False
    told: list[tuple[str, Any]] = []  # noqa: RUF012 (one for all)

    def __init__(self, project: str, **options: Any) -> None:
        super().__init__()
        Recorder.told.append(("begin", (project, options)))

    @property
    def tracker(self) -> "Recorder":
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        Recorder.told.append(("settings", values))

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        Recorder.told.append(("log", (step, values)))

    def finish(self) -> None:
        Recorder.told.append(("finish", None))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    Recorder.told.clear()
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setattr(tracking, "_available_trackers", [tracking.LoggerType.WANDB])
    return Recorder.told


def train(root: Path, trackers: str) -> Result:
    (root / "data").mkdir()
    tiny.make_domains(root / "data", images=2)
    sets = ("training.iterations=2", f"training.trackers={trackers}")
    return CliRunner().invoke(main, tiny.train_arguments(root / "data", root / "run", *sets))


def test_a_tracker_gets_settings_and_every_curve(installed: list[tuple[str, Any]], tmp_path: Path) -> None:
    result = train(tmp_path, "[tensorboard, wandb]")
    assert result.exit_code == 0, result.output
    kinds = [kind for kind, _ in installed]
    assert kinds[:2] == ["begin", "settings"] and kinds[-1] == "finish"
    assert installed[0][1] == ("blda", {"name": "run"})
    assert installed[1][1]["data.crop"] == "[32, 32]" and installed[1][1]["training.batch"] == 2
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [values for kind, values in installed if kind == "log"]
    for line in lines:
        (values,) = [v for step, v in logged if step == line["iteration"] and "train/source" in v]
        assert values["train/source"] == line["source"]
    assert any("watch/agreement" in values for _, values in logged)
    assert list((tmp_path / "run" / "tensorboard").glob("*tfevents*"))


def test_without_trackers_there_is_no_board(tmp_path: Path) -> None:
    result = train(tmp_path, "[]")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("trackers", "words"),
    [("[wandbb]", ("'wandbb'", "wandb")), ("[mlflow]", ("mlflow", "pip install mlflow"))],
)
def test_trackers_that_are_not_there_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trackers: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(tracking, "_available_trackers", [])
    expect_refusal(train(tmp_path, trackers), *words)
    assert not (tmp_path / "run").exists()
