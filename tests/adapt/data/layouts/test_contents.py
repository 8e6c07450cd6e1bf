"""Label files told by what is in them, where no name of a folder or a file tells it."""

import shlex

import dataset_trees as trees
import export_trees as exports
import numpy as np
import pytest

from adapt.config.settings import Data
from adapt.data.datasets import check_labels
from adapt.data.domains import find_classes, find_source, open_source
from adapt.data.finding import find_images, find_labelled
from adapt.data.folders.target import find_target
from adapt.errors import InputError

CLASSES = "classes: [{id: 0, name: background}, {id: 1, name: car}, {id: 2, name: road}]"


def painted(root, picture, label, stems="abc"):
    for stem in stems:
        trees.picture(root / picture.format(stem))
        trees.write(root / label.format(stem), exports.truth(stem))
    (root / "classes.yaml").write_text(CLASSES)
    return root


def counted(data):
    classes = find_classes(data.source[0], data.classes, find_source(data))
    pixels = check_labels(open_source(data, classes)).class_pixels.sum(0)
    return {name: number for name, number in zip(classes.names, pixels.tolist(), strict=True) if number}


@pytest.mark.parametrize(
    ("picture", "label"),
    [
        ("fotos/{}.jpg", "Masken/{}.png"),
        ("one/{}.png", "two/{}.png"),
        ("one/{}.jpg", "two/{}.TIF"),
        ("drive/fotos/{}.jpg", "drive/Masken/{}_M.png"),
        ("seq1/fotos/{}.jpg", "seq1/Masken/{}.png"),
        ("fotos/seq1/{}.jpg", "Masken/seq1/{}.png"),
        ("{}.jpg", "{}_x.png"),
        ("all/{}.png", "all/{}.m.png"),
        ("zip/zip/fotos/{}.jpg", "zip/zip/Masken/{}.png"),
    ],
)
def test_the_few_values_of_labels_tell_them(picture, label, tmp_path):
    root = painted(tmp_path / "data", picture, label)
    assert counted(Data(source=(root,))) == exports.counts("a", "b", "c")
    # as a target, the same folder gives its pictures alone
    assert [path.stem for path in find_images(root, "train")] == ["a", "b", "c"]
    (part,) = find_target([root])
    assert sorted({left.why for left in part.left_out}) == ["label files"]


def test_of_sequences_with_equal_names_each_keeps_its_own(tmp_path):
    for sequence, stem in (("seq1", "a"), ("seq2", "b")):
        trees.picture(tmp_path / sequence / "fotos" / "0001.jpg")
        trees.write(tmp_path / sequence / "Masken" / "0001.png", exports.truth(stem))
    found = find_labelled(tmp_path, "train")
    assert [path.parent.parent.name for path in found.labels] == ["seq1", "seq2"]
    assert len(find_images(tmp_path, "train")) == 2


def test_parts_keep_apart(tmp_path):
    painted(tmp_path, "fotos/train/{}.jpg", "Masken/train/{}.png", "ab")
    painted(tmp_path, "fotos/val/{}.jpg", "Masken/val/{}.png", "c")
    assert counted(Data(source=(tmp_path,))) == exports.counts("a", "b")
    assert len(find_labelled(tmp_path, "val").images) == 1


def test_two_that_mean_one_part_are_refused(tmp_path):
    painted(tmp_path, "fotos/train/{}.jpg", "Masken/train/{}.png", "ab")
    painted(tmp_path, "fotos/Training/{}.jpg", "Masken/Training/{}.png", "c")
    with pytest.raises(InputError, match="Training and train, which all mean 'train'"):
        find_labelled(tmp_path, "train")


def test_two_folders_of_labels_are_asked_about_and_the_options_named_work(tmp_path):
    root = painted(tmp_path / "data", "fotos/{}.jpg", "one [1]/{}.png")
    for stem in "abc":
        trees.write(root / "two" / f"{stem}.png", trees.blocks([0, 1]).astype(np.uint8))
    with pytest.raises(InputError, match=r"labels in one \[1\]/ or as fotos/ with labels in two/") as refusal:
        find_labelled(root, "train")
    message = refusal.value.message
    words = shlex.split(message[message.index("--images") :].removesuffix("."))
    assert words[::2] == ["--images", "--labels"]
    data = Data(source=(root,), images=words[1], labels=words[3])
    assert counted(data) == exports.counts("a", "b", "c")


def test_instances_beside_classes_are_not_asked_about(tmp_path):
    root = painted(tmp_path / "data", "fotos/{}.jpg", "Klassen/{}.png")
    for stem in "abc":
        trees.write(root / "Instanzen" / f"{stem}.png", trees.blocks([0, 1]).astype(np.uint8))
    assert counted(Data(source=(root,))) == exports.counts("a", "b", "c")


def test_a_picture_without_labels_is_named(tmp_path):
    root = painted(tmp_path / "data", "fotos/{}.jpg", "Masken/{}.png")
    (root / "Masken" / "b.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 pictures have no label file such as a\.png .*b\.jpg"):
        find_labelled(root, "train")


def test_pictures_that_belong_to_no_others_stay(tmp_path):
    """A drawing of few colours is a picture, unless it is called as another one is."""
    trees.picture(tmp_path / "fotos" / "a.png")
    trees.write(tmp_path / "drawings" / "house.png", exports.truth("a"))
    trees.write(tmp_path / "fotos" / "black.png", np.zeros((48, 64), np.uint8))
    assert len(find_images(tmp_path, "train")) == 3
