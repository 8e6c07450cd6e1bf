"""The strength of a run that nobody chose: less where its training evened the classes out already."""

import shutil
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from adapt.commands.measuring import write_tau
from adapt.config.settings import load_config
from adapt.run.cards import ADJUSTED_TAU, DEFAULT_TAU, default_tau
from adapt.run.run import load_run
from export.cli.commands import main as export_main
from export.fold.folded import graph_info


@pytest.mark.parametrize(
    ("settings", "source", "tau"),
    [
        ((), True, DEFAULT_TAU),
        (("method.balance=online",), True, DEFAULT_TAU),
        (("method.balance=off",), True, DEFAULT_TAU),
        (("method.balance=logit-adjustment",), True, ADJUSTED_TAU),
        (("method.balance=logit-adjustment", "method.adjustment_tau=0.5"), True, ADJUSTED_TAU),
        (("method.balance=class-balanced",), True, ADJUSTED_TAU),
        # Without a source the classifier is adjusted before the first step, whatever the losses do.
        (("method.balance=off", "model.start=elsewhere"), False, ADJUSTED_TAU),
        (("method.balance=off", "model.start=elsewhere", "method.start_adjustment=0"), False, DEFAULT_TAU),
        (("method.balance=off", "model.start=elsewhere"), True, DEFAULT_TAU),
    ],
)
def test_it_is_less_after_losses_or_a_start_that_even_out(
    settings: tuple[str, ...], source: bool, tau: float
) -> None:
    domains = ("data.source=[source]", "data.target=[target]") if source else ("data.target=[target]",)
    assert default_tau(load_config(None, None, (*domains, *settings))) == tau


def test_there_is_none_after_a_loss_that_was_adjusted_at_full_strength(run: Path, tmp_path: Path) -> None:
    """Whatever the statistics say, until somebody chooses one."""
    adjusted, config = tmp_path / "run", load_run(run).config
    shutil.copytree(run, adjusted)
    for strength, off in ((1.0, True), (0.9, False)):
        changed = {"balance": "logit-adjustment", "adjustment_tau": strength}
        method = config.method.model_copy(update=changed)
        (adjusted / "config.yaml").write_text(config.model_copy(update={"method": method}).to_yaml())
        opened = load_run(adjusted)
        assert ("nothing to even out" in opened.doubt) == off
        assert not off or opened.tau == 0
    write_tau(load_run(adjusted), 0.3)
    assert load_run(adjusted).tau == 0.3 and load_run(adjusted).doubt == ""


def test_an_export_takes_it_and_says_why(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapt.run.run.doubt", lambda *_: "")  # so short a training may be doubted
    adjusted = tmp_path / "run"
    shutil.copytree(run, adjusted)
    config = load_run(run).config
    method = config.method.model_copy(update={"balance": "logit-adjustment", "adjustment_tau": 0.5})
    (adjusted / "config.yaml").write_text(config.model_copy(update={"method": method}).to_yaml())
    why = "strength: tau 0.1, the default of a network whose training evened the classes out; --tau folds"
    for folder, options, tau in ((run, (), 0.5), (adjusted, (), 0.1), (adjusted, ("--tau", "0.1"), 0.1)):
        file = tmp_path / "model.onnx"
        words = ["onnx", str(folder), "-o", str(file), "--force", *options]
        result = CliRunner().invoke(export_main, words)
        assert result.exit_code == 0, result.output
        assert graph_info(onnx.load(file), "it").correction.tau == tau
        assert (why in result.output) == (folder == adjusted and not options)
