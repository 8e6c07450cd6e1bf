"""What a graph should say: logits of its network, computed the slow way."""

from collections.abc import Callable

import numpy as np
import onnx
import torch
from torch import Tensor

from adapt.run.run import Run
from export.fold.folded import graph_info, unfold
from export.fold.session import ALTERED, open_session
from serve.media.images import Image

Reference = Callable[[Image], Tensor]
"""Logits float [N, C, h, w] at the decoder's stride, from images uint8 [N, H, W, 3]."""


def run_reference(run: Run) -> Reference:
    """The network of a run, in torch."""
    segmenter = run.segmenter()
    return lambda image: segmenter.logits(torch.from_numpy(image))


def bare_reference(model: onnx.ModelProto, source: str) -> Reference:
    """The logits graph inside a folded graph; checks everything around the network, not the network."""
    card = graph_info(model, source).card
    bare = unfold(model)
    session = open_session(bare, f"the network in {source}", advice=ALTERED)
    name = bare.graph.input[0].name
    mean, std = np.array(card.mean), np.array(card.std)

    def logits(image: Image) -> Tensor:
        height, width = image.shape[1:3]
        pixels = ((image / 255.0 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
        pads = ((0, 0), (0, 0), (0, -height % card.stride), (0, -width % card.stride))
        return torch.from_numpy(session.run(None, {name: np.pad(pixels, pads)})[0])

    return logits
