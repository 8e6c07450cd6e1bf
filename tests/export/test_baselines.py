"""`blda export eval` beside plain logit adjustment, what it says of harm, and the strength that is folded."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from agreeing import write_agreeing
from click.testing import CliRunner, Result

from adapt.cli import main as adapt_main
from adapt.commands.measuring import write_tau
from adapt.run.run import load_run, write_card
from export.cli.commands import main
from export.fold.folded import graph_info
from export.sources.network import logits_graph

TIES = 0.002
"""Share of the pixels that may fall on either side: float32 sums in another order, near a tie."""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "model.onnx"
    result = call("onnx", run, "-o", path, "--tau", "1", "--uncorrected-labels")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="module")
def of_the_run(domains: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What `adapt eval` says of the run, whose own target is the one that the files are given."""
    path = tmp_path_factory.mktemp("scores") / "run.json"
    words = ["eval", str(run), "--data", str(domains / "target_eval"), "--tau", "0", "--baselines"]
    said = CliRunner().invoke(adapt_main, [*words, "--json", str(path)])
    assert said.exit_code == 0, said.output
    return json.loads(path.read_text())


def check(result: Result, path: Path, expected: dict[str, object]) -> None:
    """The baselines of a file are those of its run, up to near-ties."""
    assert result.exit_code == 0, result.output
    found = json.loads(path.read_text())
    assert found["shares"]["pictures"] == expected["shares"]["pictures"]
    for by in ("pseudo-label shares", "mean softmax"):
        assert found["shares"][by] == pytest.approx(expected["shares"][by], abs=TIES)
    assert len(found["baselines"]) == len(expected["baselines"]) == 10
    for ours, theirs in zip(found["baselines"], expected["baselines"], strict=True):
        assert (ours["by"], ours["strength"]) == (theirs["by"], theirs["strength"])
        moved = np.abs(np.array(ours["confusion"]) - np.array(theirs["confusion"])).sum() / 2
        assert moved <= TIES * np.sum(theirs["confusion"])
        assert f"{ours['by']}, t {ours['strength']:g}" in result.output


def test_a_file_of_ours_has_the_baselines_of_its_run(
    domains: Path, file: Path, of_the_run: dict[str, object], tmp_path: Path
) -> None:
    words = ("--data", domains / "target_eval", "--baselines", "--target", domains / "target")
    out = tmp_path / "scores.json"
    check(call("eval", file, *words, "--json", out), out, of_the_run)
    assert set(json.loads(out.read_text())["tau"]) == {"0", "1"}, "as without them"


def test_anybodys_model_has_them_in_the_same_pass(
    domains: Path, run: Path, of_the_run: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export.foreign.network import Network

    bare, stats, out = (tmp_path / name for name in ("theirs.onnx", "stats.safetensors", "scores.json"))
    model = logits_graph(load_run(run).segmenter())
    del model.metadata_props[:]
    onnx.save(model, bare)
    normalised = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--stride", "32")
    target = ("--target", domains / "target")
    result = call("calibrate", bare, *target, "-o", stats, *normalised, "--classes", domains / "classes.yaml")
    assert result.exit_code == 0, result.output
    seen, plain = [], Network.logits
    monkeypatch.setattr(Network, "logits", lambda self, images: seen.append(images) or plain(self, images))
    words = ("--stats", stats, "--data", domains / "target_eval", "--baselines", *target, "--json", out)
    check(call("eval", bare, *words), out, of_the_run)
    pictures = [images for images in seen if images.shape[1:3] == tiny.SERVED_SIZE and images.any()]
    assert len(pictures) == 6 + 6, "labelled pictures, and the target's for the shares"


@pytest.mark.parametrize("words", [("--baselines",), ("--target", "x")])
def test_baselines_need_footage(domains: Path, file: Path, words: tuple[str, ...]) -> None:
    result = call("eval", file, "--data", domains / "target_eval", *words)
    assert result.exit_code == 2 and "--baselines and --target belong together" in result.output


def test_a_file_whose_network_is_not_found_says_so(domains: Path, file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    (ends,) = (entry for entry in model.metadata_props if entry.key == "blda.logits_graph")
    model.metadata_props.remove(ends)
    onnx.save(model, tmp_path / "old.onnx")
    words = ("--data", domains / "target_eval", "--baselines", "--target", domains / "target")
    result = call("eval", tmp_path / "old.onnx", *words)
    assert result.exit_code == 2 and "does not say where its network ends" in result.output
    assert call("eval", tmp_path / "old.onnx", *words[:2]).exit_code == 0, "its labels can be scored"


def test_harm_is_said_of_files(domains: Path, run: Path, file: Path, tmp_path: Path) -> None:
    """By `eval` and by `verify --data`, which does not fail for it."""
    data = write_agreeing(load_run(run), domains / "target_eval", tmp_path / "agreeing")
    result = call("eval", file, "--data", data)
    assert "the correction lowers scores on these labels (at tau 1 mIoU -" in result.output
    verified = call("verify", file, "--data", data)
    assert verified.exit_code == 0, verified.output
    assert "the correction lowers scores on these labels (at tau 1 mIoU -" in verified.output
    stored = graph_info(onnx.load(file), "it").verification["labelled"]
    assert stored["mean_iou_gain"] < -0.1  # the first picture is cut, so not all of it is as it was labelled
    assert stored["uncorrected_mean_iou"] > 0.9
    assert stored["uncorrected_mean_iou"] + stored["mean_iou_gain"] == pytest.approx(
        stored["mean_iou"] - stored["mean_iou_change"]
    )


def test_the_strength_of_the_run_is_folded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapt.run.run.doubt", lambda *_: "")  # so short a training may be doubted
    folded = {}
    for name, tau in (("default", None), ("chosen", 0.35), ("none", 0.0)):
        if tau is not None:
            write_tau(load_run(run), tau)
        result = call("onnx", run, "-o", tmp_path / f"{name}.onnx")
        assert result.exit_code == 0, result.output
        folded[name] = graph_info(onnx.load(tmp_path / f"{name}.onnx"), name).correction.tau
        assert ("tau 0 was chosen for the run" in result.output) == (name == "none")
    assert folded == {"default": 0.5, "chosen": 0.35, "none": 0.0}
    result = call("onnx", run, "-o", tmp_path / "given.onnx", "--tau", "0.5")
    assert graph_info(onnx.load(tmp_path / "given.onnx"), "it").correction.tau == 0.5


def test_a_run_whose_statistics_speak_against_it_is_not_corrected(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapt.run.run.doubt", lambda found, _: f"{len(found.seen)} classes say no")
    strange = tmp_path / "run"
    shutil.copytree(run, strange)
    write_card(strange, load_run(strange).card.model_copy(update={"tau": None}))
    assert load_run(strange).tau == 0
    result = call("onnx", strange, "-o", tmp_path / "model.onnx")
    assert result.exit_code == 0, result.output
    assert "3 classes say no; so labels are the uncorrected ones, and --tau folds another" in result.output
    assert graph_info(onnx.load(tmp_path / "model.onnx"), "it").correction.tau == 0
    said = CliRunner().invoke(adapt_main, ["tau", str(strange)])
    assert "3 classes say no; so the run's tau is 0 until one is chosen" in said.output
    write_tau(load_run(strange), 0.3)
    assert load_run(strange).tau == 0.3 and load_run(strange).doubt == ""
