"""TensorRT for RTX builds the graphs of the other hosts' networks too, ahead of time.

Every precision of one, and one of each other; the other pairs take too long for every day.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from encoders import NETWORKS
from engines import PROFILE, RTX, converted, needs_tensorrt
from onnx_segmenters import card, statistics

from adapt.config.settings import Model
from adapt.model.build import build
from export.deploy.tensorrt import build_engine
from export.fold.fold import Extras, Strength, fold
from export.sources.network import logits_graph

pytestmark = needs_tensorrt


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *(("deeplabv2", "fp32"), ("deeplabv2", "fp16"), ("deeplabv2", "int8")),
        *(("dinov2", "fp16"), ("dinov3", "fp16"), ("hrda", "fp16")),
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
