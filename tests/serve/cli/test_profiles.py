"""`--profile` of the commands that serve: what runs, what is told, and what is gathered apart."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serve_commands import expect_refusal, serve
from serve_graphs import halves, write_clip, write_graph

from serve.gathering.rule import Rule
from serve.gathering.store import Gathered

PROFILES = {"day": 0.0, "night": 1.0}
BLUE = 2


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rule = Rule(-0.25, 1.0, (0.0, 0.0, 0.0))
    return write_graph(tmp_path / "model.onnx", gather=rule, profiles=PROFILES)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(halves(80, 100)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def labels_of(model: Path, picture: Path, out: Path, *options: object) -> np.ndarray:
    result = serve("image", model, picture, "-o", out, "--labels", *options)
    assert result.exit_code == 0, result.output
    return np.asarray(Image.open(out / "labels/a.png"))


def test_pictures(model: Path, picture: Path, tmp_path: Path) -> None:
    day = labels_of(model, picture, tmp_path / "1")
    assert not (day == BLUE).any()
    np.testing.assert_array_equal(labels_of(model, picture, tmp_path / "2", "--profile", "day"), day)
    assert (labels_of(model, picture, tmp_path / "3", "--profile", "night") == BLUE).all()
    refusal = serve("image", model, picture, "-o", tmp_path / "4", "--profile", "fog")
    expect_refusal(refusal, "--profile fog is not in", "choose one of day, night")
    assert not (tmp_path / "4").exists()


def test_a_batch_of_videos_is_done_again_under_another_profile(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in/clip.mp4", times=range(4))
    done = ("video", model, tmp_path / "in", "-o", tmp_path / "out", "--output", "colors")
    assert serve(*done, "--profile", "night").exit_code == 0
    again = serve(*done, "--profile", "night")
    assert again.exit_code == 0 and "1 skipped" in again.stdout
    other = serve(*done)
    expect_refusal(other, "--force")
    assert "1 done" in serve(*done, "--force").stdout
    assert "1 skipped" in serve(*done, "--profile", "day").stdout


def test_what_a_file_says_of_its_profiles(model: Path) -> None:
    said = serve("info", model).stdout
    assert "2 profiles, of which --profile chooses one: day, night; day if none is." in said
    assert "night: Strength tau = 1" in said and "profile int32" in said
    profiles = json.loads(serve("info", model, "--json").stdout)["profiles"]
    assert [(each["name"], each["correction"]["tau"]) for each in profiles] == [("day", 0.0), ("night", 1.0)]


def test_what_is_gathered_names_the_profile_and_is_kept_apart(
    model: Path, picture: Path, tmp_path: Path
) -> None:
    file, every = tmp_path / "night.safetensors", ("--gather-every", 1)
    labels_of(model, picture, tmp_path / "1", "--profile", "night", "--gather", file, *every)
    head = Gathered(file).head
    assert head.subject.profile == "night" and head.subject.rule.low == 0.75
    assert Gathered(file).total().labels.tolist() == [0, 0, 20 * 25]
    day = serve("image", model, picture, "-o", tmp_path / "2", "--gather", file, *every)
    expect_refusal(day, "was gathered under profile night, not under profile day")
    other = tmp_path / "day.safetensors"
    labels_of(model, picture, tmp_path / "3", "--gather", other, *every)
    assert Gathered(other).head.subject.profile == "day"
    merged = serve("merge", file, other, "-o", tmp_path / "all.safetensors")
    expect_refusal(merged, "give each a file of its own")
    alone = serve("merge", file, "-o", tmp_path / "all.safetensors")
    assert alone.exit_code == 0, alone.output
    assert Gathered(tmp_path / "all.safetensors").head.subject == head.subject
