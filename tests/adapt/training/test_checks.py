"""What is wrong with a training is said before labels are read; what is found is said as well."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner, Result
from clips import make_video
from refusals import expect_refusal

from adapt.cli import main
from adapt.model.device import best_device
from adapt.run.run import load_run

VIT = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tiny.make_domains(tmp_path / "data", images=3)


@pytest.fixture
def broken(domains: Path) -> Path:
    """Every label file is a tripwire: whoever reads one says so."""
    for domain in ("source", "target_eval"):
        for path in (domain_labels := domains / domain / "labels").iterdir():
            path.write_bytes(b"")
        assert len(list(domain_labels.iterdir())) == 3
    return domains


def train(domains: Path, tmp_path: Path, *more: str, words: tuple[str, ...] = ()) -> Result:
    result = adapt(*tiny.train_arguments(domains, tmp_path / "run", *more), *words)
    if result.exit_code != 0:
        assert not (tmp_path / "run").exists() and not list(tmp_path.glob(".run*"))
    return result


def encoder(**settings: object) -> str:
    return "model.encoder={config: " + json.dumps(settings) + "}"


OWN = """
from torch import nn
class Own(nn.Module):
    channels, strides = (4, 4), {strides}
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 4, 2, 2)
    def forward(self, pixels):
        fine = self.fine(pixels)
        return [fine, self.coarse({input})]
"""

REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "crop": (("data.crop=[40, 32]",), ("data.crop is 40x32", "[32, 32]")),
    "empty crop": (("data.crop=[0, 0]",), ("data.crop is 0x0",)),
    "batch normalisation of one value": (("training.batch=1",), ("batches of 1 crops of 32x32",)),
    "encoder": ((encoder(model_type="nonsense"),), ("nonsense",)),
    "missing weights": (("model.encoder={pretrained: /nowhere/at-all}",), ("/nowhere/at-all",)),
    "missing factory": (("model.encoder={factory: nowhere.py:f}",), ("nowhere.py",)),
    "misspelt field": (
        (encoder(model_type="resnet", hiden_sizes=[8, 8, 8, 8]),),
        ("hiden_sizes", "hidden_sizes"),
    ),
    "decoder": (("model.decoder=plain-pyramid",), ("plain-pyramid",)),
    "dilation": ((encoder(**VIT, image_size=28), "model.dilated=true"), ("model.dilated",)),
    "recomputation": (("training.recompute_activations=true",), ("recompute_activations",)),
    "random encoder to stay near": (("method.host=daformer",), ("feature_distance=0",)),
    "idle": (("method.host=source", "method.masked_consistency=1"), ("method.masked_consistency",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_no_data_is_refused_before_labels_are_read(
    broken: Path, tmp_path: Path, case: str
) -> None:
    settings, words = REFUSED[case]
    result = train(broken, tmp_path, *settings)
    expect_refusal(result, *words)
    assert "checking" not in result.output


@pytest.mark.parametrize(
    ("strides", "input_", "words"),
    [("(4, 8)", "pixels", "batches of 2 crops"), ("(2, 4)", "fine", "correct the encoder's `strides`")],
)
def test_an_own_encoder_that_breaks_its_promises(
    broken: Path, tmp_path: Path, strides: str, input_: str, words: str
) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN.format(strides=strides, input=input_))
    expect_refusal(train(broken, tmp_path, f"model.encoder={{factory: '{file}:Own'}}"), words)


def test_an_own_encoder_that_needs_real_numbers_is_taken(domains: Path, tmp_path: Path) -> None:
    """Code that looks at values has no shapes-only answer; it is run once."""
    file = tmp_path / "own.py"
    looks = "fine if float(fine.detach().mean()) < 1e9 else fine"
    file.write_text(OWN.format(strides="(4, 8)", input=looks))
    more = (f"model.encoder={{factory: '{file}:Own'}}", "training.iterations=1", "method.balance=off")
    result = train(domains, tmp_path, *more)
    assert result.exit_code == 0, result.output


def test_things_that_the_classes_lack(broken: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN.format(strides="(4, 8)", input="fine"))
    own = f"model.encoder={{factory: '{file}:Own'}}"
    expect_refusal(train(broken, tmp_path, own, "method.host=daformer"), "thing_classes")


def test_a_preset_for_other_classes(broken: Path, tmp_path: Path) -> None:
    data = ("--source", str(broken / "source"), "--target", str(broken / "target"))
    result = adapt("train", "--preset", "daformer-blda", "-o", str(tmp_path / "run"), *data)
    expect_refusal(result, "19 classes")


def test_no_place_for_the_run(broken: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    expect_refusal(adapt(*tiny.train_arguments(broken, tmp_path / "run")), "exists already")


@pytest.mark.skipif(best_device().type != "cpu", reason="computes in half precision")
def test_a_precision_that_the_machine_lacks(broken: Path, tmp_path: Path) -> None:
    expect_refusal(train(broken, tmp_path, "training.precision=fp16"), "training.precision=fp16 needs a GPU")


def test_nothing_to_compile_with(broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_(*_: object) -> object:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr("torch.compile", compile_)
    expect_refusal(train(broken, tmp_path, "training.compile=true"), "training.compile", "C++ compiler")


@pytest.mark.parametrize("what", ["missing", "empty", "broken picture", "broken video"])
def test_a_target_that_is_none(broken: Path, tmp_path: Path, what: str) -> None:
    target = tmp_path / "mine"
    if what == "broken video":
        target = tmp_path / "mine.mp4"
        target.write_bytes(b"no video")
    elif what != "missing":
        target.mkdir()
    if what == "broken picture":
        (target / "a.png").write_bytes(b"no picture")
    # Of all that is read, the evaluation's labels come first.
    more = ("--evaluate", str(broken / "target_eval"))
    result = train(broken, tmp_path, words=("--target", str(target), *more))
    expect_refusal(result, "a.png" if what == "broken picture" else str(target))
    assert "checking" not in result.output


def test_an_evaluation_that_is_none(broken: Path, tmp_path: Path) -> None:
    expect_refusal(train(broken, tmp_path, words=("--evaluate", str(tmp_path / "gone"))), "gone")
    labels = {path.name for path in (broken / "target_eval" / "labels").iterdir()}
    (broken / "target_eval" / "labels" / min(labels)).unlink()
    expect_refusal(train(broken, tmp_path, words=("--evaluate", str(broken / "target_eval"))), min(labels))


def test_the_tripwires_work(broken: Path, tmp_path: Path) -> None:
    expect_refusal(train(broken, tmp_path), "is empty", "labels")


# ---- what was found --------------------------------------------------------------------------------------


def target_line(result: Result) -> str:
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.output.splitlines() if line.startswith("target: "))
    return line


def test_training_says_what_target_it_found(domains: Path, tmp_path: Path) -> None:
    target = domains / "target" / "images"
    assert target_line(train(domains, tmp_path, "training.iterations=1")) == "target: used 3 pictures"
    for name in ("notes.txt", "e.psd", "b.csv", "c.avi", ".hidden"):
        (target / name).write_bytes(b"")
    (target / "night").mkdir()
    clips = [str(make_video(tmp_path / f"{count}.mp4", count, rate=10)) for count in (3, 8)]
    words = (*("--target", clips[0]), *("--target", clips[1]), "--force")
    line = target_line(train(domains, tmp_path, "training.iterations=1", "data.frames=5", words=words))
    assert line == (
        "target: used 3 pictures and 8 frames of 2 videos, left out 4 (3 of other kinds: b.csv, e.psd, "
        "notes.txt; 1 videos that cannot be read: c.avi)"
    )
    arguments = tiny.train_arguments(domains, tmp_path / "other", "training.iterations=1", "data.frames=5")
    arguments[arguments.index("--target") + 1] = clips[0]
    assert target_line(adapt(*arguments)) == "target: used 3 frames of 1 video"


# ---- a finished run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    tiny.make_domains(root, images=3)
    result = adapt(*tiny.train_arguments(root, root / "run", "training.iterations=2"))
    assert result.exit_code == 0, result.output
    return root


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("training.recompute_activations=true", "recompute_activations"),
        ("data.evaluate=/nowhere", "/nowhere"),
        ("training.precision=fp16", "fp16"),
    ],
)
def test_a_refused_change_leaves_the_run_as_it_was(
    finished: Path, tmp_path: Path, change: str, word: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    more = ("--set", "training.iterations=3")
    expect_refusal(adapt("train", "--resume", str(run), *more, "--set", change), word)
    assert load_run(run).config == load_run(finished / "run").config
    result = adapt("train", "--resume", str(run), *more)
    assert result.exit_code == 0, result.output


def test_labels_of_an_evaluation_that_comes_later_are_checked(
    finished: Path, broken: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    sets = ("training.iterations=3", f"data.evaluate={broken / 'target_eval'}")
    words = [word for each in sets for word in ("--set", each)]
    expect_refusal(adapt("train", "--resume", str(run), *words), "is empty")
    assert load_run(run).config.training.iterations == 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("eval", "--window", "40x40"), ("window", "40x40")),
        (("bias", "-o", "{file}/below"), ("{file}",)),
        (("tau", "-o", "{file}/tau.png"), ("{file}",)),
    ],
)
def test_results_that_cannot_be_had_are_refused_before_labels_are_read(
    finished: Path, broken: Path, tmp_path: Path, command: tuple[str, ...], words: tuple[str, ...]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    name, *options = (word.format(file=file) for word in command)
    data = ("--data", str(broken / "target_eval"))
    result = adapt(name, str(finished / "run"), *data, *options)
    expect_refusal(result, *(word.format(file=file) for word in words))
    assert "is empty" not in result.output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_statistics_of_a_run_that_cannot_be_written(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished / "run", run)
    run.chmod(0o500)
    try:
        expect_refusal(adapt("statistics", str(run)), "cannot be written")
    finally:
        run.chmod(0o700)
