"""`adapt check`: what it says, writes and refuses, and that `adapt train` takes what it says."""

import json
import shlex
from pathlib import Path

import flawed_data
import pytest
import tiny
from click.testing import CliRunner, Result
from refusals import expect_refusal

from adapt.cli import main
from adapt.data.survey.words import describe


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def small(*more: str) -> list[str]:
    return [word for each in (*tiny.SETTINGS, *more) for word in ("--set", each)]


def test_sound_data_ends_with_a_command_that_trains(tmp_path: Path) -> None:
    tiny.make_domains(tmp_path, images=3)
    record = tmp_path / "found.json"
    options = ("--source", str(tmp_path / "source"), "--target", str(tmp_path / "target"))
    result = adapt("check", *options, *small("training.iterations=1"), "--json", str(record))
    assert result.exit_code == 0, result.output
    found = json.loads(record.read_text())
    assert found["problems"] == [] and found["command"] in result.output
    assert found["expected"]["seconds_per_iteration"] > 0 and found["expected"]["memory_bytes"] > 1e8
    assert found["settings"]["data"]["crop"] == [32, 32]
    assert found["reasons"] == []  # these settings leave nothing open
    program, *words = shlex.split(found["command"])
    assert program == "adapt"
    words[words.index("-o") + 1] = str(tmp_path / "run")
    trained = adapt(*words)
    assert trained.exit_code == 0, trained.output
    assert (tmp_path / "run" / "card.json").is_file()
    ten = result.stdout.splitlines()[:10]
    assert ten[0].startswith("source: 3 images in the layout of images/ and labels/, 3 classes")
    assert trained.output.index(ten[0]) < trained.output.index("settings, all of them:")
    assert set(ten) <= set(trained.output.splitlines()), "adapt train shows the same lines first"


def test_flaws_end_with_exit_code_1_and_a_sentence_each(tmp_path: Path) -> None:
    flawed_data.flawed(tmp_path)
    result = adapt("check", *flawed_data.arguments(tmp_path), *small())
    assert result.exit_code == 1, result.output
    mend = [line for line in result.output.splitlines() if line.startswith("to mend: ")]
    assert len(mend) == 2 and "broken.png" in mend[0] and "alone.png" in mend[1]


def test_settings_that_training_would_refuse_are_to_mend_too(tmp_path: Path) -> None:
    tiny.make_domains(tmp_path, images=2)
    source = ("--source", str(tmp_path / "source"))
    result = adapt("check", *source, *small("data.crop=[33, 32]"))
    assert result.exit_code == 1, result.output
    mend = "\n".join(line for line in result.output.splitlines() if line.startswith("to mend: "))
    assert "no target was given" in mend and "data.crop is 33x32" in mend


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    expect_refusal(adapt("check", "--source", str(tmp_path / "none")), "none")
    expect_refusal(adapt("check"), "--source")


def test_the_page_holds_ten_pictures_and_fetches_nothing(tmp_path: Path) -> None:
    tiny.make_domains(tmp_path, images=12)
    options = ("--source", str(tmp_path / "source"), "--target", str(tmp_path / "target"))
    page = tmp_path / "data.html"
    result = adapt("check", *options, *small(), "-o", str(page), "--all")
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.count("under its labels") == 10 and "http://" not in text and "https://" not in text
    assert text.count("data:image/jpeg") == 10 + 4 and "<script" not in text
    for line in ("adapt train --source", "all 12 of source", "12 images in the layout"):
        assert line in text
    expect_refusal(adapt("check", *options, *small(), "-o", str(page)), "exists", "--force")


def test_labels_are_drawn_over_the_picture() -> None:
    import numpy as np
    from labelled_folders import CLASSES

    from adapt.reporting.data_page import drawn_over

    image = np.full((2, 2, 3), 100, np.uint8)
    drawn = drawn_over(image, np.array([[0, 1], [2, 255]], np.uint8), CLASSES)
    assert drawn[1, 1].tolist() == [100, 100, 100]
    for place, color in (((0, 0), CLASSES.palette[0]), ((0, 1), CLASSES.palette[1])):
        assert drawn[place].tolist() == pytest.approx([(100 + c) / 2 for c in color], abs=1)


def test_check_takes_the_options_of_train() -> None:
    of = {name: {p.name for p in main.commands[name].params} for name in ("check", "train")}
    assert of["train"] - of["check"] == {"resume"}
    assert of["check"] - of["train"] == {"everything", "json_path"}


def test_a_refused_training_says_the_same_of_damage(tmp_path: Path) -> None:
    """The lines come before the refusal, which stays one sentence."""
    flawed_data.sound(tmp_path)
    (tmp_path / "source" / "images" / "b.png").write_bytes(b"no picture")
    result = adapt("train", *flawed_data.arguments(tmp_path), *small(), "-o", str(tmp_path / "run"))
    expect_refusal(result, "b.png")
    assert "damaged: 1 (b.png)" in result.output and describe.__doc__
