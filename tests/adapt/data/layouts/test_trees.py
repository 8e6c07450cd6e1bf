"""Folders of pictures and labels under other names than ours: nothing has to be renamed."""

import unicodedata
from pathlib import Path

import dataset_trees as trees
import export_trees as exports
import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from adapt.cli import main
from adapt.config.settings import Data
from adapt.data.datasets import check_labels
from adapt.data.domains import find_classes, open_labelled, open_source
from adapt.data.finding import NotLabelledError, find_labelled
from adapt.data.layouts.pairing import pair
from adapt.errors import InputError

CLASSES = "classes: [{id: 0, name: background}, {id: 1, name: car}, {id: 2, name: road}]"


def paint(root: Path, picture: str, label: str, stems: str = "abc") -> Path:
    """Pictures and labels at these places; {} is the stem."""
    for stem in stems:
        trees.picture(root / picture.format(stem))
        trees.write(root / label.format(stem), exports.truth(stem))
    (root / "classes.yml").write_text(CLASSES)
    return root


def counted(root: Path) -> dict[str, int]:
    classes = find_classes(root, None)
    pixels = check_labels(open_source(Data(source=(root,)), classes)).class_pixels.sum(0)
    return {name: number for name, number in zip(classes.names, pixels.tolist(), strict=True) if number}


@pytest.mark.parametrize(
    ("picture", "label"),
    [
        ("images/{}.jpg", "labels/{}_mask.png"),
        ("images/{}.JPG", "labels/{}.PNG"),
        ("images/{}.jpg", "masks/{}-mask.png"),
        ("images/{}.jpg", "labels/{}.tif"),
        ("images/{}.png", "labels/{}.bmp"),
        ("images/{}.jpg", "labels/{}_labelIds.png"),
        ("images/{}.jpg", "labels/{}.jpg.png"),
        ("images/{}_rgb.png", "gt/{}_gt.png"),
        ("imgs/day/{}.jpg", "annotations/day/{}.png"),
        ("JPEGImages/x/{}.jpg", "Annotations/{}.png"),
        ("rgb/{}.png", "segmentation/{}_seg.png"),
        ("train/images/{}.jpg", "train/labels/{}.png"),
        ("training/imgs/{}.jpg", "training/masks/{}.png"),
        ("img_dir/train/{}.jpg", "ann_dir/train/{}.png"),
        ("images/training/{}.jpg", "annotations/training/{}.png"),
        ("{}.jpg", "{}_mask.png"),
        ("{}.jpg", "{}.png"),
        ("photos/{}.jpg", "photos/{}_label.png"),
    ],
)
def test_names_are_matched_by_what_is_there(picture, label, tmp_path):
    assert counted(paint(tmp_path / "data", picture, label)) == exports.counts("a", "b", "c")


@pytest.mark.parametrize(
    ("picture", "label"),
    [
        ("img_dir/{}/{{}}.jpg", "ann_dir/{}/{{}}.png"),
        ("{}/images/{{}}.jpg", "{}/masks/{{}}_mask.png"),
        ("images/{}/{{}}.jpg", "labels/{}/{{}}.png"),
        ("{}/{{}}.jpg", "{}/{{}}_mask.png"),
    ],
)
@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_splits_come_first_or_second(picture, label, val, tmp_path):
    for split, stems in (("train", "ab"), (val, "c")):
        root = paint(tmp_path / "data", picture.format(split), label.format(split), stems)
    assert counted(root) == exports.counts("a", "b")
    assert len(open_labelled(root, find_classes(root, None), None)) == 1


def test_what_was_taken_for_labels_is_said(tmp_path):
    found = find_labelled(paint(tmp_path / "d", "images/{}.jpg", "labels/{}_mask.png"), "train")
    assert found.note == "labels/ holds 3 files named X_mask.png; taken as labels of X.jpg"
    assert not find_labelled(paint(tmp_path / "e", "imgs/{}.jpg", "masks/{}.png"), "train").note


def test_training_starts_from_such_folders(tmp_path):
    root = paint(tmp_path / "data", "img_dir/train/{}.jpg", "ann_dir/train/{}.png")
    settings = (*tiny.SETTINGS, "training.iterations=1", "method.balance=off")
    words = ["train", "-o", tmp_path / "run", "--source", root, "--target", root / "img_dir"]
    words += [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output


def test_names_zipped_on_a_mac_match(tmp_path):
    composed, parted = (unicodedata.normalize(form, "straße_é_ö") for form in ("NFC", "NFD"))
    trees.picture(tmp_path / "images" / f"{composed}.jpg")
    trees.write(tmp_path / "labels" / f"{parted}.png", exports.truth("a"))
    (tmp_path / "classes.yaml").write_text(CLASSES)
    assert counted(tmp_path) == exports.counts("a")


def test_of_several_files_the_ids_are_taken(tmp_path):
    """Cityscapes' way of naming, in folders of one's own."""
    root = paint(tmp_path, "imgs/{}.png", "gt/{}_gtFine_labelIds.png")
    for stem in "abc":
        for other in ("color", "instanceIds"):
            trees.write(root / "gt" / f"{stem}_gtFine_{other}.png", trees.blocks([9, 8]).astype(np.uint8))
    assert counted(root) == exports.counts("a", "b", "c")


def test_a_picture_without_labels_is_named(tmp_path):
    root = paint(tmp_path, "imgs/{}.png", "masks/{}_mask.png")
    (root / "masks" / "b_mask.png").unlink()
    with pytest.raises(
        InputError, match=r"1 of 3 pictures have no label file such as a_mask\.png in .*masks: b\.png"
    ):
        find_labelled(root, "train")


def test_a_message_says_what_is_there(tmp_path):
    root = paint(tmp_path, "images/{}.jpg", "labels/zz{}.png")
    with pytest.raises(InputError) as error:
        find_labelled(root, "train")
    assert "labels/ holds 3 files, such as zza.png" in error.value.message
    assert "--label-suffix" in error.value.message and "get the labels" not in error.value.message


def test_pictures_alone_are_still_no_labelled_data(tmp_path):
    trees.picture(tmp_path / "train" / "a.png")
    with pytest.raises(NotLabelledError) as error:
        find_labelled(tmp_path, "train")
    assert "layout of CamVid" not in error.value.message


def test_equal_names_in_two_folders_keep_apart(tmp_path):
    for folder in "xy":
        trees.picture(tmp_path / "imgs" / folder / "1.png")
        trees.write(tmp_path / "masks" / folder / "1_mask.png", exports.truth("a" if folder == "x" else "b"))
    images, labels = (sorted((tmp_path / name).rglob("*.png")) for name in ("imgs", "masks"))
    pairs = pair(images, tmp_path / "imgs", labels, tmp_path / "masks")
    assert [path.parent.name for path in pairs.labels] == ["x", "y"] and pairs.tails.label == "_mask"
