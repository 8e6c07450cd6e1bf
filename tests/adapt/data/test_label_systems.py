"""Label files in the wrong system: it is named where their values show it, and only there."""

import dataset_trees as trees
import numpy as np
import pytest

from adapt.data.classes import ClassList
from adapt.data.known_classes import CAMVID11, CITYSCAPES19, CITYSCAPES19_TRAIN_IDS, SYNTHIA16
from adapt.data.label_systems import SYSTEMS, classes_of_palette, guess_system

OWN = ClassList(("a", "b", "c"), (0, 1, 2), ((9, 9, 9), (8, 8, 8), (7, 7, 7)))
VOC_PALETTE = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
VOC_PALETTE += [
    (128, 128, 128),
    (64, 0, 0),
    (192, 0, 0),
    (64, 128, 0),
    (192, 128, 0),
    (64, 0, 128),
    (192, 0, 128),
]
VOC_PALETTE += [
    (64, 128, 128),
    (192, 128, 128),
    (0, 64, 0),
    (128, 64, 0),
    (0, 192, 0),
    (128, 192, 0),
    (0, 64, 128),
]


def guess(tmp_path, values: list[int], classes: ClassList) -> str | None:
    return guess_system([trees.write(tmp_path / "a.png", trees.blocks(values))], classes.code)


@pytest.mark.parametrize(
    ("values", "classes", "system"),
    [
        ([7, 8, 11, 21, 23, 26, 33], CAMVID11, "Cityscapes label ids"),
        ([1, 4, 7, 11, 17, 20, 23, 24, 26], CITYSCAPES19_TRAIN_IDS, "Cityscapes label ids"),
        ([0, 1, 2, 8, 10, 13, 255], CITYSCAPES19, "Cityscapes train ids"),
        ([0, 1, 2, 8, 10, 13, 18], CAMVID11, "Cityscapes train ids"),
        ([0, 8, 15, 20, 255], CITYSCAPES19, "PASCAL VOC ids"),
        ([1, 2, 3, 4, 6, 7, 8, 10, 17, 21, 22], CAMVID11, "SYNTHIA ids"),
        ([0, 255], ClassList(("x", "y"), (0, 1), ((1, 1, 1), (2, 2, 2))), "a mask of two values"),
    ],
)
def test_ids_of_another_system_are_told(values, classes, system, tmp_path):
    assert (guess(tmp_path, values, classes) or "").startswith(system)


@pytest.mark.parametrize(
    ("values", "classes"),
    [([0, 1, 2, 3], OWN), ([0, 1, 2, 255], OWN), ([0, 1, 2, 41], OWN), ([0, 1, 2, 500, 501, 502], OWN)],
)
def test_a_stray_value_is_no_system(values, classes, tmp_path):
    assert guess(tmp_path, values, classes) is None


@pytest.mark.parametrize(
    ("colors", "system"),
    [
        (CITYSCAPES19.palette[:5], "Cityscapes or GTA5 colours"),
        (CAMVID11.palette, "the colours of SegNet's CamVid"),
        (
            [(128, 64, 128), (0, 0, 192), (128, 0, 192), (64, 0, 64), (192, 0, 128), (0, 0, 0)],
            "the colours of CamVid's 32 classes",
        ),
        (VOC_PALETTE, "PASCAL VOC colours"),
    ],
)
def test_colours_of_another_system_are_told(colors, system, tmp_path):
    palette = np.array(colors, np.uint8)
    path = trees.write(tmp_path / "a.png", palette[trees.blocks(list(range(len(palette))))])
    assert guess_system([path], OWN.code) == system


def test_a_palette_tells_more_than_the_values_do(tmp_path):
    path = trees.palette_png(tmp_path / "a.png", trees.blocks([0, 1, 2, 3, 5, 7]), VOC_PALETTE)
    assert (guess_system([path], OWN.code) or "").startswith("PASCAL VOC ids")
    root = trees.gta5(tmp_path, names=("road", "sidewalk", "building"))
    assert (guess_system([root / "labels/00001.png"], OWN.code) or "").startswith("Cityscapes label ids")


def test_the_systems_go_from_small_to_large():
    """So that the first one that holds all the values says most; ids and colours apart."""
    for kind in (int, tuple):
        sizes = [len(s.values) for s in SYSTEMS if isinstance(next(iter(s.values)), kind)]
        assert len(sizes) >= 4
        if kind is int:
            assert sizes == sorted(sizes)
    assert set(SYNTHIA16.ids) <= next(s.values for s in SYSTEMS if s.name.startswith("SYNTHIA"))


def test_class_lists_come_with_cityscapes_colours_only(tmp_path):
    assert classes_of_palette(trees.gta5(tmp_path / "p") / "labels/00001.png") == CITYSCAPES19
    assert classes_of_palette(trees.gta5_in_colours(tmp_path / "c") / "labels/00001.png") == CITYSCAPES19
    grey = trees.write(tmp_path / "grey.png", trees.blocks([7, 11, 23]).astype(np.uint8))
    voc = trees.palette_png(tmp_path / "voc.png", trees.blocks([0, 7]), VOC_PALETTE)
    other = trees.write(tmp_path / "o.png", np.array(CAMVID11.palette, np.uint8)[trees.blocks([0, 1, 3])])
    black = trees.write(tmp_path / "b.png", np.zeros((48, 64, 3), np.uint8))
    for path in (grey, voc, other, black):
        assert classes_of_palette(path) is None
