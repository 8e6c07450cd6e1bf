"""Pictures and labels that a person points at, damaged labels, and drafts of class files."""

from pathlib import Path

import cv2
import dataset_trees as trees
import export_trees as exports
import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result
from refusals import expect_refusal

from adapt.cli import main
from adapt.config.settings import Data
from adapt.data.classes import ClassList, load_classes
from adapt.data.datasets import check_labels
from adapt.data.domains import find_classes, find_source, open_source
from adapt.data.finding import find_labelled
from adapt.data.layouts.given import Given, find_given
from adapt.data.values.drafts import draft
from adapt.data.values.repair import describe_damage
from adapt.errors import InputError
from adapt.run.run import load_run

CLASSES = "classes: [{id: 0, name: background}, {id: 1, name: car}, {id: 2, name: road}]"
COLOURS = ClassList(exports.NAMES, (0, 1, 2), tuple(exports.COLORS[name] for name in exports.NAMES))


def odd(root: Path) -> Path:
    """A layout that nothing tells: cam/, and truth/ and older/ with names that end in -z."""
    for stem in "abc":
        trees.picture(root / "cam" / "day" / f"{stem}.jpg")
        trees.write(root / "truth" / "day" / f"{stem}-z.png", exports.truth(stem))
        trees.write(root / "older" / "day" / f"{stem}-z.png", trees.blocks([0, 1]).astype(np.uint8))
    (root / "classes.yaml").write_text(CLASSES)
    return root


def train(root: Path, out: Path, *words: str) -> Result:
    trees.picture(out / "target" / "x.png")
    given = ["train", "-o", str(out / "run"), "--source", str(root), "--target", str(out / "target"), *words]
    settings = (*tiny.SETTINGS, "training.iterations=1", "method.balance=off")
    return CliRunner().invoke(main, [*given, *(word for s in settings for word in ("--set", s))])


def test_patterns_on_the_command_line_are_kept_in_the_run(tmp_path):
    root = odd(tmp_path / "data")
    refused = "cam/ with labels in older/ or as cam/ with labels in truth/; say which, such as --images"
    expect_refusal(train(root, tmp_path / "x"), refused)
    words = ("--images", "cam/**/*.jpg", "--labels", "truth/**/*.png", "--label-suffix", "-z")
    result = train(root, tmp_path, *words)
    assert result.exit_code == 0, result.output
    assert "day/ holds 3 files named X-z.png; taken as labels of X.jpg" in result.output
    data = load_run(tmp_path / "run").config.data
    assert (data.images, data.labels, data.label_suffix) == ("cam/**/*.jpg", "truth/**/*.png", "-z")
    pixels = np.load(tmp_path / "run" / "class_pixels.npy").sum(0)
    assert dict(zip(exports.NAMES, pixels.tolist(), strict=True)) == exports.counts("a", "b", "c")


def test_a_layout_file_of_four_lines(tmp_path):
    root = odd(tmp_path)
    (root / "classes.yaml").rename(root / "names.yml")
    (root / "layout.yaml").write_text(
        "images: cam/**/*.jpg\nlabels: truth/**/*.png\nlabel_suffix: -z\nclasses: names.yml\n"
    )
    assert find_classes(root, None).names == exports.NAMES
    assert len(find_labelled(root, "val").images) == 3
    (root / "layout.yaml").write_text("pictures: cam/*.jpg\n")
    with pytest.raises(InputError, match=r"layout\.yaml must have lines of images, labels"):
        find_labelled(root, "train")


def test_a_split_in_a_pattern(tmp_path):
    for split in ("train", "val"):
        trees.picture(tmp_path / "cam" / split / f"{split}.jpg")
        trees.write(tmp_path / "truth" / split / f"{split}.png", exports.truth("a"))
    given = Given("cam/{split}/*.jpg", "truth/{split}/*.png")
    assert [path.stem for path in find_given(tmp_path, given, "val").labels] == ["val"]


def test_the_suffix_alone_is_enough_where_labels_lie_beside(tmp_path):
    for stem in "ab":
        trees.picture(tmp_path / f"{stem}.jpg")
        trees.write(tmp_path / f"{stem}_q.png", exports.truth(stem))
    found = find_given(tmp_path, Given(label_suffix="_q"), "train")
    assert [path.name for path in found.images] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Given("cam/**/*.jpg"), "leaves open which files are labels"),
        (Given("x/*.jpg", "truth/**/*.png"), "finds no picture file"),
        (Given(None, "/abs/*.png"), "must be a pattern below the folder"),
        (Given("cam/**/*.jpg", "truth/**/*.png", "_mask"), "none belong together by name"),
        (Given("cam/**/*.jpg", "truth/**/a*.png"), "2 of 3 pictures have no label file"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(given, words, tmp_path):
    with pytest.raises(InputError, match=words):
        find_given(odd(tmp_path), given, "train")


def test_patterns_are_for_one_source(tmp_path):
    with pytest.raises(InputError, match=r"layout\.yaml"):
        find_source(Data(source=(tmp_path, tmp_path), label_suffix="_mask"))


# --- labels that were resized or compressed


def damaged(root: Path) -> Path:
    """Coloured labels as JPEG."""
    for stem in "abc":
        trees.picture(root / "images" / f"{stem}.png")
        path = root / "labels" / f"{stem}.jpg"
        path.parent.mkdir(exist_ok=True)
        image = np.ascontiguousarray(exports.rgb(stem)[..., ::-1])
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 75])
    lines = [f"  - {{name: {name}, color: {list(color)}}}" for name, color in exports.COLORS.items()]
    (root / "classes.yaml").write_text("\n".join(["classes:", *lines]) + "\n")
    return root


def test_jpeg_labels_are_repaired_when_asked_for(tmp_path):
    root = damaged(tmp_path / "data")
    expect_refusal(train(root, tmp_path / "x"), "lossy", "--repair-labels nearest")
    result = train(root, tmp_path, "--repair-labels", "nearest")
    assert result.exit_code == 0, result.output
    data = load_run(tmp_path / "run").config.data
    assert data.repair_labels == "nearest"
    source = open_source(data, load_classes(root / "classes.yaml"))
    for index, stem in enumerate("abc"):
        labels = source[index].labels
        sure = labels != 255
        assert sure.mean() > 0.9 and (labels[sure] == exports.truth(stem)[sure]).mean() > 0.99


def test_an_exact_colour_keeps_its_meaning_and_a_far_one_does_not_count():
    code = COLOURS.code.repaired()
    colours = np.array([[(128, 0, 64), (120, 10, 60), (128, 48, 64), (128, 49, 64), (10, 10, 10)]], np.uint8)
    assert code.encode(colours).tolist() == [[1, 1, 1, 255, 0]]


def test_damage_is_told_from_other_mistakes():
    rng = np.random.default_rng(0)
    noisy = (exports.rgb("a").astype(int) + rng.integers(0, 9, (48, 64, 3))).clip(0, 255).astype(np.uint8)
    assert "--repair-labels nearest" in str(describe_damage([noisy], COLOURS.code))
    assert describe_damage([np.full((9, 9, 3), 200, np.uint8)], COLOURS.code) is None
    edges = np.repeat(np.array([[0, 0, 3, 7, 7]], np.uint8), 5, axis=0)
    ids = ClassList(("a", "b"), (0, 7), ((1, 1, 1), (2, 2, 2))).code
    assert "resizing by averaging" in str(describe_damage([edges], ids))
    assert describe_damage([np.array([[0, 7, 3, 3, 3]], np.uint8)], ids) is None


# --- drafts


def test_a_draft_has_every_value_with_its_share(tmp_path):
    root = odd(tmp_path)
    found = find_given(root, Given("cam/**/*.jpg", "truth/**/*.png"), "train")
    text = draft(found)
    (tmp_path / "draft.yaml").write_text(text)
    assert sorted(load_classes(tmp_path / "draft.yaml").ids) == [0, 1, 2]
    share = 100 * exports.counts("a", "b", "c")["road"] / (3 * 48 * 64)
    assert f'{{id: 2, name: "class 2"}}  # {share:.2f} % of the pixels' in text


def test_a_draft_takes_names_from_the_tool_or_from_a_known_list(tmp_path):
    text = draft(find_labelled(exports.roboflow(tmp_path / "r"), "train"))
    assert "name: road" in text and "names from Roboflow" in text
    result = CliRunner().invoke(main, ["classes", str(trees.gta5(tmp_path / "gta5"))])
    assert result.exit_code == 0 and "{id: 7, name: road}" in result.output and "guess" in result.output
    assert "ignore: [34]" in result.output


def test_a_draft_of_colours(tmp_path):
    for stem in "ab":
        trees.picture(tmp_path / "images" / f"{stem}.png")
        trees.write(tmp_path / "labels" / f"{stem}.png", exports.rgb(stem))
    text = draft(find_labelled(tmp_path, "train"))
    (tmp_path / "classes.yaml").write_text(text)
    classes = find_classes(tmp_path, None)
    assert set(classes.palette) == set(exports.COLORS.values())
    check_labels(open_source(Data(source=(tmp_path,)), classes))


def test_a_draft_keeps_all_values_of_a_class(tmp_path):
    root = exports.ultralytics_masks(tmp_path / "u")
    label = root / "masks" / "train" / "a.png"
    trees.write(label, np.array([0, 5, 9], np.uint8)[exports.truth("a")])  # b has 6 for the same class
    text = draft(find_labelled(root, "train"))
    assert "{id: 9, name: road}" in text and "ignore: []" in text
    trees.write(root / "masks" / "train" / "b.png", np.array([0, 6, 9], np.uint8)[exports.truth("a")])
    assert "name: car}" in (text := draft(find_labelled(root, "train"))) and "[5, 6]" in text


def test_a_draft_of_a_renamed_export_has_its_names(tmp_path):
    root = exports.cvat(tmp_path / "x")
    (root / "JPEGImages").rename(root / "fotos")
    (root / "ImageSets" / "Segmentation" / "default.txt").unlink()
    (root / "ImageSets" / "Segmentation").rmdir()
    (root / "SegmentationClass").rename(root / "Masken")
    text = draft(find_labelled(root, "train"))
    assert "# names from the file that a tool left there" in text and "name: road}" in text


def test_values_that_are_no_classes_get_no_draft(tmp_path):
    trees.picture(tmp_path / "images" / "a.png")
    trees.picture(tmp_path / "labels" / "a.png")
    with pytest.raises(InputError, match="so they are no classes"):
        draft(find_labelled(tmp_path, "train"))
