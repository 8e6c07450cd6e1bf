"""Layouts: every data set is found from its root or a part of it; one clear sentence where it is not."""

import shutil
from pathlib import Path

import dataset_trees as trees
import numpy as np
import pytest

from adapt.data.domains import find_classes, open_labelled
from adapt.data.finding import find_images, find_labelled
from adapt.data.known_classes import CAMVID11, CITYSCAPES19, CITYSCAPES19_TRAIN_IDS, SYNTHIA16
from adapt.errors import InputError

DATA_SETS = [
    (trees.cityscapes, CITYSCAPES19, 2, 1),
    (trees.gta5, CITYSCAPES19, 2, 2),
    (trees.gta5_in_colours, CITYSCAPES19, 2, 2),
    (trees.synthia, SYNTHIA16, 2, 2),
    (trees.acdc, CITYSCAPES19_TRAIN_IDS, 2, 2),
    (trees.bdd100k, CITYSCAPES19_TRAIN_IDS, 1, 1),
    (trees.bdd100k_seg, CITYSCAPES19_TRAIN_IDS, 1, 1),
    (trees.camvid, CAMVID11, 2, 1),
]


def refused(error: pytest.ExceptionInfo[InputError], *parts: object) -> None:
    message = error.value.message
    assert error.value.exit_code == 2 and "\n" not in message
    for part in parts:
        assert str(part) in message


@pytest.mark.parametrize(("make", "classes", "train", "val"), DATA_SETS)
def test_a_download_is_found_from_its_root_with_its_classes(make, classes, train, val, tmp_path):
    root = make(tmp_path / "data")
    assert find_classes(root, None) == classes
    for split, count in (("train", train), ("val", val)):
        found = find_labelled(root, split)
        assert len(found.images) == len(found.labels) == count
        assert find_images(root, split) == found.images
        for image, label in zip(found.images, found.labels, strict=True):
            assert image.is_file() and label.is_file() and image != label
        sample = open_labelled(root, classes, None, split)[0]
        assert sample.image.shape == (48, 64, 3)
        present = {classes.names[c] for c in np.unique(sample.labels) if c != 255}
        assert len(present) >= 3 and present <= set(classes.names)


def test_labels_mean_what_they_were_painted_as(tmp_path):
    """The same blocks of the same classes, in four systems of labels, become the same train ids by name."""
    for make in (trees.cityscapes, trees.gta5_in_colours, trees.synthia, trees.gta5):
        root = make(tmp_path / make.__name__)
        classes = find_classes(root, None)
        labels = open_labelled(root, classes, None, "train")[0].labels
        painted = [classes.names[labels[0, 8 * i]] for i in range(len(trees.NAMES))]
        assert painted == list(trees.NAMES)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_synthias_class_is_the_first_channel(channels, tmp_path):
    root = trees.synthia(tmp_path, channels)
    labels = open_labelled(root, SYNTHIA16, None)[0].labels
    assert [SYNTHIA16.names[labels[0, 8 * i]] for i in range(5)] == list(trees.NAMES)
    assert labels[0, 8 * 5] == labels[0, 8 * 6] == 255  # void and lane marking


@pytest.mark.parametrize(
    ("make", "part", "images"),
    [
        (trees.cityscapes, "leftImg8bit/val", ["lindau_000000_000019_leftImg8bit"]),
        (trees.cityscapes, "leftImg8bit/val/lindau", ["lindau_000000_000019_leftImg8bit"]),
        (trees.cityscapes, "leftImg8bit", ["aachen_000000_000019_leftImg8bit"]),
        (trees.acdc, "rgb_anon/night", ["GOPR0122_frame_000005_rgb_anon"]),
        (trees.acdc, "rgb_anon/night/val", ["GOPR0122_frame_000003_rgb_anon"]),
        (trees.bdd100k, "images/10k/val", ["7d06fefd-f7be05a6"]),
        (trees.bdd100k_seg, "seg", ["0004a4c0-d4dff0ad"]),
        (trees.camvid, "test", ["0001TP_000000"]),
        (trees.gta5, "images", ["00001", "00002"]),
    ],
)
def test_a_folder_inside_takes_that_part(make, part, images, tmp_path):
    if make is trees.cityscapes:
        make(tmp_path, train=1)
    else:
        make(tmp_path)
    found = find_labelled(tmp_path / part, "train")
    assert [path.stem for path in found.images] == images
    assert find_images(tmp_path / part, "train") == found.images
    assert all(path.is_file() for path in found.labels)


def test_relative_paths_with_dots_work(tmp_path, monkeypatch):
    trees.cityscapes(tmp_path / "data")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert len(find_labelled(Path("../data/leftImg8bit/val"), "train").images) == 1


def test_the_folder_that_holds_the_download_will_do(tmp_path):
    trees.synthia(tmp_path / "RAND_CITYSCAPES")
    trees.bdd100k(tmp_path / "more" / "bdd100k")
    assert len(find_labelled(tmp_path, "train").images) == 2
    assert find_labelled(tmp_path / "more", "val").layout.name == "BDD100K"


def test_label_ids_are_preferred_and_train_ids_taken_where_only_they_exist(tmp_path):
    root = trees.cityscapes(tmp_path)
    for path in sorted(root.glob("gtFine/*/*/*labelIds.png")):
        trees.write(
            Path(str(path).replace("labelIds", "labelTrainIds")), trees.blocks([0, 2]).astype(np.uint8)
        )
    assert find_classes(root, None) == CITYSCAPES19
    for path in root.glob("gtFine/*/*/*labelIds.png"):
        path.unlink()
    assert find_classes(root, None) == CITYSCAPES19_TRAIN_IDS
    assert find_classes(trees.acdc(tmp_path / "acdc", "labelIds"), None) == CITYSCAPES19


def test_copies_that_other_tools_made_beside_the_labels_are_left_out(tmp_path):
    for make in (trees.gta5, trees.synthia):
        root = make(tmp_path / make.__name__)
        before = find_labelled(root, "train")
        for label in before.labels:
            copy = trees.blocks([0, 1]).astype(np.uint8)
            trees.write(label.with_name(f"{label.stem}_labelTrainIds.png"), copy)
        assert find_labelled(root, "train") == before


def test_dark_zurich_is_night_unless_a_path_says_otherwise(tmp_path):
    root = trees.dark_zurich(tmp_path)
    assert [path.parts[-3] for path in find_images(root, "train")] == ["night"]
    assert [path.parts[-3] for path in find_images(root / "rgb_anon/train/day", "train")] == ["day"]
    assert [path.stem for path in find_labelled(root, "val").images] == ["GOPR0356_frame_000321_rgb_anon"]
    with pytest.raises(InputError) as error:
        find_labelled(root, "train")
    refused(error, "Dark Zurich", "only its val part has labels")


def test_reference_pictures_and_hidden_files_are_left_out(tmp_path):
    root = trees.acdc(tmp_path)
    hidden = root / "rgb_anon/fog/train/GOPR0122/._GOPR0122_frame_000005_rgb_anon.png"
    hidden.write_bytes(b"junk")
    names = [path.name for path in find_images(root, "train")]
    assert names == ["GOPR0122_frame_000005_rgb_anon.png"] * 2  # fog and night


def test_splits_of_ones_own(tmp_path):
    for split in ("train", "val"):
        trees.picture(tmp_path / "images" / split / f"{split}.jpg")
        trees.write(tmp_path / "labels" / split / f"{split}.png", trees.blocks([0, 1]).astype(np.uint8))
    assert [path.stem for path in find_labelled(tmp_path, "val").images] == ["val"]
    assert [path.stem for path in find_images(tmp_path, "train")] == ["train"]


def test_a_plain_folder_of_pictures_lies_in_no_layout(tmp_path):
    trees.picture(tmp_path / "holiday" / "b.JPG")
    trees.picture(tmp_path / "holiday" / "a.png")
    assert [path.name for path in find_images(tmp_path / "holiday", "train")] == ["a.png", "b.JPG"]


# --- what is not there


@pytest.mark.parametrize(
    ("make", "removed", "words"),
    [
        (trees.cityscapes, "gtFine", ("Cityscapes", "gtFine/train/aachen/", "gtFine_trainvaltest.zip")),
        (trees.acdc, "gt", ("ACDC", "gt/fog/train/GOPR0122/", "gt_trainval.zip")),
        (trees.bdd100k, "labels", ("BDD100K", "labels/sem_seg/masks/train/")),
        (trees.synthia, "GT", ("SYNTHIA", "GT/LABELS/0000000.png")),
        (trees.camvid, "trainannot", ("CamVid", "trainannot/0001TP_000000.png")),
    ],
)
def test_a_download_without_its_labels_is_a_target_but_no_source(make, removed, words, tmp_path):
    root = make(tmp_path)
    shutil.rmtree(root / removed)
    with pytest.raises(InputError) as error:
        find_labelled(root, "train")
    refused(error, root, "no label files", "--target", *words)
    assert find_images(root, "train")


def test_a_few_missing_labels_are_counted_and_named(tmp_path):
    root = trees.cityscapes(tmp_path, train=3)
    (root / "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError) as error:
        find_labelled(root, "train")
    refused(error, "1 of 3 pictures", "aachen_000001_000019_leftImg8bit.png", root / "gtFine/train/aachen")


def test_a_missing_split_is_named_with_one_that_is_there(tmp_path):
    root = trees.cityscapes(tmp_path)
    shutil.rmtree(root / "leftImg8bit/val")
    with pytest.raises(InputError) as error:
        find_labelled(root, "val")
    refused(error, "none of its part val", "Cityscapes", root / "leftImg8bit/")
    acdc = trees.acdc(tmp_path / "acdc")
    shutil.rmtree(acdc / "rgb_anon/night/train")
    with pytest.raises(InputError) as error:
        find_images(acdc / "rgb_anon/night", "train")
    refused(error, "none of its part train", acdc / "rgb_anon/night")


def test_pictures_without_labels_say_how_to_go_on(tmp_path):
    trees.picture(tmp_path / "pics" / "a.png")
    with pytest.raises(InputError) as error:
        find_labelled(tmp_path, "train")
    refused(error, tmp_path, "1 pictures, such as pics/a.png", "images/", "--labels", "--target")
    assert "CamVid" not in error.value.message and "Cityscapes" not in error.value.message


def test_pictures_of_one_name_are_refused_in_every_layout(tmp_path):
    root = trees.bdd100k(tmp_path)
    trees.picture(root / "images/10k/train/0004a4c0-d4dff0ad.png")
    with pytest.raises(InputError, match="same name"):
        find_labelled(root, "train")
