"""How many pixels do not count is said, and which value they have, so that a forgotten background is seen."""

from pathlib import Path

import dataset_trees as trees
import numpy as np
import pytest

from adapt.data.classes import ClassList
from adapt.data.datasets import LabelledFolder, LabelReport, check_labels
from adapt.data.values.ignored import describe_ignored

CLASSES = ClassList(("road", "sky"), (1, 2), ((128, 64, 128), (70, 130, 180)), (255, (9, 9, 9)))


def labelled(root: Path, labels: np.ndarray) -> list[str]:
    trees.picture(root / "images" / "a.png")
    trees.write(root / "labels" / "a.png", labels)
    folder = LabelledFolder(root, CLASSES)
    return list(describe_ignored("source", folder, check_labels(folder)))


def shares(*rows: tuple[int, object]) -> np.ndarray:
    """[48, 64, ...] with so many of the 48 rows of each value."""
    return np.repeat(np.array([value for _, value in rows], np.uint8), [count for count, _ in rows], axis=0)


def ids(*rows: tuple[int, int]) -> np.ndarray:
    return np.repeat(shares(*rows)[:, None], 64, axis=1)


def colours(*rows: tuple[int, tuple[int, int, int]]) -> np.ndarray:
    return np.repeat(shares(*rows)[:, None], 64, axis=1)


def test_nothing_is_said_where_everything_counts(tmp_path):
    assert labelled(tmp_path, ids((24, 1), (24, 2))) == []


def test_a_small_share_is_said(tmp_path):
    (line,) = labelled(tmp_path, ids((6, 255), (42, 2)))
    assert line == f"source: 12.5 % of the pixels in {tmp_path.name}/labels/*.png are ignored"


def test_black_that_no_class_has_is_a_warning_with_a_hint(tmp_path):
    (line,) = labelled(tmp_path, colours((32, (0, 0, 0)), (16, (128, 64, 128))))
    assert line.startswith("warning: source: 66.7 % of the pixels")
    assert "100 % of these are black [0, 0, 0], which no class has" in line
    assert "- {name: background, color: [0, 0, 0]}" in line


@pytest.mark.parametrize("share", [9, 10])
def test_the_warning_begins_at_a_fifth(tmp_path, share):
    (line,) = labelled(tmp_path, ids((share, 255), (48 - share, 1)))
    assert line.startswith("warning") == (share == 10)


def test_what_the_class_list_ignores_is_said_as_that(tmp_path):
    (line,) = labelled(tmp_path, colours((20, (9, 9, 9)), (5, (0, 0, 0)), (23, (70, 130, 180))))
    assert "80 % of these are of the colour [9, 9, 9], which the class list ignores" in line


def test_each_data_set_has_a_line_of_its_own(tmp_path):
    from adapt.data.datasets import LabelledImages, LabelledPart
    from adapt.data.finding import find_labelled

    parts = []
    for name, labels in (("a", ids((48, 1))), ("b", ids((24, 255), (24, 2)))):
        trees.picture(tmp_path / name / "images" / "x.png")
        trees.write(tmp_path / name / "labels" / "x.png", labels)
        parts.append(LabelledPart(find_labelled(tmp_path / name, "train"), CLASSES.code))
    both = LabelledImages(parts, CLASSES)
    report: LabelReport = check_labels(both)
    assert report.ignored.tolist() == [0, 24 * 64]
    (line,) = describe_ignored("source", both, report)
    assert "b/labels/*.png" in line and "50 %" in line and "id 255" in line
