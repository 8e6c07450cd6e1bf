"""Class lists: translation of label files, class files that people wrote, and what is wrong with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.classes import IGNORE, ClassList, load_classes, save_classes
from adapt.data.known_classes import CAMVID11, CITYSCAPES19, CITYSCAPES19_TRAIN_IDS, SYNTHIA16
from adapt.data.label_codes import UnknownLabels
from adapt.errors import InputError

THREE = ClassList(
    ("road", "sky", "car"), (7, 23, 300), ((128, 64, 128), (70, 130, 180), (0, 0, 142)), (1, 255)
)


def test_ids_become_train_ids_in_class_order():
    encoded = THREE.code.encode(np.array([[23, 7], [300, 255], [1, 7]], np.uint16))
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == [[1, 0], [2, IGNORE], [IGNORE, 0]]


@given(st.lists(st.sampled_from([0, 1, 2, IGNORE]), min_size=4, max_size=64))
def test_ids_and_colours_encode_alike(train_ids):
    expected = np.array([train_ids], np.uint8)
    id_of = np.zeros(256, np.int32)
    id_of[[0, 1, 2, IGNORE]] = (*THREE.ids, THREE.ignore[0])
    color_of = np.zeros((256, 3), np.uint8)
    color_of[[0, 1, 2]] = THREE.palette
    np.testing.assert_array_equal(THREE.code.encode(id_of[expected]), expected)
    np.testing.assert_array_equal(THREE.code.encode(color_of[expected]), expected)


def test_black_is_a_class_where_the_list_says_so():
    classes = ClassList(("night", "day"), (0, 1), ((0, 0, 0), (255, 255, 255)))
    assert classes.code.encode(np.zeros((1, 1, 3), np.uint8)).tolist() == [[0]]


def test_unknown_ids_are_counted_most_frequent_first():
    with pytest.raises(UnknownLabels) as caught:
        THREE.code.encode(np.array([[7, 99, 99], [-1, 99, 70000]], np.int64))
    assert caught.value.counts == {99: 3, -1: 1, 70000: 1}
    assert next(iter(caught.value.counts)) == 99
    assert "99 (3 px)" in caught.value.message


def test_unknown_colours_are_counted_as_triples():
    labels = np.zeros((2, 2, 3), np.uint8)
    labels[0, 0] = (1, 2, 3)
    labels[1] = THREE.palette[1]
    with pytest.raises(UnknownLabels) as caught:
        THREE.code.encode(labels)
    assert caught.value.counts == {(1, 2, 3): 1}


def test_a_long_list_of_unknown_values_is_cut():
    with pytest.raises(UnknownLabels, match="and 35 more"):
        THREE.code.encode(np.arange(30, 70)[None])


@pytest.mark.parametrize("labels", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8)])
def test_arrays_that_are_not_labels_are_refused(labels):
    with pytest.raises(InputError, match="Labels must be"):
        THREE.code.encode(labels)


@pytest.mark.parametrize("classes", [THREE, CAMVID11, CITYSCAPES19, SYNTHIA16])
def test_a_class_file_reads_back_equal(classes, tmp_path):
    save_classes(classes, tmp_path / "classes.yaml")
    assert load_classes(tmp_path / "classes.yaml") == classes
    assert ClassList.from_dict(classes.to_dict()) == classes
    assert [entry.name for entry in tmp_path.iterdir()] == ["classes.yaml"]


def test_names_that_yaml_would_take_for_something_else_survive(tmp_path):
    classes = ClassList(
        ("no", "12", "a: b", "Straße"), (0, 1, 2, 3), ((0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4))
    )
    save_classes(classes, tmp_path / "classes.yaml")
    assert load_classes(tmp_path / "classes.yaml") == classes


def test_known_lists_have_the_sizes_in_their_names():
    assert (len(CAMVID11), len(CITYSCAPES19), len(CITYSCAPES19_TRAIN_IDS), len(SYNTHIA16)) == (11, 19, 19, 16)
    assert CITYSCAPES19.code.encode(np.array([[7, 33, 0, 30, 34]])).tolist() == [[0, 18, *[IGNORE] * 3]]
    assert CITYSCAPES19_TRAIN_IDS.code.encode(np.array([[0, 18, 255]])).tolist() == [[0, 18, IGNORE]]
    assert SYNTHIA16.code.encode(np.array([[3, 11, 22]])).tolist() == [[0, 15, IGNORE]]


def test_synthias_classes_are_cityscapes_without_three_in_the_same_order():
    shared = [name for name in CITYSCAPES19.names if name not in ("terrain", "truck", "train")]
    assert list(SYNTHIA16.names) == shared


def test_ignored_colours_do_not_count(tmp_path):
    labels = np.array([[(128, 64, 128), (81, 0, 81), (0, 0, 0)]], np.uint8)
    assert CITYSCAPES19.code.encode(labels).tolist() == [[0, IGNORE, IGNORE]]
    path = tmp_path / "classes.yaml"
    path.write_text(f"classes: [{SKY}, {CAR}]\nignore: [7, [9, 9, 9]]")
    classes = load_classes(path)
    assert classes.ignore == (7, (9, 9, 9))
    assert classes.code.encode(np.array([[(1, 2, 3), (9, 9, 9)]], np.uint8)).tolist() == [[0, IGNORE]]
    assert classes.code.encode(np.array([[0, 7]])).tolist() == [[0, IGNORE]]


SKY, CAR = "{id: 0, name: sky, color: [1, 2, 3]}", "{id: 1, name: car, color: [4, 5, 6]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [", "not a readable YAML file"),
        ("", "needs a list 'classes'"),
        ("[1, 2]", "needs a list 'classes'"),
        ("classes: {sky: 0}", "needs a list 'classes'"),
        (f"classes: [{SKY}]", "2 to 255 classes, but this one has 1"),
        (f"classes: [{SKY}, {{id: 1, names: car}}]", "Class 2 must have the key name, and id or color"),
        (f"classes: [{SKY}, {CAR}]\nignored: 3", "not 'ignored'"),
        (f"classes: [{SKY}, {{id: 0, name: car, color: [4, 5, 6]}}]", "same id 0"),
        (f"classes: [{SKY}, {{id: 1, name: sky, color: [4, 5, 6]}}]", "same name 'sky'"),
        (f"classes: [{SKY}, {{id: 1, name: car, color: [1, 2, 3]}}]", r"same color \[1, 2, 3\]"),
        (f"classes: [{SKY}, {{id: 1, name: car, color: [4, 5, 256]}}]", "from 0 to 255"),
        (f"classes: [{SKY}, {{id: 1, name: car, color: [4, 5]}}]", r"color is \[R, G, B\]"),
        (f"classes: [{SKY}, {{id: 1, name: car, color: red}}]", "color 'red'"),
        (f"classes: [{SKY}, {{id: 1, name: on, color: [4, 5, 6]}}]", "put it in quotes"),
        (f"classes: [{SKY}, {{id: true, name: car, color: [4, 5, 6]}}]", "id True"),
        (f"classes: [{SKY}, {{id: 65536, name: car, color: [4, 5, 6]}}]", "from 0 to 65535"),
        (f"classes: [{SKY}, {CAR}]\nignore: 1", "both ignored and the id of class 'car'"),
        (f"classes: [{SKY}, {CAR}]\nignore: [[4, 5, 6]]", "both ignored and the color of class 'car'"),
        (f"classes: [{SKY}, {CAR}]\nignore: none", "ignored value is 'none'"),
        (f"classes: [{SKY}, {CAR}]\nignore: [[1, 2]]", r"ignored value is \(1, 2\)"),
    ],
)
def test_a_malformed_class_file_is_refused_in_one_sentence_that_names_it(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_classes(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


def test_a_missing_class_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no class file"):
        load_classes(tmp_path / "none.yaml")


def test_a_list_of_256_classes_is_refused():
    many = 256
    colors = tuple((0, i // 16, i % 16) for i in range(many))
    with pytest.raises(InputError, match="has 256"):
        ClassList(tuple(f"class {i}" for i in range(many)), tuple(range(many)), colors)
