"""TensorRT for RTX builds the graphs of the other hosts' networks too, ahead of time.

Every precision of one, and one of each other; the other pairs take too long for every day.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from encoders import NETWORKS
from engines import PROFILE, RTX, converted, needs_tensorrt
from foreign_segmenters import write_segmenter
from onnx_segmenters import card, statistics

from adapt.config.settings import Model
from adapt.model.build import build
from export.deploy.tensorrt import build_engine
from export.fold.fold import Extras, Strength, fold
from export.foreign.adapters import logits_graph_of
from export.foreign.convention import Told
from export.foreign.network import open_network
from export.sources.network import logits_graph

pytestmark = needs_tensorrt


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *(("deeplabv2", "fp32"), ("deeplabv2", "fp16"), ("deeplabv2", "int8")),
        ("dinov2", "fp16"),
        pytest.param("dinov3", "fp16", marks=pytest.mark.slow),
        pytest.param("hrda", "fp16", marks=pytest.mark.slow),
    ],
)
def test_builds_with_the_correction(name: str, precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    segmenter = build(Model.model_validate(NETWORKS[name] | {"width": 16}), 3).segmenter.eval()
    taken = replace(card(3), stride=segmenter.stride, output_stride=segmenter.output_stride)
    network = converted(logits_graph(segmenter), precision, tmp_path, taken)
    strength = Strength(statistics(3), "random", 0.5, True)
    model = fold(network, taken, strength, Extras(scores=True, uncorrected_labels=True))
    built = build_engine(model, tmp_path / "x.engine", PROFILE, RTX)
    assert built.operators[precision] >= 0.5 * sum(built.operators.values())
    assert built.size > 10_000


@pytest.mark.parametrize("padded", [False, True])
def test_builds_of_somebodys_uint8_pictures(padded: bool, tmp_path: Path) -> None:
    """TensorRT has no uint8 inside a graph: whole numbers in float take its place."""
    path = write_segmenter(tmp_path / "theirs.onnx", inside=255, dtype=onnx.TensorProto.UINT8)
    if padded:
        model = onnx.load(path)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(8, np.int64), "pads"))
        first = next(node for node in model.graph.node if "picture" in node.input)
        first.input[0] = "padded"
        model.graph.node.insert(0, onnx.helper.make_node("Pad", ["picture", "pads"], ["padded"]))
        onnx.save(model, path)
    network = open_network(path, Told(), None)
    assert network.outlet.classes == 4
    taken = replace(card(4), mean=network.intake.mean, std=network.intake.std, stride=network.outlet.stride)
    model = fold(logits_graph_of(network), taken, Strength(statistics(4), "random", 0.5))
    assert build_engine(model, tmp_path / "x.engine", PROFILE, RTX).size > 10_000
