"""What a graph should say: logits of its network, computed the slow way; and labels of these."""

from collections.abc import Callable

import numpy as np
import onnx
import torch
from torch import Tensor

from adapt.balance.correction import ShiftTable, posthoc_scores
from adapt.evaluation.prediction import labels_of_logits
from adapt.run.run import Run
from export.fold.folded import graph_info, unfold
from export.fold.session import ALTERED, Labels, open_session
from serve.card import Card, Upsampling
from serve.inference.sizes import Behind, best_labels
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


def labels_of(
    logits: Tensor, card: Card, size: tuple[int, ...], table: ShiftTable | None = None, tau: float = 0.0
) -> Labels:
    """Labels [H, W] of logits [1, C, h, w] of a padded picture of `size`, upsampled as the card says."""
    if card.upsampling == Upsampling() or card.output_stride == 1:
        return labels_of_logits(logits, card.output_stride, size, table, tau)
    scores, excluded = logits, None if table is None else table.excluded
    if tau != 0 and table is not None:
        scores = posthoc_scores(logits, table, tau)
    out = () if excluded is None else tuple(excluded.nonzero().flatten().tolist())
    behind = Behind(card.upsampling, tau != 0, out)
    return best_labels(scores[0].numpy(), card.output_stride, behind)[: size[0], : size[1]]
