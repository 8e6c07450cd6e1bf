"""Class files as people write them: ids or colours missing, several values, hex colours, one class."""

from pathlib import Path

import numpy as np
import pytest

from adapt.data.classes import IGNORE, ClassList, load_classes, save_classes
from adapt.errors import InputError


def loaded(tmp_path: Path, text: str) -> ClassList:
    path = tmp_path / "classes.yml"
    path.write_text(text)
    classes = load_classes(path)
    save_classes(classes, tmp_path / "again.yaml")
    assert load_classes(tmp_path / "again.yaml") == classes  # as a run keeps it
    return classes


def test_ids_alone_get_colours(tmp_path):
    classes = loaded(tmp_path, "ignore: 255\nclasses: [{id: 7, name: road}, {id: 3, name: sky}, tree]")
    assert classes.ids == (7, 3, 0) and classes.names == ("road", "sky", "tree")
    assert len(set(classes.palette)) == 3 and (0, 0, 0) not in classes.palette


def test_colours_alone_get_ids_that_nobody_has(tmp_path):
    text = "ignore: 0\nclasses: [{name: road, color: [1, 2, 3]}, {name: sky, color: '#0A0b0C'}"
    text += ", {name: x, color: '#fff', id: 1}]"
    classes = loaded(tmp_path, text)
    assert classes.palette == ((1, 2, 3), (10, 11, 12), (255, 255, 255)) and classes.ids == (2, 3, 1)


def test_several_values_mean_one_class(tmp_path):
    text = "classes: [{id: [1, 4], name: road}, {ids: 2, name: car, colors: [[0, 0, 142], '#00008f']}]"
    classes = loaded(tmp_path, text)
    assert classes.code.encode(np.array([[1, 4, 2]])).tolist() == [[0, 0, 1]]
    colours = np.array([[(0, 0, 142), (0, 0, 143), (0, 0, 0)]], np.uint8)
    assert classes.code.encode(colours).tolist() == [[1, 1, IGNORE]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classes: [{id: [1, 2], name: a}, {id: 2, name: b}]", "same id 2"),
        (
            "classes: [{id: [1, 2], name: a}, {id: 3, name: b}]\nignore: 2",
            "both ignored and the id of class 'a'",
        ),
        ("classes: [{id: [1, 70000], name: a}, {id: 3, name: b}]", "from 0 to 65535"),
        ("classes: [{id: 1, name: a, color: '#12'}, {id: 3, name: b}]", "color '#12'"),
        ("classes: [{id: 1}, {id: 3, name: b}]", "must have the key name"),
    ],
)
def test_what_stays_wrong(text, words, tmp_path):
    with pytest.raises(InputError, match=words):
        loaded(tmp_path, text)


@pytest.mark.parametrize("value", [1, 255])
def test_one_class_has_a_background(value, tmp_path):
    classes = loaded(tmp_path, f"classes: [{{id: {value}, name: crack}}]")
    assert classes.names == ("background", "crack")
    assert classes.code.encode(np.array([[0, value]])).tolist() == [[0, 1]]
