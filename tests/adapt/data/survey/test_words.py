"""Ten lines about data whose every number is known."""

from pathlib import Path

import flawed_data
import pytest
from clips import make_video

from adapt.config.settings import Data
from adapt.data.classes import load_classes
from adapt.data.domains import Unpaired, open_labelled, open_source
from adapt.data.folders.target import find_target
from adapt.data.survey.records import to_dict
from adapt.data.survey.sets import SAMPLE, Opened, Survey, survey
from adapt.data.survey.words import describe
from adapt.errors import InputError


def looked_at(root: Path, everything: bool = True, *more: Path) -> Survey:
    classes = load_classes(root / "classes.yaml")
    unpaired: Unpaired = []
    opened = Opened(
        classes,
        open_source(Data(source=(root / "source",)), classes, unpaired),
        find_target([root / "target", *more]),
        None,
        open_labelled(root / "evaluation", classes, None, unpaired=unpaired),
        unpaired,
    )
    return survey(opened, 6, everything)


def test_without_a_source_the_target_is_described(tmp_path: Path):
    flawed_data.sound(tmp_path)
    classes = load_classes(tmp_path / "classes.yaml")
    lines = describe(survey(Opened(classes, None, find_target([tmp_path / "target"]), None, None), 6, True))
    assert lines[0] == f"source: none; the model has {len(classes)} classes: {', '.join(classes.names)}"
    assert lines[1].startswith("target: used 2 pictures")
    starts = [line.split(":")[0] for line in lines]
    wanted = ["source", "target", "evaluation", "looked at", "sizes", "duplicates", "damaged", "light"]
    assert starts == wanted and lines[-1].startswith("light: target brightness 0.")


def test_counts_and_shares_are_the_truth(tmp_path: Path):
    record = to_dict(looked_at(flawed_data.flawed(tmp_path)))
    source, evaluation = record["labelled"]
    files = {Path(file["path"]).stem: file for file in source["files"]}
    for name, (height, width) in flawed_data.SIZES.items():
        road, ignored = flawed_data.ROAD[name], flawed_data.IGNORED[name]
        assert files[name]["class_pixels"] == {
            "road": road,
            "sky": height * width - road - ignored,
            "train": 0,
        }
        assert files[name]["ignored_pixels"] == ignored
        assert (files[name]["height"], files[name]["width"]) == (height, width)
    assert source["class_pixels"] == {"road": 500, "sky": 400 + 640, "train": 0}
    assert source["class_shares"]["road"] == pytest.approx(500 / 1540, abs=1e-6)
    assert source["ignored_share"] == pytest.approx(160 / 1700, abs=1e-6)
    assert source["sizes"] == [
        {"height": 20, "width": 40, "pictures": 2},
        {"height": 10, "width": 10, "pictures": 1},
    ]
    assert source["pictures"] == 4 and source["looked_at"] == 4 and evaluation["pictures"] == 3


def test_flaws_are_named(tmp_path: Path):
    found = looked_at(flawed_data.flawed(tmp_path))
    record = to_dict(found)
    source = record["labelled"][0]
    assert [Path(path).name for path in source["without_labels"]] == ["alone.png"]
    assert [Path(path).name for path in source["labels_without_picture"]] == ["surplus.png"]
    assert [Path(fault["path"]).name for fault in source["damaged"]] == ["broken.png"]
    pairs = {
        role: [[Path(p).name for p in pair] for pair in two] for role, two in record["duplicates"].items()
    }
    assert pairs == {"source": [["other_name.png", "a.png"]], "target": [["t1.png", "t1.png"]]}
    text = "\n".join(describe(found))
    for words in (
        "pairs: source: 1 without labels (alone.png) and 1 label files without a picture (surplus.png)",
        "duplicates: 1 of the 3 pictures to evaluate on are in the source too: other_name.png = a.png",
        "in the target too (without labels): t1.png = t1.png",
        "damaged: 1 (broken.png)",
        "sizes: source 40x20 (2), 10x10 (1); evaluation",
        "classes: sky 68 %, road 32 %; not seen: train",
        "source: 9.41 % of the pixels in source/labels/*.png are ignored",
    ):
        assert words in text
    assert len(found.problems) == 2 and "broken.png" in found.problems[0]


def test_light_is_compared(tmp_path: Path):
    found = looked_at(flawed_data.sound(tmp_path))
    light = to_dict(found)["light"]
    mean = [sum(color[i] for color in flawed_data.COLORS.values()) / 3 / 255 for i in range(3)]
    assert light["source"]["color"] == pytest.approx(mean, abs=1e-4)
    assert light["target"]["color"] == pytest.approx([c / 255 for c in flawed_data.TARGET], abs=1e-4)
    assert describe(found)[-1].endswith("the target is darker and greener")


def test_of_sound_data_there_are_ten_lines_and_no_problem(tmp_path: Path):
    found = looked_at(flawed_data.sound(tmp_path))
    lines = describe(found)
    assert found.problems == []
    heads = [line.split(":")[0] for line in lines]
    assert heads == [
        *("source", "evaluation", "target", "looked at", "sizes", "classes", "source", "pairs"),
        *("duplicates", "damaged", "light"),
    ]
    assert "pairs: every picture has its labels" in lines[7]
    assert "damaged: none" in lines[9]


def test_a_sample_is_a_sample_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("adapt.data.survey.sets.SAMPLE", 2)
    found = looked_at(flawed_data.sound(tmp_path), everything=False)
    assert (found.seen("source"), found.seen("target")) == (2, 2)
    assert not found.complete("source") and found.complete("target")
    said = next(line for line in describe(found) if line.startswith("looked at"))
    assert said.startswith("looked at: 2 of source, all 1 of evaluation, all 2 of target") and "--all" in said
    assert SAMPLE > 10


def test_frames_of_videos_are_looked_at_and_counted(tmp_path: Path):
    clip = make_video(tmp_path / "drive.mp4", 12)
    found = looked_at(flawed_data.sound(tmp_path), False, clip)
    assert found.target[1].frames == 6
    looks = found.target[1].looked.looks
    assert [look.size for look in looks] == [(48, 64)] * 4
    values = [look.brightness * 255 for look in looks]
    assert values == sorted(values) and values[-1] > values[0] + 40
    assert "target: used 2 pictures and 6 frames of 1 video" in "\n".join(describe(found))


def test_unknown_values_are_explained(tmp_path: Path):
    import numpy as np

    from adapt.data.images import write_png

    root = flawed_data.sound(tmp_path)
    write_png(root / "source" / "labels" / "b.png", np.full((20, 40), 77, np.uint8))
    found = looked_at(root)
    assert len(found.problems) == 1 and "77 (800 px)" in found.problems[0]
    assert "unknown values: 1 of 3 label files" in "\n".join(describe(found))


def test_of_data_that_cannot_be_read_at_all_lines_and_records_are_still_made(tmp_path: Path):
    root = flawed_data.sound(tmp_path)
    for path in (root / "source" / "images").iterdir():
        path.write_bytes(b"no picture")
    found = looked_at(root)
    assert len(found.problems) == 3 and "damaged: 3 (a.png, b.png, c.png)" in "\n".join(describe(found))
    assert to_dict(found)["labelled"][0]["class_pixels"] == {} and "source unknown" in "\n".join(
        describe(found)
    )


def test_training_still_refuses_what_is_alone(tmp_path: Path):
    root = flawed_data.flawed(tmp_path)
    with pytest.raises(InputError, match="have no label file"):
        open_source(Data(source=(root / "source",)), load_classes(root / "classes.yaml"))
