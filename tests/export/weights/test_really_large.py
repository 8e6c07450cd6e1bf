"""A file of more than 2 GB, as large as it says."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from calibrated_models import NORMALISED, call, images_of
from foreign_segmenters import write_pictures, write_segmenter
from onnx import TensorProto, helper, numpy_helper

from serve import Segmenter

ROWS, COLUMNS, ROW = 2100, 250_000, 3
"""Of a weight of 2.1 GB, and the row of it that counts."""


def write_large(path: Path) -> Path:
    """The classifier, with a number added to all logits that is looked up in a large weight."""
    model = onnx.load(write_segmenter(path))
    graph, name = model.graph, model.graph.output[0].name
    weight = TensorProto(name="large", data_type=TensorProto.FLOAT, dims=(ROWS, COLUMNS))
    weight.data_location = TensorProto.EXTERNAL
    length = 4 * ROWS * COLUMNS
    for key, value in (("location", "large.bin"), ("offset", "0"), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    with (path.parent / "large.bin").open("wb") as file:
        file.seek(4 * ROW * COLUMNS)
        file.write(np.full(COLUMNS, 3.0, np.float32).tobytes())
        file.truncate(length)
    graph.initializer.extend([weight, numpy_helper.from_array(np.array([ROW]), "row")])
    graph.node.extend(
        [
            helper.make_node("Gather", ["large", "row"], ["wide"]),
            helper.make_node("ReduceMean", ["wide"], ["number"], keepdims=1),
            helper.make_node("Add", [name, "number"], ["moved"]),
        ]
    )
    graph.output[0].name = "moved"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.slow
def test_more_than_2_gb_are_balanced_checked_and_run(tmp_path):
    footage = write_pictures(tmp_path / "footage")
    large, small = write_large(tmp_path / "large.onnx"), write_segmenter(tmp_path / "small.onnx")
    for model in (large, small):
        out = tmp_path / f"balanced-{model.name}"
        names = ("--classes", footage / "classes.yaml")
        result = call("balance", model, "--target", footage / "images", *NORMALISED, *names, "-o", out)
        assert result.exit_code == 0, result.output
    out = tmp_path / "balanced-large.onnx"
    (data,) = tmp_path.glob(f"{out.name}.*.data")
    assert out.stat().st_size < 2**20 and data.stat().st_size == 4 * ROWS * COLUMNS
    result = call("verify", out, "--data", footage / "images")
    assert result.exit_code == 0, result.output
    one, other = Segmenter(out), Segmenter(tmp_path / "balanced-small.onnx")
    same = [(one(image).labels == other(image).labels).mean() for image in images_of(footage)]
    assert min(same) > 0.999  # a number that is added to all logits changes no more than rounding
