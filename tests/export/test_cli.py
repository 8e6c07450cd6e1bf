"""The commands as people call them, from a real run folder to checked files and one-sentence errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from click.testing import CliRunner, Result
from onnx_segmenters import pictures, run
from safetensors.torch import load_file, save_file

import export.pipeline
from adapt.cli import main as adapt_main
from adapt.run.cards import DEFAULT_TAU
from export.cli.commands import main
from export.fold.folded import graph_info


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of a few iterations with the correction's statistics."""
    root = tmp_path_factory.mktemp("domains")
    tiny.make_domains(root)
    result = CliRunner().invoke(adapt_main, tiny.train_arguments(root, root / "run"))
    assert result.exit_code == 0, result.output
    return root / "run"


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("files") / "model.onnx"
    result = call("onnx", trained, "-o", path, "--tau", DEFAULT_TAU)  # so short a training is doubted
    assert result.exit_code == 0, result.output
    assert "passed: against the network of" in result.output
    assert f"blda serve image {path}" in result.output
    return path


def test_a_run_becomes_a_checked_file(exported):
    info = graph_info(onnx.load(exported), "")
    assert info.card.classes == ("ground", "sky", "box") and info.card.size is None
    assert info.correction.tau == 0.5 and not info.correction.runtime_tau
    assert info.correction.error_bound <= 0.1  # a network of six iterations, whose curves are steep
    assert info.verification["passed"] is True and "target pictures" in info.verification["pictures"]
    assert run(onnx.load(exported), pictures(1, 65, 97))["labels"].shape == (1, 65, 97)


def test_verify_repeats_the_check(exported, trained):
    target = trained.parent / "target"
    for arguments in (["--data", target], ["--against", trained]):
        result = call("verify", exported, *arguments)
        assert result.exit_code == 0, result.output
        assert "passed" in result.output


def test_json_of_verify_is_its_verdict(exported, trained, tmp_path):
    file = tmp_path / "verdict.json"
    result = call("verify", exported, "--against", trained, "--json", file)
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found["passed"] is True and found["failures"] == [] and found["gates_passed"] is True
    stored = graph_info(onnx.load(exported), "").verification
    assert {key: found[key] for key in ("agreement", "near_ties", "frames")} == {
        key: stored[key] for key in ("agreement", "near_ties", "frames")
    }
    assert call("verify", exported, "--json", file).exit_code == 2
    broken = break_a_weight(exported, tmp_path / "broken.onnx")
    assert call("verify", broken, "--json", file, "--force").exit_code == 1
    found = json.loads(file.read_text())
    assert found["passed"] is False and found["failures"]


def test_weights_of_other_programs_are_named_with_what_takes_them(tmp_path):
    import torch

    torch.save({}, tmp_path / "theirs.pth")
    balance = ("balance", tmp_path / "theirs.pth", "--target", tmp_path, "-o", tmp_path / "b.onnx")
    for words in (balance, ("verify", tmp_path / "theirs.pth"), ("show", tmp_path / "theirs.pth")):
        result = call(*words)
        assert result.exit_code == 2 and "PyTorch checkpoint" in result.output, result.output


def test_a_network_that_tells_nothing_apart_is_not_checked(trained, tmp_path):
    """All its logits are 0, so that every label is as right as any other."""
    blind = tmp_path / "run"
    shutil.copytree(trained, blind)
    tensors = load_file(blind / "model.safetensors")
    last = [name for name in tensors if name.startswith("student.classify.")]
    save_file(tensors | {name: tensors[name] * 0 for name in last}, blind / "model.safetensors")
    result = call("onnx", blind, "--without-correction", "-o", tmp_path / "model.onnx")
    assert result.exit_code == 2 and "near-ties" in result.output and "--data" in result.output
    assert last and not (tmp_path / "model.onnx").exists()


def test_verify_with_ground_truth_stores_what_it_found(exported, trained, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(exported.read_bytes())
    result = call("verify", file, "--data", trained.parent / "target_eval")
    assert result.exit_code == 0 and "mIoU" in result.output, result.output
    stored = graph_info(onnx.load(file), "").verification
    assert stored["passed"] is True and abs(stored["labelled"]["mean_iou_change"]) <= 0.002
    broken = break_a_weight(exported, tmp_path / "broken.onnx")
    assert call("verify", broken).exit_code == 1
    assert graph_info(onnx.load(broken), "").verification["passed"] is False


def test_a_file_folded_again_with_another_tau_needs_no_run(exported, trained, tmp_path):
    out = tmp_path / "again.onnx"
    extras = ("--runtime-tau", "--scores", "--uncorrected-labels", "--size", "64x96")
    data = ("--data", trained.parent / "target")
    result = call("onnx", exported, "--tau", 0.1, *extras, *data, "--error-bound", 0.05, "-o", out)
    assert result.exit_code == 0, result.output
    model = onnx.load(out)
    info = graph_info(model, "")
    assert info.correction.tau == 0.1 and info.correction.runtime_tau and info.card.size == (64, 96)
    outputs = run(model, pictures(1, 64, 96), tau=0.0)
    assert set(outputs) == {"labels", "scores", "uncorrected_labels"}
    np.testing.assert_array_equal(outputs["labels"], outputs["uncorrected_labels"])


def test_without_correction_there_is_none(trained, tmp_path):
    out = tmp_path / "plain.onnx"
    assert call("onnx", trained, "--without-correction", "-o", out).exit_code == 0
    assert graph_info(onnx.load(out), "").correction is None
    result = call("onnx", out, "-o", tmp_path / "corrected.onnx")
    assert result.exit_code == 2 and "holds no statistics" in result.output


def test_an_existing_file_is_kept_unless_forced(exported, trained, tmp_path):
    out = tmp_path / "model.onnx"
    out.write_text("precious")
    result = call("onnx", exported, "-o", out)
    assert result.exit_code == 2 and "--force" in result.output and out.read_text() == "precious"
    data = ("--data", trained.parent / "target")
    assert call("onnx", exported, *data, "-o", out, "--force").exit_code == 0
    assert graph_info(onnx.load(out), "").correction is not None


def break_a_weight(path: Path, out: Path) -> Path:
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "blda/own_knots")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1, tensor.name))
    onnx.save(model, out)
    return out


def test_verify_fails_with_exit_code_1(exported, tmp_path):
    result = call("verify", break_a_weight(exported, tmp_path / "broken.onnx"))
    assert result.exit_code == 1 and "FAILED" in result.output


def test_a_failed_check_writes_nothing(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(export.pipeline, "fold", lambda *_: onnx.load(tmp_path / "broken.onnx"))
    break_a_weight(exported, tmp_path / "broken.onnx")
    result = call("onnx", exported, "-o", tmp_path / "model.onnx")
    assert result.exit_code == 2 and "nothing was written" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["broken.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tau", 2.5), r"must lie in [0, 2]"),
        (("--tau", "nan"), r"must lie in [0, 2]"),
        (("--size", "big"), "neither dynamic nor a size"),
        (("--size", "16x16"), "at least 64 pixels"),
        (("--without-correction", "--runtime-tau"), "need the correction"),
        (("--data", "nowhere"), "There is no folder nowhere"),
        (("--error-bound", 0.0001), "is less than a table can hold"),
    ],
)
def test_bad_options_are_named(exported, tmp_path, arguments, message):
    result = call("onnx", exported, *arguments, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 2 and message in result.output
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_source_is_named(tmp_path, exported):
    (tmp_path / "text.onnx").write_text("not a graph")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:-500])
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("missing.onnx", "does not exist"),
        ("text.onnx", "not an ONNX file"),
        ("cut.onnx", "export it again"),
        ("empty", "not a complete run folder"),
    ):
        result = call("onnx", tmp_path / name, "-o", tmp_path / "out.onnx")
        assert result.exit_code == 2 and message in result.output, result.output
