"""Calibrating, folding and checking a model whose logits are larger, smaller or moved: the same, rescaled."""

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from calibrated_models import NORMALISED, calibrated, call, folded, images_of
from foreign_segmenters import write_segmenter
from onnx import numpy_helper

from adapt.balance.mixtures import cdf
from export.fold.folded import graph_info
from export.sources.statistics_file import read_statistics
from serve import Segmenter


def rescaled(path: Path, factor: float, offset: float, masked: float = 0.0) -> Path:
    """The classifier, its logits times `factor` and plus `offset`; the last class plus `masked`."""
    model = onnx.load(write_segmenter(path))
    kernel, bias = (t for t in model.graph.initializer if t.name.startswith("Conv"))
    kernel.CopyFrom(numpy_helper.from_array(factor * numpy_helper.to_array(kernel), kernel.name))
    moved = factor * numpy_helper.to_array(bias) + np.float32([offset] * 3 + [offset + masked])
    bias.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), bias.name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("factor", "offset"), [(0.05, 0.0), (5.0, 0.0), (20.0, 0.0), (1.0, 100.0)])
def test_from_calibration_to_labels_at_any_scale(plain, target, tmp_path, factor, offset):
    model = rescaled(tmp_path / "model.onnx", np.float32(factor), offset)
    stats = calibrated(model, target, *NORMALISED, "--classes", target / "classes.yaml")
    found, record = read_statistics(stats)
    expected, before = read_statistics(plain[1])
    assert np.abs(np.subtract(record.pixels, before.pixels)).max() <= 2, "labelled alike, but for rounding"
    z = torch.linspace(-12, 12, 121).expand(4, 4, 121)
    difference = cdf(found.rows, factor * z + offset) - cdf(expected.rows, z)
    assert float(difference.abs().max()) < 0.01
    ends = [factor * end + offset for end in expected.logit_range]
    assert found.logit_range == pytest.approx(ends, rel=1e-3)
    # The fold is checked when it is written, and by `verify`, against float64.
    file = folded(model, stats, "--data", target)
    checked = call("verify", file, "--data", target)
    assert checked.exit_code == 0, checked.output
    bound = graph_info(onnx.load(file), "").correction.error_bound
    assert bound <= 0.02 * max(1.0, factor)
    if factor == 1:
        fixed = Segmenter(plain[0].with_name("fixed.onnx"))
        other = Segmenter(file)
        same = [(fixed(p).labels == other(p).labels).mean() for p in images_of(target)]
        assert np.mean(same) > 0.999, "an offset changes no label"


@pytest.mark.parametrize("masked", [-np.inf, -1e9, -1e4])
def test_a_masked_class_is_told_and_the_others_are_balanced_as_if_it_were_not_there(target, tmp_path, masked):
    place = tmp_path / "masked"
    place.mkdir()
    model = rescaled(place / "model.onnx", np.float32(1), 0.0, masked=masked)
    stats = place / "masked.safetensors"
    arguments = (*NORMALISED, "--classes", target / "classes.yaml", "-o", stats)
    told = call("calibrate", model, "--target", target / "images", *arguments)
    assert told.exit_code == 0 and "masked (logits far below all others): sign" in told.output, told.output
    found, record = read_statistics(stats)
    assert record.outlet.masked == (masked <= -1e9)
    three = without_last(tmp_path / "three.onnx")
    expected, _ = read_statistics(calibrated(three, target, *NORMALISED))
    for mine, theirs in zip(found.rows, expected.rows, strict=True):
        torch.testing.assert_close(mine[:3, :3], theirs, rtol=1e-3, atol=1e-3)
    for mine, theirs in zip(found.anchors, expected.anchors, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)
    begin = time.process_time()
    file = folded(model, stats, "--data", target)
    assert time.process_time() - begin < 20, "its table is as large as of any other network"
    assert graph_info(onnx.load(file), "").correction.excluded == ("sign",)
    checked = call("verify", file, "--data", target)
    assert checked.exit_code == 0, checked.output
    ours, theirs = Segmenter(file), Segmenter(folded(three, three.with_suffix(".safetensors")))
    for picture in images_of(target):
        assert (ours(picture).labels == theirs(picture).labels).mean() > 0.999


def without_last(path: Path) -> Path:
    """The classifier of the first three classes."""
    model = onnx.load(write_segmenter(path))
    for tensor in [t for t in model.graph.initializer if t.name.startswith("Conv")]:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:3].copy(), tensor.name))
    onnx.save(model, path)
    return path
