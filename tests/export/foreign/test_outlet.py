"""Logits at a stride that is not whole, as 65 of 513 pixels: the file says what resized logits say."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from calibrated_models import call, images_of
from foreign_segmenters import write_pictures, write_segmenter

from export.fold.folded import graph_info
from export.foreign.convention import Told
from export.foreign.network import open_network
from serve import Segmenter

SIZE = (65, 97)
"""Of which the classifier's kernels of 4 pixels see 16 and 24."""


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    """Pictures of another size, which are brought to the model's."""
    return write_pictures(tmp_path_factory.mktemp("footage"), count=3, size=(80, 112))


@pytest.mark.parametrize(("layout", "opset"), [("NCHW", 18), ("NHWC", 18), ("NCHW", 11)])
def test_labels_without_correction_are_those_of_resized_logits(layout, opset, footage, tmp_path):
    model = write_segmenter(tmp_path / "model.onnx", inside=1, size=SIZE, out_layout=layout, opset=opset)
    out = tmp_path / "out.onnx"
    said = call("balance", model, "--target", footage / "images", "--tau", 0, "-o", out)
    assert said.exit_code == 0, said.output
    assert "at stride 1, brought to the picture's 65x97 from a stride not whole" in said.output
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    deployed = Segmenter(out)
    for image in images_of(footage):
        small = image[: SIZE[0], : SIZE[1]]  # its own size, so that nothing is resized on the way
        pixels = (small / 255).astype(np.float32).transpose(2, 0, 1)[None]
        logits = session.run(None, {"picture": pixels})[0]
        logits = logits if layout == "NCHW" else logits.transpose(0, 3, 1, 2)
        full = torch.nn.functional.interpolate(torch.from_numpy(logits), size=SIZE, mode="bilinear")
        assert (deployed(small).labels == full.argmax(1)[0].numpy()).mean() > 0.999


def test_it_is_corrected_and_checked_as_any_other(footage, tmp_path):
    model = write_segmenter(tmp_path / "model.onnx", inside=1, size=SIZE)
    out = tmp_path / "out.onnx"
    names = ("--classes", footage / "classes.yaml")
    said = call("balance", model, "--target", footage / "images", *names, "--tau", 1, "-o", out)
    assert said.exit_code == 0 and "passed: against" in said.output, said.output
    card = graph_info(onnx.load(out), "").card
    assert (card.size, card.stride, card.output_stride) == (SIZE, 1, 1)
    assert call("verify", out, "--data", footage / "images").exit_code == 0


def test_a_model_of_any_size_is_tried_at_the_one_that_is_given(tmp_path):
    """Its own Reshape takes no multiple of a stride, only sides of a multiple and one."""
    model = onnx.load(write_segmenter(tmp_path / "model.onnx", inside=1))
    shape = onnx.numpy_helper.from_array(np.array([0, 4, 16, 24]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("Reshape", [model.graph.output[0].name, "shape"], ["last"]))
    model.graph.output[0].name = "last"
    onnx.save(model, tmp_path / "model.onnx")
    opened = open_network(tmp_path / "model.onnx", Told(size=SIZE), None)
    assert (
        opened.outlet.resized == SIZE and opened.logits(np.zeros((1, *SIZE, 3), np.uint8)).shape[2:] == SIZE
    )
