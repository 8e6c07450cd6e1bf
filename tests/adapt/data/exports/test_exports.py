"""Exports of labelling tools, read as they are: class counts equal the truth, and training starts."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dataset_trees as trees
import export_trees as exports
import json_exports
import numpy as np
import pyarrow as arrow
import pytest
import tiny
from click.testing import CliRunner
from pyarrow import parquet

from adapt.cli import main
from adapt.config.settings import Data
from adapt.data.datasets import check_labels, open_target
from adapt.data.domains import find_classes, open_labelled, open_source
from adapt.data.exports.huggingface import stored_bytes
from adapt.data.finding import find_labelled
from adapt.errors import InputError

TOOLS: list[tuple[Callable[[Path], Path], str, str, str]] = [
    (exports.cvat, "CVAT", "abc", "abc"),
    (exports.labelme_voc, "labelme", "abc", "abc"),
    (exports.roboflow, "Roboflow", "ab", "c"),
    (exports.labelme, "labelme", "abc", "abc"),
    (exports.supervisely, "Supervisely", "abc", "abc"),
    (json_exports.coco_instances, "COCO", "abc", "abc"),
    (json_exports.label_studio, "Label Studio", "abc", "abc"),
    (json_exports.label_studio_min, "Label Studio", "abc", "abc"),
    (json_exports.label_studio_png, "Label Studio", "abc", "abc"),
    (exports.ultralytics_masks, "Ultralytics", "ab", "c"),
    (exports.ultralytics_polygons, "Ultralytics", "ab", "c"),
    (exports.huggingface, "Hugging Face", "ab", "c"),
]
"""Tool, its name in messages, pictures for training and for evaluation."""


def counted(root: Path, split: str) -> dict[str, int]:
    """Pixels by the names of classes, as a training or an evaluation counts them."""
    classes = find_classes(root, None)
    data = (
        open_source(Data(source=(root,)), classes) if split == "train" else open_labelled(root, classes, None)
    )
    pixels = check_labels(data).class_pixels.sum(0)
    return {name: number for name, number in zip(classes.names, pixels.tolist(), strict=True) if number}


def starts(root: Path, out: Path) -> str:
    """One iteration of training from the folder as it is; what it said."""
    trees.picture(out / "target" / "a.png")
    settings = (*tiny.SETTINGS, "training.iterations=1", "method.balance=off")
    words = ["train", "-o", str(out / "run"), "--source", str(root), "--target", str(out / "target")]
    result = CliRunner().invoke(main, [*words, *(w for s in settings for w in ("--set", s))])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(("make", "tool", "train", "val"), TOOLS)
def test_an_export_is_read_as_it_is(make, tool, train, val, tmp_path):
    root = make(tmp_path / "export")
    assert counted(root, "train") == exports.counts(*train)
    assert counted(root, "val") == exports.counts(*val)
    assert f"in the layout of {tool}" in starts(root, tmp_path)


def test_voc_has_its_own_classes_and_lists(tmp_path):
    root = exports.voc(tmp_path / "voc")
    truth = exports.counts("a", "b")
    assert counted(root, "train") == {
        "background": truth["background"],
        "car": truth["car"],
        "tvmonitor": truth["road"],
    }
    assert len(open_labelled(root, find_classes(root, None), None)) == 1
    assert "left out 1 pictures without labels in SegmentationClass/" in starts(root, tmp_path)


@pytest.mark.parametrize("make", [json_exports.coco_stuff, json_exports.coco_panoptic])
def test_of_coco_what_has_no_segment_does_not_count(make, tmp_path):
    root = make(tmp_path / "coco")
    truth = exports.counts("a", "b")
    assert counted(root, "train") == {"car": truth["car"], "road": truth["road"]}
    assert counted(root, "val") == {"car": exports.counts("c")["car"]}
    assert "in the layout of COCO" in starts(root, tmp_path)


def test_a_saved_data_set_of_hugging_face(tmp_path):
    root = exports.huggingface(tmp_path / "x", saved=True)
    assert counted(root, "train") == exports.counts("a", "b") and counted(root, "val") == exports.counts("c")


def test_rows_of_pictures_are_a_target_too(tmp_path):
    root = exports.huggingface(tmp_path / "x")
    target = open_target([root], tmp_path / "cache", 1)
    assert len(target) == 2 and target[1].shape == (48, 64, 3)


def test_rows_are_read_by_many_threads_and_in_forked_readers(tmp_path):
    """Two threads in one Parquet file at once ended the process."""
    path = tmp_path / "many.parquet"
    cells = [{"bytes": bytes([number]) * 20_000, "path": None} for number in range(64)]
    parquet.write_table(arrow.table({"image": cells}), path, row_group_size=1)
    rows = [path / "image" / f"{number:06}" for number in range(64)] * 20
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(stored_bytes, rows))
    assert found == [cells[int(row.name)]["bytes"] for row in rows]
    with ProcessPoolExecutor(2, get_context("fork")) as readers:
        assert list(readers.map(stored_bytes, rows[:64], timeout=60)) == [cell["bytes"] for cell in cells]


def test_ade20k_does_not_count_what_is_none_of_its_classes(tmp_path):
    root = exports.ade20k(tmp_path / "ade")
    truth = exports.counts("a", "b")
    assert counted(root, "train") == {"car": truth["car"], "road": truth["road"]}
    assert counted(root, "val") == {"car": exports.counts("c")["car"]}
    assert "in the layout of ADE20K" in starts(root, tmp_path)


def test_tasks_that_cannot_be_used_are_counted(tmp_path):
    root = json_exports.label_studio_min(tmp_path / "x")
    assert find_labelled(root, "train").note == "left out 1 tasks without any region"
    (root / "pictures" / "b.jpg").unlink()
    (root / "z.json").write_text('[{"id": 1, "image": "b.jpg", "label": [{"brushlabels": ["x"]}]}]')
    assert find_labelled(root, "train").note == (
        "left out 1 tasks whose pictures are not there and 1 tasks without any region and the other exports "
        "z.json"
    )


def test_labelme_s_older_export(tmp_path):
    root = exports.labelme_voc(tmp_path / "x", "SegmentationClassPNG")
    assert counted(root, "train") == exports.counts("a", "b", "c")


def test_a_part_of_an_export_may_be_named(tmp_path):
    root = exports.roboflow(tmp_path / "x")
    assert counted(root / "valid", "train") == exports.counts("c")
    (root / "valid").rename(root / "more")
    with pytest.raises(InputError, match="none for 'val'"):
        open_labelled(root, find_classes(root, None), None)


def test_an_export_without_its_pictures_says_so(tmp_path):
    root = exports.cvat(tmp_path / "x")
    (root / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"no pictures with labels of the same names, in JPEGImages/"):
        find_classes(root, None)


def test_folders_called_as_voc_s_are_not_its_classes(tmp_path):
    """Without labelmap.txt, nothing says what CVAT's colours mean, and they are not VOC's."""
    root = exports.cvat(tmp_path / "x")
    (root / "labelmap.txt").unlink()
    found = find_labelled(root, "train")
    assert found.kind.classes is None and "VOC" not in found.layout.name
    with pytest.raises(InputError, match=r"has no class file.*adapt classes"):
        find_classes(root, None)


def test_labelme_s_files_find_their_pictures_in_another_folder(tmp_path):
    root = exports.labelme(tmp_path / "x")
    for folder, kind in (("photos", "jpg"), ("json", "json")):
        (root / folder).mkdir()
        for file in sorted(root.glob(f"*.{kind}")):
            content = file.read_text() if kind == "json" else ""
            file.rename(root / folder / file.name)
            if kind == "json":  # some versions write no size
                less = {k: v for k, v in json.loads(content).items() if not k.startswith("imageH")}
                (root / folder / file.name).write_text(json.dumps(less))
    assert counted(root, "train") == exports.counts("a", "b", "c")


def test_drawn_classes_are_told_by_name(tmp_path):
    """Whatever ids a class file gives them."""
    root = exports.supervisely(tmp_path / "x")
    (tmp_path / "own.yaml").write_text("classes: [{id: 9, name: road}, {id: 5, name: car}]")
    classes = find_classes(root, tmp_path / "own.yaml")
    report = check_labels(open_source(Data(source=(root,)), classes))
    truth = exports.counts("a", "b", "c")
    assert report.class_pixels.sum(0).tolist() == [truth["road"], truth["car"]]
    assert report.ignored.sum() == truth["background"]


def test_holes_of_polygons_stay_free():
    from adapt.data.exports.drawing import disc, fill, place

    ring = fill((20, 20), [exports.ring((2, 2, 18, 18)), exports.ring((6, 6, 10, 12))])
    assert ring.sum() == 16 * 16 - 4 * 6 and not ring[8, 8] and ring[3, 3]
    triangle = fill((100, 100), [[[0, 0], [100, 0], [0, 100]]])
    y, x = np.mgrid[:100, :100] + 0.5
    assert (triangle == (x + y < 100)).mean() > 0.99
    assert abs(int(disc((50, 50), (25, 25), 10).sum()) - np.pi * 100) < 10
    assert place(np.ones((4, 4), bool), (5, 5), -2, 3).sum() == 2 * 2
