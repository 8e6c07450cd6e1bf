"""Label maps that people write, and class lists that meet: by name, both ways, and what does not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.classes import IGNORE, ClassList
from adapt.data.known_classes import CAMVID11, CITYSCAPES19, CITYSCAPES19_TRAIN_IDS, SYNTHIA16
from adapt.data.label_codes import UnknownLabels
from adapt.data.label_maps import load_label_map, recode
from adapt.errors import InputError

THREE = ClassList(
    ("road", "sky", "car"), (7, 23, 300), ((128, 64, 128), (70, 130, 180), (0, 0, 142)), (1, 255)
)


def write(tmp_path, text):
    path = tmp_path / "label_map.yaml"
    path.write_text(text)
    return path


# --- label maps


def test_several_ids_become_one_class_by_name_or_by_id(tmp_path):
    code = load_label_map(write(tmp_path, "3: road\n4: road\n9: 23\n500: car\n0: ignore\n"), THREE)
    labels = np.array([[3, 4, 9, 500, 0]], np.uint16)
    assert code.encode(labels).tolist() == [[0, 0, 1, 2, IGNORE]]


def test_the_ids_of_the_class_list_mean_nothing_any_more(tmp_path):
    """7 is the class list's road, and whatever the map says in the source."""
    code = load_label_map(write(tmp_path, "7: sky\n"), THREE)
    assert code.encode(np.array([[7]])).tolist() == [[1]]
    with pytest.raises(UnknownLabels) as caught:
        code.encode(np.array([[7, 23, 255]]))
    assert set(caught.value.counts) == {23, 255}
    assert "label_map.yaml" in caught.value.message


def test_colours_keep_the_class_lists_meaning(tmp_path):
    code = load_label_map(write(tmp_path, "3: road\n"), THREE)
    assert code.encode(np.array([[(0, 0, 142), (0, 0, 0)]], np.uint8)).tolist() == [[2, IGNORE]]


def test_a_class_may_be_called_ignore(tmp_path):
    classes = ClassList(("ignore", "see"), (0, 1), ((1, 1, 1), (2, 2, 2)))
    assert load_label_map(write(tmp_path, "5: ignore\n"), classes).encode(np.array([[5]])).tolist() == [[0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3: raod", "3 to 'raod', which is neither the name nor the id of a class.*road, sky, car"),
        ("3: 8", "3 to 8, which is neither"),
        ("3: [road, sky]", "neither the name nor the id"),
        ("3:", "3 to None"),
        ("road: 3", "maps 'road', but ids are whole numbers"),
        ("-1: road", "maps -1, but ids"),
        ("70000: road", "maps 70000, but ids"),
        ("true: road", "maps True, but ids"),
        ("3: road\n4: sky\n3: sky", "maps 3 twice"),
        ("- 3", "must hold lines 'id: class name'"),
        ("", "must hold lines 'id: class name'"),
        ("3: [road", "not a readable YAML file"),
    ],
)
def test_a_malformed_map_is_refused_in_one_sentence_that_names_it(text, message, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        load_label_map(path, THREE)
    assert str(path) in caught.value.message and "\n" not in caught.value.message


def test_a_missing_map_is_refused(tmp_path):
    with pytest.raises(InputError, match="no label map"):
        load_label_map(tmp_path / "none.yaml", THREE)


# --- class lists that meet


@given(st.lists(st.sampled_from([*CITYSCAPES19.names, None]), min_size=1, max_size=40))
def test_label_ids_and_train_ids_of_cityscapes_mean_the_same(names):
    def painted(classes: ClassList, void: int) -> np.ndarray:
        return np.array([[void if n is None else classes.ids[classes.names.index(n)] for n in names]])

    into_train_ids = recode(CITYSCAPES19, CITYSCAPES19_TRAIN_IDS, "the data", "the run")
    np.testing.assert_array_equal(
        into_train_ids.encode(painted(CITYSCAPES19, 0)),
        CITYSCAPES19_TRAIN_IDS.code.encode(painted(CITYSCAPES19_TRAIN_IDS, 255)),
    )


def test_cityscapes_counts_in_synthias_classes_without_the_three_it_lacks():
    code = recode(CITYSCAPES19, SYNTHIA16, "Cityscapes", "the run")
    encoded = code.encode(np.array([CITYSCAPES19.ids]))[0]
    for name, train_id in zip(CITYSCAPES19.names, encoded.tolist(), strict=True):
        assert train_id == (SYNTHIA16.names.index(name) if name in SYNTHIA16.names else IGNORE)
    assert code.dropped == ("terrain", "truck", "train")
    # by colour as well
    np.testing.assert_array_equal(code.encode(np.array([CITYSCAPES19.palette], np.uint8))[0], encoded)


def test_fewer_classes_than_the_run_are_fine_too():
    code = recode(SYNTHIA16, CITYSCAPES19, "SYNTHIA", "the run")
    assert code.dropped == ()
    encoded = code.encode(np.array([SYNTHIA16.ids]))[0]
    assert [CITYSCAPES19.names[train_id] for train_id in encoded] == list(SYNTHIA16.names)


def test_the_order_does_not_matter():
    order = [2, 0, 1]
    turned = ClassList(
        tuple(THREE.names[i] for i in order), (0, 1, 2), tuple(THREE.palette[i] for i in order), (9,)
    )
    code = recode(turned, THREE, "the data", "the run")
    assert code.encode(np.array([[0, 1, 2, 9]])).tolist() == [[2, 0, 1, IGNORE]]


def test_lists_that_each_have_what_the_other_lacks_are_refused():
    with pytest.raises(InputError) as caught:
        recode(CAMVID11, CITYSCAPES19, "data/camvid", "the run")
    message = caught.value.message
    assert (
        "only the run has 'sidewalk', 'wall', 'traffic light', 'traffic sign', 'vegetation' and 8 more"
        in message
    )
    assert "only data/camvid has 'pavement', 'tree', 'sign', 'pedestrian', 'bicyclist'" in message
    assert "\n" not in message
