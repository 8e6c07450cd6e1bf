"""Classes that stand for none of them: found, said, and a pixel theirs exactly where it was before."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from calibrated_models import NORMALISED, call, images_of, oracle_logits
from foreign_segmenters import NAMES, write_segmenter

from export.fold.folded import graph_info
from export.sources.statistics_file import read_statistics
from serve import Segmenter

SKY = NAMES.index("sky")


def class_file(path: Path, ignore: object = 255, sky: str = "sky") -> Path:
    rows = [{"id": c, "name": sky if c == SKY else name} for c, name in enumerate(NAMES)]
    path.write_text(yaml.safe_dump({"ignore": ignore, "classes": rows}))
    return path


def scores_of(file: Path, image: np.ndarray) -> np.ndarray:
    return Segmenter(file)(image, extras=True).scores


def has_kept_its_pixels(file: Path, target: Path) -> bool:
    pairs = [(oracle_logits(i).argmax(0), scores_of(file, i).argmax(0)) for i in images_of(target)]
    assert any((before != after).any() for before, after in pairs), "the others are corrected"
    return all(np.array_equal(before == SKY, after == SKY) for before, after in pairs)


@pytest.mark.parametrize("given", ["option", "class file", "config.json"])
def test_it_is_left_as_it_is_and_said(target, tmp_path, given):
    model, stats = write_segmenter(tmp_path / "model.onnx"), tmp_path / "stats.safetensors"
    options: tuple[object, ...] = ("--classes", class_file(tmp_path / "c.yaml"), "--leave", "SKY")
    name, who = "sky", "as --leave says"
    if given == "class file":
        options = ("--classes", class_file(tmp_path / "c.yaml", ignore=[SKY, 255], sky="Void"))
        name, who = "Void", "c.yaml says that it does not count"
    if given == "config.json":
        options, name = (), "class1"
        (tmp_path / "config.json").write_text(json.dumps({"semantic_loss_ignore_index": SKY}))
        who = "config.json beside it says that it does not count"
    told = call("calibrate", model, "--target", target, *NORMALISED, *options, "-o", stats)
    assert told.exit_code == 0, told.output
    assert f"left as it is: {name}, {who}" in told.output
    found, record = read_statistics(stats)
    assert found.excluded.tolist() == [c == SKY for c in range(4)]
    logits = np.concatenate([oracle_logits(image).reshape(4, -1) for image in images_of(target)], 1)
    plain = logits.argmax(0)
    assert record.pixels[SKY] == 0 and sum(record.pixels) == (plain != SKY).sum()
    out = tmp_path / "out.onnx"
    made = call("onnx", model, "--stats", stats, "--tau", 1, "--scores", "--data", target, "-o", out)
    assert made.exit_code == 0, made.output
    assert f"No part in it, and no pixel more or less, have: {name}." in made.output
    assert graph_info(onnx.load(out), "").correction.excluded == (name,)
    assert has_kept_its_pixels(out, target)


def test_a_name_alone_says_nothing(plain, target, tmp_path):
    """In many data sets "background" and "other" count as any class does."""
    stats = tmp_path / "stats.safetensors"
    options = ("--classes", class_file(tmp_path / "c.yaml", sky="background"))
    told = call("calibrate", plain[0], "--target", target, *NORMALISED, *options, "-o", stats)
    assert told.exit_code == 0 and "left as it is" not in told.output
    assert read_statistics(stats)[0].excluded is None


def test_statistics_with_it_are_folded_without_it(plain, target, tmp_path):
    out = tmp_path / "out.onnx"
    options = ("--leave", "sky", "--tau", 1, "--scores", "--data", target)
    made = call("onnx", plain[0], "--stats", plain[1], *options, "-o", out)
    assert made.exit_code == 0 and has_kept_its_pixels(out, target), made.output
    again = tmp_path / "again.onnx"
    assert call("onnx", out, "--tau", 0.5, "--data", target, "-o", again).exit_code == 0
    assert graph_info(onnx.load(again), "").correction.excluded == ("sky",)
    told = call("calibrate", again, "--target", target, "-o", tmp_path / "new.safetensors")
    assert "left as it is: sky, its card says that it does not count" in told.output


def test_balance_says_it_in_its_lines_and_on_its_page(target, tmp_path):
    model, out = write_segmenter(tmp_path / "model.onnx"), tmp_path / "out.onnx"
    names = ("--classes", class_file(tmp_path / "c.yaml"))
    made = call(
        "balance", model, "--target", target / "images", *NORMALISED, *names, "--leave", "sky", "-o", out
    )
    assert made.exit_code == 0, made.output
    assert "(c.yaml); left as it is: sky, as --leave says" in made.output
    assert "not corrected: sky: left as it is, as --leave says" in made.output
    assert "left as it is, as --leave says" in out.with_suffix(".html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--leave", "moon"), "--leave moon is none of the classes (ground, sky, wall, sign); give one"),
        (("--leave", "sky", "--leave", "wall", "--leave", "sign"), "3 would be left as they are (sky, wall"),
    ],
)
def test_what_can_not_be_left_is_one_sentence(target, tmp_path, options, message):
    model = write_segmenter(tmp_path / "model.onnx")
    names = ("--classes", class_file(tmp_path / "c.yaml"))
    said = call("calibrate", model, "--target", target, *NORMALISED, *names, *options, "-o", tmp_path / "s")
    assert said.exit_code == 2 and message in said.output


def test_what_can_not_be_left_when_it_is_folded_is_one_sentence_too(plain, target, tmp_path):
    for options, message in (
        (("--leave", "moon"), "--leave moon is none of the classes"),
        (("--leave", "sky", "--leave", "wall", "--leave", "sign"), "would leave 3 of 4 classes"),
        (("--leave", "sky", "--without-correction"), "--leave are of the correction"),
    ):
        said = call("onnx", plain[2], *options, "-o", tmp_path / "out.onnx")
        assert said.exit_code == 2 and message in said.output, said.output
