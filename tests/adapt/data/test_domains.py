"""Data sets that meet in a run: from their roots to scores by the command line, and what does not fit."""

from pathlib import Path

import dataset_trees as trees
import numpy as np
import pytest
import tiny
import yaml
from click.testing import CliRunner, Result

from adapt.cli import main
from adapt.config.settings import Data
from adapt.data.classes import IGNORE, save_classes
from adapt.data.datasets import check_labels, open_target
from adapt.data.domains import find_classes, open_labelled, open_source
from adapt.data.known_classes import CITYSCAPES19, SYNTHIA16
from adapt.errors import InputError
from adapt.run.run import load_run, part


def adapt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def train(out: Path, *arguments: object, iterations: int = 1) -> Result:
    settings = (*tiny.SETTINGS, f"training.iterations={iterations}")
    return adapt("train", "-o", out, *arguments, *(w for s in settings for w in ("--set", s)))


def refused(result: Result, *words: object) -> None:
    assert result.exit_code == 2, result.output
    message = result.output[result.output.index("Error:") :].strip()
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


def own(root: Path, values: list[int], pictures: int = 2) -> Path:
    """images/ and labels/ with these ids, and no class file."""
    for i in range(pictures):
        trees.picture(root / "images" / f"{i}.png", i)
        trees.write(root / "labels" / f"{i}.png", trees.blocks(values, i))
    return root


CLASSES = """ignore: 255
classes:
  - {id: 0, name: ground, color: [90, 60, 30]}
  - {id: 1, name: sky, color: [80, 160, 240]}
  - {id: 2, name: box, color: [200, 30, 30]}
"""


# --- whole runs


def test_gta5_to_cityscapes_by_their_roots(tmp_path):
    """Source in a palette, target and evaluation in label ids: two folders' names are all that is needed."""
    gta5, cityscapes = trees.gta5(tmp_path / "gta5"), trees.cityscapes(tmp_path / "cityscapes")
    run = tmp_path / "run"
    result = train(run, "--source", gta5, "--target", cityscapes, "--evaluate", cityscapes)
    assert result.exit_code == 0, result.output
    assert (
        "source: 2 images" in result.output
        and "evaluation: 1 images in the layout of Cityscapes" in result.output
    )
    opened = load_run(run)
    assert opened.classes == CITYSCAPES19
    # the labels are random in both; what is evaluated are the classes that are there
    iou = opened.card.evaluation["0.0"]["iou"]
    there = {name for name, value in zip(CITYSCAPES19.names, iou, strict=True) if value is not None}
    assert there == set(trees.NAMES)
    result = adapt("eval", run, "--data", cityscapes / "leftImg8bit/train", "--tau", "0")
    assert result.exit_code == 0, result.output


def test_synthia_to_cityscapes_counts_sixteen_classes(tmp_path):
    synthia, cityscapes = trees.synthia(tmp_path / "synthia"), trees.cityscapes(tmp_path / "cityscapes")
    trees.write(
        tmp_path / "cityscapes/gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png",
        trees.blocks([7, 22, 23, 27, 31]).astype(np.uint8),  # with terrain, truck and train
    )
    run = tmp_path / "run"
    arguments = ("--source", synthia, "--target", cityscapes, "--evaluate", cityscapes)
    result = train(run, *arguments, "--set", "method.balance=off")
    assert result.exit_code == 0, result.output
    assert "ignored, since the source lacks them: terrain, truck, train" in result.output
    opened = load_run(run)
    assert opened.classes == SYNTHIA16
    labels = open_labelled(cityscapes, opened.classes, None)[0].labels
    assert labels[0, ::8].tolist()[:5] == [0, IGNORE, 9, IGNORE, IGNORE]
    iou = opened.card.evaluation["0.0"]["iou"]
    assert [name for name, value in zip(SYNTHIA16.names, iou, strict=True) if value is not None] == [
        "road",
        "sky",
    ]


def test_a_run_with_a_label_map_resumes_and_keeps_it(tmp_path, monkeypatch):
    root = own(tmp_path / "data" / "mine", [3, 4, 7, 9])
    (tmp_path / "classes.yaml").write_text(CLASSES)
    (tmp_path / "map.yaml").write_text("3: ground\n4: ground\n7: 1\n9: box\n")
    trees.picture(tmp_path / "data" / "target" / "a.png")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    given = ("--source", root, "--target", "data/target", "--classes", "classes.yaml")
    result = train(run, *given, "--label-map", "map.yaml", iterations=2)
    assert result.exit_code == 0, result.output
    config = load_run(run).config
    assert config.data.label_map == tmp_path / "map.yaml"  # means the same from anywhere
    pixels = np.load(run / "class_pixels.npy")
    labels = trees.blocks([3, 4, 7, 9], 0)
    assert pixels[0].tolist() == [(labels < 7).sum(), (labels == 7).sum(), (labels == 9).sum()]
    monkeypatch.chdir("/")
    assert adapt("statistics", run).exit_code == 0  # reads the source again


def test_a_class_the_source_never_shows_is_a_warning(tmp_path):
    source = own(tmp_path / "source", [0, 1])
    (tmp_path / "classes.yaml").write_text(CLASSES)
    trees.picture(tmp_path / "target" / "a.png")
    run = tmp_path / "run"
    result = train(run, "--source", source, "--target", tmp_path / "target")
    assert result.exit_code == 0, result.output
    assert "warning: no label of the source is box;" in result.output
    for consequence in ("never draws", "does not learn", "uncorrected"):
        assert consequence in result.output
    # which is what happens
    source_rows = part(load_run(run).tensors, "statistics.source")
    assert (source_rows["updated"] >= 0).tolist() == [True, True, False]


def test_classes_that_all_occur_give_no_warning(tmp_path):
    source = own(tmp_path / "source", [0, 1, 2])
    (tmp_path / "classes.yaml").write_text(CLASSES)
    result = train(tmp_path / "run", "--source", source, "--target", source)
    assert result.exit_code == 0 and "warning" not in result.output


# --- which class list


def test_a_class_file_wins_over_the_list_that_comes_with_a_download(tmp_path):
    root = trees.cityscapes(tmp_path / "cityscapes")
    coarse = yaml.safe_dump(
        {
            "ignore": [v for v in range(34) if v not in (7, 23)],
            "classes": [
                {"id": 7, "name": "road", "color": [1, 1, 1]},
                {"id": 23, "name": "sky", "color": [2, 2, 2]},
            ],
        }
    )
    (tmp_path / "classes.yaml").write_text(CLASSES)  # beside a download: somebody else's
    assert find_classes(root, None) == CITYSCAPES19
    (tmp_path / "two.yaml").write_text(coarse)
    assert find_classes(root, tmp_path / "two.yaml").names == ("road", "sky")
    (root / "classes.yaml").write_text(coarse)
    for given in (root, root / "leftImg8bit" / "train"):
        assert find_classes(given, None).names == ("road", "sky")


def test_a_class_file_beside_ones_own_folders_counts(tmp_path):
    (tmp_path / "classes.yaml").write_text(CLASSES)
    assert find_classes(own(tmp_path / "a", [0, 1]), None).names == ("ground", "sky", "box")
    assert find_classes(trees.camvid(tmp_path / "camvid"), None).names == ("ground", "sky", "box")


def test_evaluation_needs_classes_that_fit(tmp_path):
    camvid = trees.camvid(tmp_path / "camvid")
    with pytest.raises(InputError, match=r"The class lists differ.*'pavement'"):
        open_labelled(camvid, CITYSCAPES19, None)
    # its files can still be told to mean the run's classes
    (camvid / "label_map.yaml").write_text("0: sky\n3: road\n8: car\n11: ignore\n")
    labels = open_labelled(camvid, CITYSCAPES19, None)[0].labels
    names = [CITYSCAPES19.names[c] if c != IGNORE else None for c in labels[0, ::8][:4]]
    assert names == ["sky", "road", "car", None]


def test_evaluation_without_a_class_list_of_its_own_has_the_runs(tmp_path):
    classes = find_classes(trees.cityscapes(tmp_path / "cityscapes"), None)
    grey = own(tmp_path / "own", [7, 23])
    assert open_labelled(grey, classes, None)[0].labels[0, ::8][:2].tolist() == [0, 10]


def test_painted_labels_are_read_by_name_where_the_names_fit(tmp_path):
    painted = trees.gta5(tmp_path / "gta5")  # label ids, known by their palette
    labels = open_labelled(painted, SYNTHIA16, None)[0].labels
    assert [SYNTHIA16.names[c] for c in labels[0, ::8][:5]] == list(trees.NAMES)


def test_the_source_has_a_size_of_its_own(tmp_path):
    root = trees.gta5(tmp_path)
    for settings, size in (
        (Data(source=root), (48, 64)),
        (Data(source=root, size=(24, 32)), (24, 32)),
        (Data(source=root, size=(24, 32), source_size=(36, 48)), (36, 48)),
    ):
        assert open_source(settings, CITYSCAPES19)[0].labels.shape == size


# --- what is wrong


def test_labels_of_another_data_set_are_told(tmp_path):
    source = own(tmp_path / "source", [7, 8, 11, 21, 23, 26, 33])
    (tmp_path / "classes.yaml").write_text(CLASSES)
    result = train(tmp_path / "run", "--source", source, "--target", source)
    refused(result, "2 of 2 label files", "0.png holds 7 ", "look like Cityscapes label ids", "label map")
    assert not (tmp_path / "run").exists()


def test_an_id_that_the_label_map_lacks_is_named(tmp_path):
    source = own(tmp_path / "source", [3, 4, 7])
    (tmp_path / "classes.yaml").write_text(CLASSES)
    (source / "label_map.yaml").write_text("3: ground\n4: sky\n")  # found by itself
    result = train(tmp_path / "run", "--source", source, "--target", source)
    refused(result, source / "label_map.yaml", "holds 7 (")
    assert not (tmp_path / "run").exists()


def test_a_class_file_with_fewer_classes_than_the_data(tmp_path):
    source = own(tmp_path / "source", [0, 1, 2, 3])
    (tmp_path / "classes.yaml").write_text(CLASSES)
    result = train(tmp_path / "run", "--source", source, "--target", source)
    refused(result, "values that are not in the class list", "holds 3 (")
    assert not (tmp_path / "run").exists()


def test_ones_own_grey_labels_need_a_class_file(tmp_path):
    source = own(tmp_path / "source", [0, 1])
    refused(train(tmp_path / "run", "--source", source, "--target", source), "classes.yaml", "--classes")
    assert not (tmp_path / "run").exists()


def test_deep_colours_say_where_synthias_labels_belong(tmp_path):
    labels = trees.blocks([1, 3])
    trees.picture(tmp_path / "images" / "a.png")
    trees.png_of_channels(tmp_path / "labels" / "a.png", [labels] * 3)
    save_classes(SYNTHIA16, tmp_path / "classes.yaml")
    with pytest.raises(InputError, match=r"colours of 16 bits.*RGB/ and GT/LABELS/"):
        check_labels(open_labelled(tmp_path, SYNTHIA16, None))


# --- targets


def test_several_folders_and_videos_are_one_target(tmp_path):
    from clips import make_video

    first, second = tmp_path / "a", trees.cityscapes(tmp_path / "cityscapes")
    trees.picture(first / "x.png")
    videos = [make_video(tmp_path / "one.mp4"), make_video(tmp_path / "two.mp4")]
    given = [videos[0], first, second, videos[1]]
    target = open_target(given, tmp_path / "cache", frames=3, size=(24, 32))
    assert len(target) == 3 + 1 + 2 + 3
    assert target.names[3:6] == ["x", "aachen_000000_000019_leftImg8bit", "aachen_000001_000019_leftImg8bit"]
    assert {target[i].shape for i in range(len(target))} == {(24, 32, 3)}


def test_training_takes_several_videos_and_folders(tmp_path):
    from clips import make_video

    source = own(tmp_path / "source", [0, 1, 2])
    (tmp_path / "classes.yaml").write_text(CLASSES)
    targets = [make_video(tmp_path / "one.mp4"), make_video(tmp_path / "two.mp4"), source]
    arguments = [word for target in targets for word in ("--target", target)]
    result = train(tmp_path / "run", "--source", source, *arguments, "--set", "data.frames=2")
    assert result.exit_code == 0, result.output
    frames = sorted((tmp_path / "run" / "frames").rglob("*.png"))
    assert len(frames) == 4 and len({frame.parent for frame in frames}) == 2
