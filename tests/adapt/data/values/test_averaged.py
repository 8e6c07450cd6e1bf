"""Ids that averaging made at edges: told from true ones, said, and taken back."""

import cv2
import dataset_trees as trees
import edges_oracle as oracle
import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from adapt.cli import main
from adapt.config.settings import Data
from adapt.data.classes import load_classes
from adapt.data.datasets import check_labels
from adapt.data.domains import open_source
from adapt.data.values.averaged import WARN_FROM, describe_averaged
from adapt.data.values.edges import between_neighbours, share_of_edges, taken_back
from adapt.errors import InputError
from adapt.run.run import load_run

SPARSE, DENSE = [7, 8, 11, 12, 13, 23, 26], list(range(19))


def areas(values, seed=0):
    """uint8 [96, 128]: areas of 8x8 pixels."""
    grid = np.random.default_rng(seed).choice(values, (12, 16))
    return np.kron(grid, np.ones((8, 8), int)).astype(np.uint8)


def resized(labels, how):
    height, width = labels.shape
    return cv2.resize(labels, (width * 3 // 2, height * 3 // 2), interpolation=how)


@pytest.mark.parametrize("values", [SPARSE, DENSE, [0, 255], [3, 40_000]])
def test_the_fast_way_is_the_slow_one(values):
    labels = areas(values)[:24, :32].astype(np.uint16)
    for each in (labels, resized(labels, cv2.INTER_LINEAR), resized(labels, cv2.INTER_AREA)):
        places = np.ndindex(*each.shape)
        slow = np.array([oracle.averaged(each, *place) for place in places]).reshape(each.shape)
        assert np.array_equal(between_neighbours(each), slow)
        assert np.array_equal(taken_back(each), oracle.taken_back(each))


@pytest.mark.parametrize("values", [SPARSE, DENSE])
def test_what_averaging_made_is_taken_back(values):
    """The numbers in docs/own-data.md: a fifth of the pixels wrong before, below 2 % after."""
    labels = areas(values)
    averaged, true = resized(labels, cv2.INTER_LINEAR), resized(labels, cv2.INTER_NEAREST_EXACT)
    assert (averaged != true).mean() > 0.15
    assert (taken_back(averaged) != true).mean() < 0.02
    assert {*np.unique(taken_back(averaged)).tolist()} <= {*values}


def test_true_labels_stay_as_they_are():
    labels = areas(DENSE)
    labels[30:33] = 9  # a stripe three pixels wide, between whatever there is
    assert np.array_equal(taken_back(labels), labels)
    assert share_of_edges(labels) == 0 and share_of_edges(np.zeros((9, 9), np.uint8)) == 0


@pytest.fixture
def source(tmp_path):
    """Averaged ids that all mean something."""
    classes = "classes: [" + ", ".join(f"{{id: {i}, name: c{i}}}" for i in range(256) if i != 200) + "]"
    for number in range(3):
        trees.write(tmp_path / "labels" / f"{number}.png", resized(areas(SPARSE, number), cv2.INTER_LINEAR))
        image = np.random.default_rng(number).integers(0, 256, (144, 192, 3), dtype=np.uint8)
        trees.write(tmp_path / "images" / f"{number}.png", image)
    (tmp_path / "classes.yaml").write_text(classes)
    return tmp_path


def test_averages_that_mean_something_are_a_warning(source):
    classes = load_classes(source / "classes.yaml")
    (line,) = describe_averaged("source", open_source(Data(source=(source,)), classes))
    assert "of the pixels at edges in" in line and "--repair-labels nearest" in line
    assert not [
        *describe_averaged("s", open_source(Data(source=(source,), repair_labels="nearest"), classes))
    ]
    for number in range(3):
        path = source / "labels" / f"{number}.png"
        trees.write(path, resized(areas(SPARSE, number), cv2.INTER_NEAREST_EXACT))
    assert not [*describe_averaged("source", open_source(Data(source=(source,)), classes))]


def test_check_and_training_say_so_and_training_repairs(source, tmp_path):
    few = "classes: [" + ", ".join(f"{{id: {i}, name: c{i}}}" for i in SPARSE) + "]"
    (source / "classes.yaml").write_text(few)
    classes = load_classes(source / "classes.yaml")
    with pytest.raises(InputError, match=r"lie between those of their neighbours.*--repair-labels nearest"):
        check_labels(open_source(Data(source=(source,)), classes))
    words = ["--source", source, "--target", source / "images", "--repair-labels", "nearest"]
    settings = (*tiny.SETTINGS, "training.iterations=1", "method.balance=off")
    words += [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(main, ["train", "-o", str(tmp_path / "run"), *map(str, words)])
    assert result.exit_code == 0, result.output
    assert load_run(tmp_path / "run").config.data.repair_labels == "nearest"
    true = [resized(areas(SPARSE, number), cv2.INTER_NEAREST_EXACT) for number in range(3)]
    pixels = np.load(tmp_path / "run" / "class_pixels.npy")
    wanted = np.array([[(each == value).sum() for value in SPARSE] for each in true])
    assert np.abs(pixels - wanted).sum() < 0.04 * wanted.sum()


def test_the_line_where_it_begins():
    assert share_of_edges(resized(areas(SPARSE), cv2.INTER_NEAREST_EXACT)) < 0.3 * WARN_FROM
    assert share_of_edges(resized(areas(DENSE), cv2.INTER_LINEAR)) > 3 * WARN_FROM
