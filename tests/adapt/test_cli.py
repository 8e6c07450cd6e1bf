"""Bad input to `adapt`: one sentence, exit code 2, nothing lost or half-written."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import yaml
from click.testing import CliRunner, Result
from refusals import expect_refusal

from adapt.cli import main
from adapt.config.presets import PRESETS
from adapt.config.settings import Config, load_config
from adapt.errors import InputError
from adapt.run.run import load_run


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tiny.make_domains(tmp_path / "data", images=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("module")
    (root / "data").mkdir()
    tiny.make_domains(root / "data", images=3)
    result = adapt(*tiny.train_arguments(root / "data", root / "run", "training.iterations=2"))
    assert result.exit_code == 0, result.output
    return root / "run"


def train(domains: Path, tmp_path: Path, *more: str) -> Result:
    result = adapt(*tiny.train_arguments(domains, tmp_path / "run", *more))
    if result.exit_code != 0:
        assert not (tmp_path / "run").exists(), "a refused training left a run folder behind"
        assert not list(tmp_path.glob(".run*")), "a refused training left a temporary folder behind"
    return result


def test_missing_source(domains: Path, tmp_path: Path) -> None:
    shutil.rmtree(domains / "source")
    expect_refusal(train(domains, tmp_path), "source")


def test_empty_target(domains: Path, tmp_path: Path) -> None:
    shutil.rmtree(domains / "target" / "images")
    (domains / "target" / "images").mkdir()
    expect_refusal(train(domains, tmp_path), "target")


def test_no_class_file(domains: Path, tmp_path: Path) -> None:
    (domains / "classes.yaml").unlink()
    expect_refusal(train(domains, tmp_path), "classes.yaml", "--classes")


def test_image_without_label(domains: Path, tmp_path: Path) -> None:
    (domains / "source" / "labels" / "1.png").unlink()
    expect_refusal(train(domains, tmp_path), "1")


def test_unknown_label_value(domains: Path, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(domains / "source" / "labels" / "1.png"), np.full((48, 64), 77, np.uint8))
    expect_refusal(train(domains, tmp_path), "1.png", "77")


def test_broken_target_picture(domains: Path, tmp_path: Path) -> None:
    (domains / "target" / "images" / "0.png").write_bytes(b"not a picture")
    expect_refusal(train(domains, tmp_path), "0.png")


def test_unknown_setting(domains: Path, tmp_path: Path) -> None:
    expect_refusal(train(domains, tmp_path, "method.temperature=3"), "method.temperature")


def test_setting_out_of_range(domains: Path, tmp_path: Path) -> None:
    expect_refusal(train(domains, tmp_path, "method.tau=3"), "method.tau", "3")


def test_malformed_assignment(domains: Path, tmp_path: Path) -> None:
    expect_refusal(train(domains, tmp_path, "method.tau"), "section.key=value")


def test_run_that_exists(domains: Path, run: Path) -> None:
    before = (run / "card.json").read_text()
    expect_refusal(adapt(*tiny.train_arguments(domains, run)), "exists already", "--force")
    assert (run / "card.json").read_text() == before


def test_force_does_not_delete_what_is_no_run(domains: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    expect_refusal(adapt(*tiny.train_arguments(domains, tmp_path / "run"), "--force"), "not a run folder")
    assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"


def test_resume_of_a_finished_run(run: Path) -> None:
    expect_refusal(adapt("train", "--resume", str(run)), "finished")


def test_resume_takes_no_settings_that_make_another_run(run: Path) -> None:
    expect_refusal(adapt("train", "--resume", str(run), "--set", "method.tau=1"), "method.tau 0.5 -> 1.0")


def test_no_output() -> None:
    expect_refusal(adapt("train", "--source", "x"), "-o")


@pytest.mark.parametrize("missing", ["card.json", "config.yaml", "model.safetensors"])
def test_incomplete_run(run: Path, tmp_path: Path, missing: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / missing).unlink()
    expect_refusal(adapt("eval", str(tmp_path / "run"), "--data", "x"), missing)


def test_run_from_a_newer_version(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    card = json.loads((run / "card.json").read_text()) | {"format": 99}
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))
    expect_refusal(adapt("eval", str(tmp_path / "run"), "--data", "x"), "99", "upgrade")


@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
def test_run_with_a_file_cut_off(run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    content = (run / name).read_bytes()
    (tmp_path / "run" / name).write_bytes(content[: len(content) // 2])
    data = run.parent / "data" / "target_eval"
    expect_refusal(adapt("eval", str(tmp_path / "run"), "--data", str(data)), name)


def test_not_a_run(tmp_path: Path) -> None:
    expect_refusal(adapt("eval", str(tmp_path / "nothing"), "--data", "x"), "does not exist")
    expect_refusal(adapt("eval", str(tmp_path), "--data", "x"), "card.json")


def test_evaluation_with_another_class_list(run: Path, domains: Path) -> None:
    text = (domains / "classes.yaml").read_text().replace("box", "tree")
    (domains / "classes.yaml").write_text(text)
    expect_refusal(adapt("eval", str(run), "--data", str(domains / "target_eval")), "box", "tree")


def test_strength_out_of_range(run: Path) -> None:
    result = adapt("eval", str(run), "--data", str(run.parent / "data" / "target_eval"), "--tau", "3")
    assert result.exit_code == 2
    assert "0<=x<=2" in result.output


def test_sample_data_over_something(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    expect_refusal(adapt("sample-data", str(tmp_path)), "--force")
    expect_refusal(adapt("sample-data", str(tmp_path), "--force"), "not replaced")
    assert (tmp_path / "thesis.tex").exists()


def test_full_disk_in_training_names_the_file_and_how_to_go_on(
    domains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from adapt.training import trainer

    whole, saves = trainer.save_checkpoint, []

    def full(folder: Path, iteration: int, *rest: object) -> None:
        saves.append(iteration)
        if len(saves) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / "4.safetensors"))
        whole(folder, iteration, *rest)

    monkeypatch.setattr(trainer, "save_checkpoint", full)
    run = tmp_path / "run"
    arguments = tiny.train_arguments(domains, run, "training.save_every=2", "training.iterations=6")
    result = adapt(*arguments)
    expect_refusal(result, "4.safetensors", "No space left", f"adapt train --resume {run}")
    monkeypatch.undo()
    assert adapt("train", "--resume", str(run)).exit_code == 0
    assert load_run(run).card.finished and saves == [2, 4]


def test_a_log_on_a_full_disk_is_named(tmp_path: Path) -> None:
    from adapt.training.journal import Journal

    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no device that is always full")
    (tmp_path / "metrics.jsonl").symlink_to(full)
    from labelled_folders import CLASSES

    journal = Journal(tmp_path, CLASSES, 4, 2, 0, writes=True, board=False)
    with pytest.raises(OSError, match="No space left") as caught:
        journal.losses(1, {"source": 1.0}, 1.0, {}, None)
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")


def test_weights_of_other_programs_are_named_with_what_takes_them(tmp_path: Path) -> None:
    import torch

    torch.save({}, tmp_path / "theirs.pth")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07")
    expect_refusal(adapt("bias", str(tmp_path / "theirs.pth")), "PyTorch checkpoint", "blda export balance")
    expect_refusal(adapt("tau", str(tmp_path / "model.onnx")), "is an ONNX file", "blda export")


def test_full_disk_during_a_save(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays whole and no temporary is left."""
    import errno

    before = (run / "model.safetensors").read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    expect_refusal(adapt("statistics", str(run), "--source-free"), "No space left on device")
    assert (run / "model.safetensors").read_bytes() == before
    assert not list(run.glob(".*"))


# ---- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_round_trips(name: str) -> None:
    config = load_config(name)
    assert Config.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_later_settings_win(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("method: {tau: 0.3, components: 3}\n")
    config = load_config("demo", tmp_path / "s.yaml", ("method.tau=0.5",))
    assert (config.method.tau, config.method.components) == (0.5, 3)
    assert config.model.decoder == PRESETS["demo"].settings["model"]["decoder"]


def test_an_encoder_is_replaced_not_merged() -> None:
    config = load_config("demo", None, ("model.encoder={pretrained: some/model}",))
    assert config.model.encoder.pretrained == "some/model"
    assert config.model.encoder.config is None


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("model.encoder={pretrained: a, factory: b}", "exactly one"),
        ("training.batch=0", "training.batch"),
        ("data.crop=[1,", "not valid YAML"),
        ("methods.tau=1", "methods"),
    ],
)
def test_bad_settings(assignment: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_config(None, None, (assignment,))


def test_run_of_an_older_working_folder_still_opens(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    data = load_run(run).config.data
    assert data.source and data.source[0].is_absolute()
