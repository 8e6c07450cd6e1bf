"""The strength of a run that nobody chose: less, or none, where its training evened the classes out."""

import shutil
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from adapt.commands.measuring import write_tau
from adapt.config.settings import load_config
from adapt.run.cards import ADAPTED_TAU, DEFAULT_TAU, default_tau
from adapt.run.run import load_run
from export.cli.commands import main as export_main
from export.fold.folded import graph_info
from export.sources.source import open_source

WITH_SOURCE = ("data.source=[source]", "data.target=[target]")
WITHOUT = ("data.target=[target]", "model.start=elsewhere")


@pytest.mark.parametrize(
    ("settings", "tau", "evened"),
    [
        (WITH_SOURCE, DEFAULT_TAU, False),
        ((*WITH_SOURCE, "method.balance=online"), DEFAULT_TAU, False),
        ((*WITH_SOURCE, "method.balance=off"), DEFAULT_TAU, False),
        ((*WITH_SOURCE, "method.balance=logit-adjustment"), DEFAULT_TAU, True),
        ((*WITH_SOURCE, "method.balance=class-balanced"), DEFAULT_TAU, True),
        # Without a source, the shares are those of pseudo-labels alone, and the start takes half of them off.
        ((*WITHOUT, "method.balance=logit-adjustment"), ADAPTED_TAU, False),
        ((*WITHOUT, "method.balance=off"), ADAPTED_TAU, False),
    ],
)
def test_it_follows_from_what_was_trained(settings: tuple[str, ...], tau: float, evened: bool) -> None:
    config = load_config(None, None, settings)
    assert (default_tau(config), config.evened) == (tau, evened)


def trained_with(run: Path, folder: Path, *settings: str) -> Path:
    """A copy of a run that says that it was trained with other settings."""
    shutil.copytree(run, folder)
    values = load_run(run).config.model_dump(mode="json")
    for setting in settings:
        key, _, value = setting.partition("=")
        section, name = key.split(".")
        values[section][name] = value if value != "[]" else []
    config = load_config(None, None, (), values)
    (folder / "config.yaml").write_text(config.to_yaml())
    return folder


def exported(source: Path, file: Path, *options: str) -> str:
    result = CliRunner().invoke(export_main, ["onnx", str(source), "-o", str(file), "--force", *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_an_export_takes_it_and_says_why(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapt.run.run.doubt", lambda *_: "")  # so short a training may be doubted
    adapted, file = tmp_path / "run", tmp_path / "model.onnx"
    trained_with(run, adapted, "data.source=[]", "model.start=elsewhere")
    said = exported(adapted, file)
    assert "strength: tau 0.1, the default of what was adapted without a source; --tau folds another" in said
    assert graph_info(onnx.load(file), "it").correction.tau == 0.1
    assert load_run(run).tau == 0.5


def test_a_network_whose_loss_took_the_shares_off_is_left_alone_until_somebody_chooses(
    run: Path, tmp_path: Path
) -> None:
    """As a run, as a file, and as a file that is folded again; statistics are inside all the same."""
    evened = trained_with(run, tmp_path / "run", "method.balance=logit-adjustment")
    opened, file, again = load_run(evened), tmp_path / "model.onnx", tmp_path / "again.onnx"
    assert opened.tau == 0 and "took the shares of the classes off" in opened.doubt
    assert "took the shares of the classes off" in exported(evened, file)
    assert open_source(file).evened and open_source(file).statistics().statistics.seen.any()
    assert "model.onnx has tau 0; so labels are the uncorrected ones" in exported(file, again)
    assert open_source(again).evened and graph_info(onnx.load(again), "it").correction.tau == 0
    write_tau(opened, 0.3)
    assert load_run(evened).tau == 0.3 and load_run(evened).doubt == ""
    assert "strength" not in exported(evened, file)
    assert open_source(file).tau == 0.3  # which a file made of this one keeps
