"""What lies in a target: all that can be read is used, labels are not, and every file is accounted for."""

from pathlib import Path

import dataset_trees as trees
import export_trees as exports
import numpy as np
import pytest
from clips import make_video

from adapt.data.datasets import open_target
from adapt.data.finding import find_images
from adapt.data.folders.beside import is_label_folder, label_files, without_tail
from adapt.data.folders.target import describe_target, find_target
from adapt.errors import InputError

IDS = trees.blocks([0, 1, 2]).astype(np.uint8)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_masks_beside_pictures_are_no_targets(tmp_path):
    for i in range(4):
        trees.picture(tmp_path / f"{i}.jpg", i)
        trees.write(tmp_path / f"{i}_mask.png", IDS)
    (part,) = find_target([tmp_path])
    assert (
        names(part.pictures) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"] == names(find_images(tmp_path, "train"))
    )
    line = describe_target([part], 0)
    assert line == "used 4 pictures, left out 4 (4 label files: 0_mask.png, 1_mask.png, 2_mask.png …)"


def test_a_label_with_its_picture_s_name_is_told_by_its_values(tmp_path):
    trees.picture(tmp_path / "a.jpg")
    trees.write(tmp_path / "a.png", IDS)
    trees.picture(tmp_path / "b.jpg", 1)
    trees.picture(tmp_path / "b.png", 2)  # a second picture
    assert names(find_target([tmp_path])[0].pictures) == ["a.jpg", "b.jpg", "b.png"]


def test_folders_of_masks_are_no_targets_unless_they_are_all_there_is(tmp_path):
    for i in range(2):
        trees.picture(tmp_path / "photos" / f"{i}.jpg", i)
        trees.write(tmp_path / "masks" / f"{i}_seg.png", IDS)
    (part,) = find_target([tmp_path])
    assert names(part.pictures) == ["0.jpg", "1.jpg"] and len(part.left_out) == 2
    assert names(find_target([tmp_path / "masks"])[0].pictures) == ["0_seg.png", "1_seg.png"]


def test_pictures_that_only_sound_like_labels_stay(tmp_path):
    """No picture that they would be labels of."""
    for name in ("face_mask.jpg", "traffic_label.png", "seg/7.jpg"):
        trees.picture(tmp_path / name)
    assert len(find_target([tmp_path])[0].pictures) == 3
    assert not label_files(tmp_path, [tmp_path / "face_mask.jpg"])


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("X_mask", "X"),
        ("X-mask", "X"),
        ("X_labelIds", "X"),
        ("X_gtFine_labelIds", "X"),
        ("X_seg1", "X"),
        ("mask", "mask"),
    ],
)
def test_tails_of_label_files(name, stem):
    assert without_tail(name) == stem


@pytest.mark.parametrize(
    "name", ["labels", "Masks", "trainannot", "SegmentationClassPNG", "gt", "ann_dir", "train_masks"]
)
def test_names_of_label_folders(name):
    assert is_label_folder(name)


@pytest.mark.parametrize("name", ["images", "night", "segway", "gtx", "train", "colors_of_night"])
def test_names_of_other_folders(name):
    assert not is_label_folder(name)


def test_folders_in_folders_and_every_kind_of_picture_are_read(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    trees.picture(tmp_path / "a.TIFF", 0)
    trees.picture(tmp_path / "day" / "b.tif", 1)
    trees.picture(tmp_path / "day" / "noon" / "c.png", 2)
    heif = pillow_heif.from_bytes("RGB", (64, 48), bytes(64 * 48 * 3))
    heif.save(tmp_path / "d.HEIC")
    trees.picture(tmp_path / ".hidden" / "e.png", 3)
    target = open_target([tmp_path], tmp_path / "cache", 1)
    assert names(target.paths) == ["a.TIFF", "d.HEIC", "b.tif", "c.png"]
    assert {target[i].shape for i in range(4)} == {(48, 64, 3)}


def test_videos_in_a_folder_are_read_after_its_pictures_and_broken_ones_said(tmp_path):
    folder = tmp_path / "target"
    trees.picture(folder / "z.png")
    make_video(folder / "a.mp4")
    (folder / "b.mp4").write_text("no video")
    (folder / "notes.txt").write_text("")
    parts = find_target([folder])
    target = open_target([folder], tmp_path / "cache", 3)
    assert len(target) == 4 and target.names[0] == "z" and target.sizes == [4]
    assert describe_target(parts, 3) == (
        "used 1 picture and 3 frames of 1 video, left out 2 (1 videos that cannot be read: b.mp4; "
        "1 of other kinds: notes.txt)"
    )
    (folder / "z.png").unlink()
    (folder / "a.mp4").unlink()
    with pytest.raises(InputError, match="no video that can be read"):
        find_target([folder])


def test_of_a_data_set_the_other_parts_and_the_labels_are_said(tmp_path):
    line = describe_target(find_target([trees.cityscapes(tmp_path)]), 0)
    assert line.startswith("used 2 pictures, left out ")
    assert (
        "2 of other parts: bonn_000000_000019_leftImg8bit.png, lindau_000000_000019_leftImg8bit.png" in line
    )
    assert "6 label files" in line and "3 of other kinds" in line


def test_a_link_in_a_circle_is_walked_once(tmp_path):
    trees.picture(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(find_target([tmp_path])[0].pictures) == 1


def test_masks_in_the_parts_of_an_export_are_no_targets(tmp_path):
    (part,) = find_target([exports.roboflow(tmp_path / "export")])
    assert names(part.pictures) == [f"{stem}_jpg.rf.0123456789abcdef.jpg" for stem in "ab"]
    line = describe_target([part], 0)
    assert "3 label files" in line and "CamVid" not in line
