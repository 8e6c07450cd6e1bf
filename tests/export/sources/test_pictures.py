"""Every command of export opens data as `adapt` does: folders, and data sets in their own layouts."""

from pathlib import Path

import dataset_trees as trees
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx_segmenters import card
from small_network import small_network, smooth_pictures, write_pictures

from adapt.data.classes import save_classes
from adapt.data.datasets import LabelledFolder
from adapt.data.known_classes import CAMVID11, CITYSCAPES19
from adapt.errors import InputError
from export.cli.commands import main
from export.fold.fold import fold
from export.fold.folded import graph_info
from export.sources.pictures import calibration_pictures, pictures_for
from export.sources.source import GraphSource, Source
from export.sources.statistics_file import read_statistics
from serve.card import Card

NORMALISED = ("--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3")
SETS = {"CamVid": (trees.camvid, CAMVID11), "Cityscapes": (trees.cityscapes, CITYSCAPES19)}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def card_of(classes) -> Card:
    plain = card(len(classes))
    return Card(classes.names, classes.palette, 255, plain.mean, plain.std, plain.stride, plain.output_stride)


def nowhere(classes) -> Source:
    return GraphSource(Path("x.onnx"), card_of(classes), onnx.ModelProto())


@pytest.fixture(scope="module", params=SETS)
def place(request, tmp_path_factory) -> tuple[Path, Path, tuple[str, ...]]:
    """A data set, a foreign model of its classes, and their names."""
    make, classes = SETS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    onnx.save(small_network(len(classes)), folder / "model.onnx")
    return make(folder / "data"), folder / "model.onnx", classes.names


def test_every_option_takes_a_data_set_in_its_own_layout(place, tmp_path):
    data, model, names = place
    stats, file = tmp_path / "s.safetensors", tmp_path / "file.onnx"
    commands = (
        ("calibrate", model, "--target", data, "--source", data, *NORMALISED, "-o", stats),
        ("onnx", model, "--stats", stats, "--data", data, "-o", file),
        ("verify", file, "--data", data),
        ("onnx", file, "--data", data, "--precision", "int8", "--calibrate", data, "-o", tmp_path / "q.onnx"),
    )
    said = [call(*command) for command in commands]
    assert not any(result.exit_code for result in said[:3]), [result.output for result in said]
    # noise has the classes near each other, so integers may fail their gates: but not for want of pictures
    assert said[3].exit_code == 0 or "would change too much" in said[3].output, said[3].output
    assert read_statistics(stats)[1].classes == names
    assert "labelled ones of data" in read_statistics(stats)[1].source
    assert graph_info(onnx.load(file), "").card.classes == names
    assert "labelled pictures of data" in said[2].output and "mIoU" in said[2].output


@pytest.mark.parametrize("name", SETS)
def test_truth_is_in_the_classes_of_the_file(name, tmp_path):
    """Whatever numbers the label files have, and in whatever order the file has its classes."""
    make, classes = SETS[name]
    data = make(tmp_path / "data")
    order = [*range(1, len(classes)), 0]
    turned = Card(
        tuple(classes.names[i] for i in order), tuple(classes.palette[i] for i in order), *_rest(classes)
    )
    found = pictures_for(turned, nowhere(classes), data, labels=True)
    expected = LabelledFolder(data, classes, split="val")
    assert len(found.truths) == len(expected) > 0
    back = np.full(256, 255, np.uint8)
    back[: len(order)] = order
    for truth, frame, sample in zip(found.truths, found.frames, expected, strict=False):
        np.testing.assert_array_equal(back[truth], sample.labels)
        np.testing.assert_array_equal(frame, sample.image)


def _rest(classes) -> tuple:
    plain = card(len(classes))
    return (255, plain.mean, plain.std, plain.stride, plain.output_stride)


def test_validation_pictures_check_and_training_pictures_measure(tmp_path):
    data = trees.camvid(tmp_path / "camvid")
    found = pictures_for(card_of(CAMVID11), nowhere(CAMVID11), data)
    assert len(found.frames) == 1 and not found.truths and found.words == "pictures of camvid"
    assert [path.parent.name for path in calibration_pictures(data)] == ["train", "train"]
    assert [path.parent.name for path in calibration_pictures(data / "test")] == ["test"]


def test_pictures_without_labels_are_pictures(tmp_path):
    plain = card_of(CAMVID11)
    write_pictures(tmp_path / "flat", smooth_pictures(2))
    write_pictures(tmp_path / "set" / "images", smooth_pictures(3))
    unlabelled = trees.cityscapes(tmp_path / "cityscapes") / "leftImg8bit" / "test"
    for folder, count in ((tmp_path / "flat", 2), (tmp_path / "set", 3), (unlabelled, 1)):
        found = pictures_for(plain, nowhere(CAMVID11), folder, labels=True)
        assert (len(found.frames), len(found.truths)) == (count, 0), folder


def test_labels_that_do_not_fit_are_not_passed_over(tmp_path):
    write_pictures(tmp_path / "set" / "images", smooth_pictures(2))
    (tmp_path / "set" / "labels").mkdir()
    with pytest.raises(InputError, match="no label files for them"):
        pictures_for(card_of(CAMVID11), nowhere(CAMVID11), tmp_path / "set", labels=True)
    trees.write(tmp_path / "set" / "labels" / "0.png", np.zeros((96, 128), np.uint8))
    with pytest.raises(InputError, match="1 of 2 pictures have no label file"):
        pictures_for(card_of(CAMVID11), nowhere(CAMVID11), tmp_path / "set", labels=True)


def test_a_model_of_ours_reads_its_source_in_its_own_classes(tmp_path):
    """The file's class order counts, not the one of the data set."""
    order = [*range(1, len(CAMVID11)), 0]
    names = tuple(CAMVID11.names[i] for i in order)
    ours = Card(names, tuple(CAMVID11.palette[i] for i in order), *_rest(CAMVID11))
    onnx.save(fold(small_network(len(names)), ours, None), tmp_path / "model.onnx")
    data, stats = trees.camvid(tmp_path / "camvid"), tmp_path / "s.safetensors"
    arguments = ("calibrate", tmp_path / "model.onnx", "--target", data, "-o", stats, "--force")
    assert call(*arguments, "--source", data).exit_code == 0
    assert read_statistics(stats)[1].classes == names
    save_classes(CAMVID11, tmp_path / "classes.yaml")
    assert call(*arguments, "--source", data, "--classes", tmp_path / "classes.yaml").exit_code == 0
    assert read_statistics(stats)[1].classes == CAMVID11.names


@pytest.mark.parametrize("option", ["--data", "--calibrate"])
def test_a_folder_without_pictures_is_named(tmp_path, option):
    onnx.save(fold(small_network(), card(3), None), tmp_path / "model.onnx")
    (tmp_path / "empty").mkdir()
    precision = ("--precision", "int8") if option == "--calibrate" else ()
    arguments = ("onnx", tmp_path / "model.onnx", "--without-correction", *precision)
    result = call(*arguments, option, tmp_path / "empty", "-o", tmp_path / "out.onnx")
    assert result.exit_code == 2 and "holds no images" in result.output
