"""The other hosts' networks as logits graphs: the same logits as in training's room, at any size."""

import numpy as np
import onnxruntime
import pytest
import torch
from encoders import NETWORKS

from adapt.config.settings import Model
from adapt.model.build import build
from export.sources.network import logits_graph

SLOW = ("dinov2", "dinov3", "hrda")
"""What torch's exporter takes from a quarter of a minute to minutes for."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NETWORKS]
)
def test_logits_are_those_of_torch_at_any_size(name: str) -> None:
    torch.manual_seed(0)
    segmenter = build(Model.model_validate(NETWORKS[name] | {"width": 16}), 5).segmenter.eval()
    torch.nn.init.normal_(segmenter.classify.weight, std=1.0)
    session = onnxruntime.InferenceSession(
        logits_graph(segmenter).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for images, height, width in ((1, 3, 5), (2, 4, 4), (1, 6, 2)):
        pixels = torch.randn(images, 3, height * segmenter.stride, width * segmenter.stride)
        with torch.no_grad():
            expected = segmenter(pixels).numpy()
        assert np.ptp(expected) > 0.5
        np.testing.assert_allclose(session.run(None, {"pixels": pixels.numpy()})[0], expected, atol=1e-4)
