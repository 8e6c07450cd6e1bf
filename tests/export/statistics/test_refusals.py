"""What cannot be calibrated or folded is refused in one sentence, and nothing is left behind."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from calibrated_models import NORMALISED, calibrated, call
from foreign_segmenters import write_pictures, write_segmenter
from onnx import helper

from export.statistics.gather import MIN_PIXELS


def refused(model: Path, target: Path, *options: object) -> str:
    """The one sentence; nothing may be left behind."""
    out = model.parent / "stats.safetensors"
    result = call("calibrate", model, "--target", target, *options, "-o", out)
    assert result.exit_code == 2, result.output
    assert not list(model.parent.glob("*stats*"))
    return result.output.split("Error: ")[-1]


def test_what_is_no_usable_graph_is_named(target, tmp_path):
    (tmp_path / "text.onnx").write_text("not a graph")
    (tmp_path / "empty.onnx").write_bytes(b"")
    whole = write_segmenter(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[:-100])
    assert "is not an ONNX file" in refused(tmp_path / "text.onnx", target)
    assert "is not an ONNX file" in refused(tmp_path / "empty.onnx", target)
    assert "cut off" in refused(tmp_path / "cut.onnx", target)
    assert "does not exist" in refused(tmp_path / "nowhere.onnx", target)
    assert "adapt statistics" in refused(target, target)


def test_missing_external_data_is_named(target, tmp_path):
    model = onnx.load(write_segmenter(tmp_path / "model.onnx"))
    onnx.save(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    calibrated(tmp_path / "model.onnx", target, *NORMALISED).unlink()  # whole, it works
    (tmp_path / "weights.bin").unlink()
    assert "weights in weights.bin, which can't be read" in refused(
        tmp_path / "model.onnx", target, *NORMALISED
    )


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({}, (), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        ({}, ("--mean", 0.5), "belong together"),
        ({}, ("--range", 255), "belong together"),
        ({}, ("--mean", "0.5,0.5", "--std", 1), "neither one number nor three"),
        ({}, ("--mean", 0.5, "--std", 0), "is above 0"),
        (
            {},
            ("--mean", "123.675,116.28,103.53", "--std", 58),
            "--mean is 123.675, but pixels are from 0 to 1",
        ),
        ({}, ("--mean", 0.5, "--std", 0.2, "--range", 255), "leave --range 255 out"),
        ({"tail": "two"}, NORMALISED, "several outputs that may be logits: value0 (float [n, a, b, c])"),
        ({}, (*NORMALISED, "--output", "nothing"), "has no value 'nothing'"),
        ({"size": (64, 96)}, (*NORMALISED, "--size", "32x32"), "takes only 64x96"),
        ({}, (*NORMALISED, "--layout", "NHWC"), "has no 3 channels as NHWC: its input is picture"),
        ({"size": (64, 96), "batch": 2}, NORMALISED, "takes 2 pictures at once only"),
        ({}, (*NORMALISED, "--source", "{target}/images"), "name one with --classes"),
        ({}, (*NORMALISED, "--classes", "{five}"), "has 5 classes, but"),
        ({}, (*NORMALISED, "--classes", "nowhere.yaml"), "no class file"),
    ],
)
def test_bad_options_are_one_sentence(target, tmp_path, settings, options, message):
    model = write_segmenter(tmp_path / "model.onnx", **settings)
    five = tmp_path / "five.yaml"
    five.write_text(
        "classes:\n" + "".join(f"  - {{id: {c}, name: c{c}, color: [{c}, 0, 0]}}\n" for c in range(5))
    )
    source = write_pictures(tmp_path / "no_classes", count=1)
    (source / "classes.yaml").unlink()
    words = [str(o).replace("{target}/images", str(source)).replace("{five}", str(five)) for o in options]
    assert message in refused(model, target, *words)


def test_a_target_without_a_usable_pixel_is_refused(target, tmp_path):
    model = write_segmenter(tmp_path / "model.onnx")
    broken = onnx.load(model)
    bias = next(t for t in broken.graph.initializer if t.dims == [4])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(4, np.nan, np.float32), bias.name))
    onnx.save(broken, model)
    assert "no usable pixel" in refused(model, target, *NORMALISED)
    (tmp_path / "none").mkdir()
    assert "holds no images" in refused(model, tmp_path / "none", *NORMALISED)
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    cv2.imwrite(str(tiny / "a.png"), np.zeros((16, 16, 3), np.uint8))
    healthy = write_segmenter(tmp_path / "healthy.onnx")
    assert f"no class {MIN_PIXELS} logit pixels" in refused(healthy, tiny, *NORMALISED)


def test_probabilities_that_hide_their_softmax_are_refused(target, tmp_path):
    model = onnx.load(write_segmenter(tmp_path / "model.onnx", tail="Softmax"))
    model.graph.node.append(helper.make_node("Clip", [model.graph.output[0].name, "low", "high"], ["kept"]))
    ends = {"low": np.float32(1e-7), "high": np.float32(1)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in ends.items())
    model.graph.output[0].name = "kept"
    onnx.save(model, tmp_path / "model.onnx")
    assert "holds probabilities" in refused(tmp_path / "model.onnx", target, *NORMALISED)


def test_what_does_not_fit_together_is_not_folded(plain, target, tmp_path):
    model, stats, _ = plain
    out = tmp_path / "out.onnx"

    def sentence(*words: object) -> str:
        result = call("onnx", *words, "-o", out)
        assert result.exit_code == 2 and not out.exists(), result.output
        return result.output

    more = onnx.load(write_segmenter(tmp_path / "more.onnx"))
    doubled = helper.make_node("Concat", ["value0", "value0"], ["value1"], axis=1)
    more.graph.node.append(doubled)
    more.graph.output[0].name = "value1"
    more.graph.node[0].output[0] = "value0"
    onnx.save(more, tmp_path / "more.onnx")
    eight = calibrated(tmp_path / "more.onnx", target, *NORMALISED)
    assert "statistics of 8 classes (of more.onnx)" in sentence(plain[2], "--stats", eight)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(stats.read_bytes()[:-10])
    assert "not a whole safetensors file" in sentence(model, "--stats", cut)
    altered = tmp_path / "altered.safetensors"
    altered.write_bytes(stats.read_bytes().replace(b"intake", b"intakf"))
    assert "was altered" in sentence(model, "--stats", altered)
    newer = tmp_path / "newer.safetensors"
    newer.write_bytes(stats.read_bytes().replace(b'format\\": 1', b'format\\": 9'))
    assert "format 9" in sentence(model, "--stats", newer)
    assert "does not exist" in sentence(model, "--stats", tmp_path / "nowhere")
    fixed = write_segmenter(tmp_path / "fixed.onnx", size=(64, 96))
    stats = calibrated(fixed, target, *NORMALISED)
    assert "takes only 64x96" in sentence(fixed, "--stats", stats, "--size", "128x128")


def test_an_existing_file_is_kept_unless_forced(plain, target, tmp_path):
    out = tmp_path / "stats.safetensors"
    out.write_text("precious")
    result = call("calibrate", plain[0], "--target", target, *NORMALISED, "-o", out)
    assert result.exit_code == 2 and "--force" in result.output and out.read_text() == "precious"
