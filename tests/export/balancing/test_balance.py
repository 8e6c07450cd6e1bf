"""One command from somebody's model and footage to a balanced file: what calibrate and onnx --stats give."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from calibrated_models import NORMALISED, call, images_of, oracle_logits
from foreign_segmenters import NAMES, write_pictures, write_segmenter
from onnx import TensorProto

import export.balancing.balance
import export.balancing.strength
from export.balancing.seen import shown
from export.fold.folded import graph_info
from export.pipeline import export_onnx
from serve import Segmenter


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("footage"))


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("labelled"), seed=1)


@pytest.fixture(scope="module")
def made(footage, tmp_path_factory) -> tuple[Path, Path, str]:
    """Somebody's model, the balanced file and what the command said."""
    place = tmp_path_factory.mktemp("made")
    model = write_segmenter(place / "theirs.onnx")
    names = ("--classes", footage / "classes.yaml")
    result = call(
        "balance", model, "--target", footage / "images", *NORMALISED, *names, "-o", place / "b.onnx"
    )
    assert result.exit_code == 0, result.output
    return model, place / "b.onnx", result.output


def refused(*arguments: object) -> str:
    result = call("balance", *arguments)
    assert result.exit_code == 2, result.output
    return result.output.split("Error: ")[-1]


def test_the_file_is_the_one_of_calibrate_and_onnx_with_its_statistics(made, footage, tmp_path):
    model, balanced, _ = made
    stats, twin = tmp_path / "stats.safetensors", tmp_path / "twin.onnx"
    names = ("--classes", footage / "classes.yaml")
    first = call("calibrate", model, "--target", footage / "images", *NORMALISED, *names, "-o", stats)
    assert first.exit_code == 0, first.output
    (tmp_path / "the footage").mkdir()  # the folder's name is in the file
    for number in shown(6):
        shutil.copy(footage / "images" / f"{number}.png", tmp_path / "the footage")
    second = call("onnx", model, "--stats", stats, "--data", tmp_path / "the footage", "-o", twin)
    assert second.exit_code == 0, second.output
    assert balanced.read_bytes() == twin.read_bytes()


def test_what_was_found_is_said_in_five_lines(made):
    lines = re.findall(r"^  (kind|classes|pictures|normalisation|logits): +(.+)$", made[2], re.M)
    assert [name for name, _ in lines] == ["kind", "classes", "pictures", "normalisation", "logits"]
    kind, classes, pictures, normalisation, logits = (words for _, words in lines)
    assert kind.startswith("ONNX, opset 18") and "196 weights" in kind
    assert classes == "4: ground, sky, wall, sign (classes.yaml)"
    assert pictures == "any size, sides padded to multiples of 32, RGB, NCHW"
    assert normalisation == "mean 0.4,0.5,0.6, std 0.2,0.25,0.3 (normalisation as given)"
    assert logits == "value0, NCHW, at stride 4"


def test_it_says_what_changes_and_what_comes_next(made, footage, tmp_path):
    _, balanced, said = made
    card = graph_info(onnx.load(balanced), "").correction
    assert card.tau == 0.5 and "tau 0.5, the default for models that were not adapted" in said
    assert "passed: against theirs.onnx itself" in said
    assert "on 6 pictures of the footage" in said
    assert f"blda serve video {balanced} VIDEO -o video.mp4" in said
    shares = {name: (float(a), float(b)) for name, a, b in re.findall(r"(\w+) ([\d.]+) -> ([\d.]+) %", said)}
    scored = tmp_path / "scored.onnx"
    assert call("onnx", balanced, "--tau", 0.5, "--scores", "--data", footage, "-o", scored).exit_code == 0
    deployed, images = Segmenter(scored), images_of(footage)
    plain = np.stack([oracle_logits(image).argmax(0) for image in images])
    corrected = np.stack([deployed(image, extras=True).scores.argmax(0) for image in images])
    for name, (before, after) in shares.items():
        assert before == pytest.approx(100 * (plain == NAMES.index(name)).mean(), abs=0.1)
        assert after == pytest.approx(100 * (corrected == NAMES.index(name)).mean(), abs=0.1)
    changed = float(re.search(r"([\d.]+) % of the labels change", said)[1])
    assert changed == pytest.approx(100 * (plain != corrected).mean(), rel=0.05)
    assert len(shares) == 3


def test_the_page_holds_everything_and_fetches_nothing(made, footage):
    page = made[1].with_suffix(".html").read_text()
    assert not re.search(r"(src|href)=[\"'](?!data:|#)|<script|@import|url\(", page)
    for title in ("What was found", "Class shares", "Shifts", "Pictures of the footage", "What to do next"):
        assert title in page
    assert page.count('<img src="data:image/jpeg') == 4 and page.count('<img src="data:image/png') == 8
    rows = re.findall(r'<th scope="row">(\w+)</th><td>([\d.]+)</td><td>([\d.]+)</td>', page)
    assert [row[0] for row in rows] == list(NAMES)
    for column in (1, 2):
        assert sum(float(row[column]) for row in rows) == pytest.approx(100, abs=0.05)
    assert page.count('class="chart"') == 4
    assert "Every class was seen often enough to be corrected." in page


def test_labels_choose_the_strength_and_give_a_table(footage, few, made, tmp_path):
    model = made[0]
    out = tmp_path / "out.onnx"
    names = ("--classes", footage / "classes.yaml")
    result = call(
        "balance", model, "--target", footage / "images", *NORMALISED, *names, "--labels", few, "-o", out
    )
    assert result.exit_code == 0, result.output
    said = re.search(
        r"strength: best for mIoU here: tau ([\d.]+) \(\+[\d.]+ points over tau 0, .*\): better",
        result.output,
    )
    assert said, result.output
    assert graph_info(onnx.load(out), "").correction.tau == float(said[1])
    scores = tmp_path / "scores.json"
    assert call("eval", out, "--data", few, "--json", scores).exit_code == 0
    mean = json.loads(scores.read_text())["tau"][said[1]]["mean_iou"]
    shown = re.search(r"^mIoU +([\d.]+) +([\d.]+)$", result.output, re.M)
    assert float(shown[2]) == pytest.approx(100 * mean, abs=0.06) and float(shown[2]) > float(shown[1]) + 1
    assert "On labelled pictures" in out.with_suffix(".html").read_text()


def test_labels_that_prove_nothing_leave_the_default(footage, few, made, tmp_path, monkeypatch):
    monkeypatch.setattr(export.balancing.strength, "DEFAULT_TAU", 0.1)  # too weak for this model
    two = tmp_path / "two"
    for part in ("images", "labels"):
        (two / part).mkdir(parents=True)
        for name in ("0.png", "1.png"):
            (two / part / name).write_bytes((few / part / name).read_bytes())
    names = ("--classes", footage / "classes.yaml")
    out = tmp_path / "out.onnx"
    result = call(
        "balance", made[0], "--target", footage / "images", *NORMALISED, *names, "--labels", two, "-o", out
    )
    assert result.exit_code == 0, result.output
    assert "2 labelled pictures are too few to tell that from noise; so the default, tau 0.1" in result.output
    assert graph_info(onnx.load(out), "").correction.tau == 0.1


def test_without_strength_labels_are_the_models_own(footage, made, tmp_path):
    out, page = tmp_path / "out.onnx", tmp_path / "other.html"
    result = call(
        *("balance", made[0], "--target", footage / "images", *NORMALISED, "--tau", 0),
        *("-o", out, "--report", page),
    )
    assert result.exit_code == 0, result.output
    assert "  0 % of the labels change\n" in result.output and "strength 0 was chosen" in page.read_text()
    assert "classes:       4: class0, class1, class2, class3 (no names found: give --classes" in result.output
    assert not out.with_suffix(".html").exists()


def test_a_model_with_its_own_names_a_softmax_and_footage_of_both_kinds(footage, tmp_path):
    model = write_segmenter(tmp_path / "model.onnx", tail="Softmax", inside=255, dtype=TensorProto.UINT8)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(NAMES))}))
    clip, out = film(footage, tmp_path / "clip.mp4"), tmp_path / "out.onnx"
    result = call(
        "balance", model, "--target", clip, "--target", footage / "images", "--frames", 3, "-o", out
    )
    assert result.exit_code == 0, result.output
    assert "on 9 pictures" in result.output and "(config.json beside it)" in result.output
    assert graph_info(onnx.load(out), "").card.classes == NAMES


def film(footage: Path, path: Path) -> Path:
    images = images_of(footage)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 6, images[0].shape[1::-1])
    for image in images:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    return path


def test_a_class_that_is_never_named_is_said_to_stay(footage, tmp_path):
    model = onnx.load(write_segmenter(tmp_path / "model.onnx", inside=1))
    bias = next(t for t in model.graph.initializer if t.dims == [4])
    lost = onnx.numpy_helper.to_array(bias) - np.array([0, 0, 0, 30], np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(lost, bias.name))
    onnx.save(model, tmp_path / "model.onnx")
    out = tmp_path / "out.onnx"
    result = call("balance", tmp_path / "model.onnx", "--target", footage / "images", "-o", out)
    assert result.exit_code == 0, result.output
    assert "not corrected: class3: the model never says it on this footage" in result.output
    assert "the model never says it" in out.with_suffix(".html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "{place}/b.pt"), "a name that ends in .onnx"),
        (("-o", "{model}", "--force"), "itself, which is read"),
        (("-o", "{place}/b.onnx", "--report", "{place}/b.pdf"), "ends in .html"),
        (("-o", "{place}/b.onnx", "--tau", 3), "must lie in [0, 2]"),
        (("-o", "{place}/b.onnx", "--labels", "{place}"), "{place}"),
        (("-o", "{place}/b.onnx", "--range", 255), "belong together"),
        (("-o", "{place}/b.onnx", "--classes", "{place}/none.yaml"), "no class file"),
        (("-o", "{place}/there.onnx"), "--force"),
    ],
)
def test_refusals_come_before_the_footage_is_read(footage, tmp_path, options, message):
    model = write_segmenter(tmp_path / "model.onnx", inside=1)
    (tmp_path / "there.html").write_text("precious")
    before = sorted(tmp_path.iterdir())
    words = [str(o).format(place=tmp_path, model=model) for o in options]
    said = refused(model, "--target", footage / "images", *words)
    assert message.format(place=tmp_path) in said and "[2/5]" not in said
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "there.html").read_text() == "precious"


def test_what_a_file_leaves_open_is_asked_in_one_message(footage, tmp_path):
    target = ("--target", footage / "images", "-o", tmp_path / "out.onnx")
    both = refused(write_segmenter(tmp_path / "both.onnx", tail="two"), *target)
    assert both.startswith("the file leaves two things open:\n  1. ")
    assert "--output" in both.splitlines()[1] and "--mean" in both.splitlines()[2]
    one = refused(write_segmenter(tmp_path / "one.onnx"), *target)
    assert one.startswith("how ") and "--mean 0.485,0.456,0.406" in one
    answered = call("balance", tmp_path / "both.onnx", *target, *NORMALISED, "--output", "value0")
    assert answered.exit_code == 0, answered.output


def test_a_graph_that_can_not_be_folded_is_said_before_the_footage_is_read(footage, tmp_path):
    old = write_segmenter(tmp_path / "old.onnx", opset=6, inside=1)
    result = call("balance", old, "--target", footage / "images", "-o", tmp_path / "out.onnx")
    assert result.exit_code == 2 and "opset 6, the least" in result.output and "[2/5]" not in result.output


@pytest.mark.parametrize("step", ["calibrate_on", "choose_strength", "export_onnx"])
def test_interrupted_it_leaves_nothing(footage, tmp_path, monkeypatch, step):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    model = write_segmenter(tmp_path / "model.onnx", inside=1)
    monkeypatch.setattr(export.balancing.balance, step, interrupted)
    result = call("balance", model, "--target", footage / "images", "-o", tmp_path / "out.onnx")
    assert result.exit_code not in (0, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_of_ours_is_balanced_for_other_footage(made, few, tmp_path):
    out = tmp_path / "out.onnx"
    result = call("balance", made[1], "--target", few / "images", "-o", out)
    assert result.exit_code == 0, result.output
    assert "(its card)" in result.output and "(preprocessing of its card)" in result.output
    assert graph_info(onnx.load(out), "").correction.statistics.startswith("6 pictures of images")


def test_class_files_of_another_length_are_refused(footage, tmp_path):
    model = write_segmenter(tmp_path / "model.onnx", inside=1)
    rows = [{"id": c, "name": f"c{c}", "color": [c, 0, 0]} for c in range(5)]
    (tmp_path / "five.yaml").write_text(yaml.safe_dump({"classes": rows}))
    said = refused(
        *(
            model,
            "--target",
            footage / "images",
            "--classes",
            tmp_path / "five.yaml",
            "-o",
            tmp_path / "o.onnx",
        )
    )
    assert "has 5 classes, but" in said


def test_of_many_classes_the_middle_rows_are_checked(tmp_path, monkeypatch):
    seen, footage = [], write_pictures(tmp_path / "high", size=(128, 96))

    def watched(*arguments, data, **options):
        seen.extend(cv2.imread(str(path)) for path in sorted(data.iterdir()))
        return export_onnx(*arguments, data=data, **options)

    monkeypatch.setattr(export.balancing.balance, "CHECKED_WORK", 1)
    monkeypatch.setattr(export.balancing.balance, "CHECKED_ROWS", 64)
    monkeypatch.setattr(export.balancing.balance, "export_onnx", watched)
    model = write_segmenter(tmp_path / "theirs.onnx")
    out = tmp_path / "b.onnx"
    result = call("balance", model, "--target", footage / "images", *NORMALISED, "-o", out)
    assert result.exit_code == 0, result.output
    pictures = images_of(footage)
    for number, rows in zip(shown(len(pictures)), seen, strict=True):
        np.testing.assert_array_equal(rows[..., ::-1], pictures[number][32:96])
