"""Exports of four tools, renamed at random: each is read as it is, or one sentence says how, and it works."""

import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import dataset_trees as trees
import export_trees as exports
import pytest
import renamed_trees
import tiny
from click.testing import CliRunner

from adapt.cli import main
from adapt.config.settings import Data
from adapt.data.datasets import check_labels
from adapt.data.domains import find_classes, find_source, open_labelled, open_source
from adapt.errors import InputError

Make = Callable[[Path], Path]
TOOLS: list[tuple[Make, str, str]] = [
    (exports.cvat, "abc", "abc"),
    (exports.roboflow, "ab", "c"),
    (exports.labelme, "abc", "abc"),
    (exports.ultralytics_masks, "ab", "c"),
    (exports.ultralytics_polygons, "ab", "c"),
]
"""What makes an export, and its pictures for training and for evaluation."""


def counts(data: Data) -> dict[str, int]:
    """Pixels by the names of classes, as a training counts them."""
    classes = find_classes(data.source[0], data.classes, find_source(data))
    pixels = check_labels(open_source(data, classes)).class_pixels.sum(0)
    return {name: number for name, number in zip(classes.names, pixels.tolist(), strict=True) if number}


def told(root: Path, refusal: InputError) -> Data:
    """What a person does who reads the sentence: another folder, options, or a line of the tool's file."""
    message = refusal.message
    if "--labels" in message:
        words = shlex.split(message[message.index("--images") :].removesuffix("."))
        return Data(source=(root,), images=words[1], labels=words[3])
    if (line := re.search(r"write there which one it is, such as `(train): (.*)`\.", message)) is not None:
        file = next(root.rglob("data.yaml"))
        text = re.sub(r"(?m)^train: .*$", f"train: {line[2]}", file.read_text())
        file.write_text(text)
        return Data(source=(root,))
    part = re.search(r"name one of them, such as (.*?)(?:, or .*)?\.?$", message)
    assert part is not None, f"nothing that could be done: {message}"
    return Data(source=(Path(part[1]),))


def renamed(make: Make, tmp_path: Path, seed: int) -> Path:
    return renamed_trees.rename(make(tmp_path / "made"), random.Random(seed))


def read_or_told(root: Path) -> tuple[Data, dict[str, int]]:
    data = Data(source=(root,))
    try:
        return data, counts(data)
    except InputError as refusal:
        data = told(root, refusal)
        return data, counts(data)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("make", "train", "val"), TOOLS)
def test_what_was_renamed_is_counted_as_it_was(make, train, val, seed, tmp_path):
    assert read_or_told(renamed(make, tmp_path, seed))[1] == exports.counts(*train)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8, 208))
@pytest.mark.parametrize(("make", "train", "val"), TOOLS)
def test_whatever_the_names_are(make, train, val, seed, tmp_path):
    assert read_or_told(renamed(make, tmp_path, seed))[1] == exports.counts(*train)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("make", "train", "val"), TOOLS)
def test_the_other_part_is_no_part_of_it(make, train, val, seed, tmp_path):
    root = renamed(make, tmp_path, seed)
    classes = find_classes(root, None)
    pixels = check_labels(open_labelled(root, classes, None)).class_pixels.sum(0).tolist()
    assert {n: p for n, p in zip(classes.names, pixels, strict=True) if p} == exports.counts(*val)


@pytest.mark.parametrize(("make", "train", "val"), TOOLS)
def test_what_was_renamed_trains(make, train, val, tmp_path):
    """One iteration, with the options that the sentence names where there is one."""
    data, _ = read_or_told(renamed(make, tmp_path, seed=3))
    trees.picture(tmp_path / "target" / "a.png")
    words = ["train", "-o", tmp_path / "run", "--source", data.source[0], "--target", tmp_path / "target"]
    words += ["--images", data.images, "--labels", data.labels] if data.images else []
    settings = (*tiny.SETTINGS, "training.iterations=1", "method.balance=off")
    words += [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert f"source: {len(train)} images" in result.output


def test_some_of_these_names_need_a_sentence(tmp_path):
    """Otherwise the tests above would not show that what it says works."""
    refused = 0
    for make, _, _ in TOOLS:
        for seed in range(8):
            root = renamed(make, tmp_path / f"{make.__name__}{seed}", seed)
            try:
                counts(Data(source=(root,)))
            except InputError:
                refused += 1
    assert 0 < refused < 20
