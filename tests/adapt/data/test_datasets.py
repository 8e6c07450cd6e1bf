"""Labelled folders: found, read, and checked before training; one clear sentence for everything broken."""

import shutil

import numpy as np
import pytest
from labelled_folders import CLASSES, label_ids, make_folder, picture, refused

from adapt.data.datasets import LabelledFolder, check_labels
from adapt.data.images import write_jpeg, write_png
from adapt.data.label_codes import UnknownLabels
from adapt.errors import InputError


@pytest.mark.parametrize(
    ("images", "labels", "given"),
    [("images", "labels", ""), ("train", "trainannot", ""), ("val", "valannot", "val")],
)
def test_layouts_are_found(images, labels, given, tmp_path):
    make_folder(tmp_path, ["b", "a"], images, labels)
    (tmp_path / images / ".hidden.png").write_bytes(b"junk")
    (tmp_path / images / "notes.txt").write_text("junk")
    data = LabelledFolder(tmp_path / given, CLASSES)
    assert len(data) == 2 and data.names == ["a", "b"]
    np.testing.assert_array_equal(data[0].image, picture(seed=1))
    np.testing.assert_array_equal(data[1].labels, label_ids())


def test_sizes_may_differ_between_images_and_size_makes_them_equal(tmp_path):
    make_folder(tmp_path, ["a", "b"])
    write_png(tmp_path / "images" / "b.png", picture(30, 20))
    write_png(tmp_path / "labels" / "b.png", label_ids(30, 20))
    assert LabelledFolder(tmp_path, CLASSES)[1].labels.shape == (30, 20)
    for sample in map(LabelledFolder(tmp_path, CLASSES, (12, 16)).__getitem__, (0, 1)):
        assert sample.image.shape == (12, 16, 3) and sample.labels.shape == (12, 16)
        assert set(np.unique(sample.labels)) <= {0, 1, 2}


def test_resizing_images_and_labels_keeps_them_aligned(tmp_path):
    """A picture painted by its labels still agrees with them after shrinking by three."""
    make_folder(tmp_path, ["a"])
    labels = np.kron(label_ids(9, 9), np.ones((3, 3), np.uint8))
    write_png(tmp_path / "labels" / "a.png", labels)
    write_png(tmp_path / "images" / "a.png", np.repeat(labels[..., None] * 100, 3, axis=2))
    sample = LabelledFolder(tmp_path, CLASSES, (9, 9))[0]
    np.testing.assert_array_equal(sample.labels, label_ids(9, 9))
    np.testing.assert_array_equal(sample.image[..., 0], sample.labels * 100)


@pytest.mark.parametrize("missing", ["", "images", "labels"])
def test_missing_folders_are_refused(missing, tmp_path):
    root = make_folder(tmp_path / "data")
    shutil.rmtree(root / missing)
    with pytest.raises(InputError) as error:
        LabelledFolder(root, CLASSES)
    refused(error, root, missing or "no folder")


@pytest.mark.parametrize(
    ("emptied", "complaint"), [("images", "images holds no images"), ("labels", "no label files")]
)
def test_empty_folders_are_refused(emptied, complaint, tmp_path):
    make_folder(tmp_path)
    shutil.rmtree(tmp_path / emptied)
    (tmp_path / emptied).mkdir()
    with pytest.raises(InputError) as error:
        LabelledFolder(tmp_path, CLASSES)
    refused(error, tmp_path, complaint)


@pytest.mark.parametrize(("lonely", "removed"), [("images", "labels"), ("labels", "images")])
def test_files_without_a_partner_are_named(lonely, removed, tmp_path):
    make_folder(tmp_path, [f"p{i}" for i in range(7)])
    for i in range(5):
        (tmp_path / removed / f"p{i}.png").unlink()
    with pytest.raises(InputError) as error:
        LabelledFolder(tmp_path, CLASSES)
    refused(error, "5 ", "p0.png, p1.png, p2.png, and 2 more", tmp_path / removed)


def test_two_images_of_one_name_are_refused(tmp_path):
    make_folder(tmp_path)
    write_jpeg(tmp_path / "images" / "a.jpg", picture())
    with pytest.raises(InputError, match="same name"):
        LabelledFolder(tmp_path, CLASSES)


def test_an_image_and_labels_of_different_sizes_are_named(tmp_path):
    make_folder(tmp_path)
    write_png(tmp_path / "labels" / "b.png", label_ids(24, 31))
    with pytest.raises(InputError) as error:
        LabelledFolder(tmp_path, CLASSES, (8, 8))[1]
    refused(error, tmp_path / "images" / "b.png", tmp_path / "labels" / "b.png", "32x24", "31x24")


def test_the_check_counts_pixels_per_image_and_class(tmp_path):
    make_folder(tmp_path, ["a", "b"])
    second = np.full((24, 32), 255, np.uint8)
    second[0, :5] = 2
    write_png(tmp_path / "labels" / "b.png", second)
    report = check_labels(LabelledFolder(tmp_path, CLASSES))
    assert report.class_pixels.dtype == np.int64
    np.testing.assert_array_equal(report.class_pixels, [np.bincount(label_ids().ravel()), [0, 0, 5]])


def test_the_check_says_which_files_hold_which_unknown_values(tmp_path):
    make_folder(tmp_path, [f"p{i}" for i in range(6)])
    for i in range(1, 6):
        labels = label_ids()
        labels[0, : i + 1] = 40 + i
        write_png(tmp_path / "labels" / f"p{i}.png", labels)
    data = LabelledFolder(tmp_path, CLASSES)
    with pytest.raises(InputError) as error:
        check_labels(data)
    refused(
        error,
        "5 of 6",
        "p1.png holds 41 (2 px)",
        "p3.png holds 43 (4 px)",
        "and 2 more",
        "class list",
        "label map",
    )
    assert "p4.png" not in error.value.message
    with pytest.raises(UnknownLabels) as unknown:
        data[2]
    assert unknown.value.counts == {42: 3}
    refused(unknown, tmp_path / "labels" / "p2.png")


def test_the_check_finds_unreadable_files(tmp_path):
    make_folder(tmp_path)
    for name in ("b", "c"):
        path = tmp_path / "labels" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError) as error:
        check_labels(LabelledFolder(tmp_path, CLASSES))
    refused(error, tmp_path / "labels" / "b.png", "truncated", "1 more")


def test_the_check_refuses_labels_that_are_all_ignored(tmp_path):
    make_folder(tmp_path, ["a"])
    write_png(tmp_path / "labels" / "a.png", np.full((24, 32), 255, np.uint8))
    with pytest.raises(InputError, match="belongs to a class"):
        check_labels(LabelledFolder(tmp_path, CLASSES))
