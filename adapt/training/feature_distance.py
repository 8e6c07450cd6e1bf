"""Feature distance: not to forget what a pretrained encoder knows of things (DAFormer, section 3.4)."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.config.method import Method
from adapt.errors import InputError
from adapt.model.segmenter import Segmenter
from adapt.run.run import PRETRAINED, read_tensors

LABEL_SHARE = 0.75
"""Share of a feature cell that one class must cover to be the cell's label."""


class FeatureDistance:
    """Distance of the encoder in training to a frozen copy of itself before training.

    Args:
        encoder: pretrained; copied.
        things: train ids of the classes on which the distance counts.
    """

    def __init__(self, encoder: nn.Module, things: tuple[int, ...]) -> None:
        self.encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
        self.stride: int = encoder.strides[-1]  # type: ignore[assignment, index]
        self.things = things

    def __call__(self, features: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
        """Mean Euclidean distance over the cells that show a thing.

        Args:
            features: [N, D, h, w], the coarsest level of the encoder in training.
            pixels: normalised [N, 3, H, W] that gave them, or larger ones that were first scaled down (the
                context of HRDA).
            labels: [N, H, W] of the same pixels.

        Returns:
            Scalar; 0 where no cell shows a thing.
        """
        with torch.no_grad():
            scale = features.shape[-1] * self.stride / pixels.shape[-1]
            if scale != 1:
                pixels = F.interpolate(pixels, scale_factor=scale, mode="bilinear", align_corners=False)
            reference = self.encoder(pixels)[-1].float()
        distance = (features - reference).norm(dim=1)
        cells = thing_cells(labels, self.things, labels.shape[-1] // features.shape[-1])
        mean: Tensor = (distance * cells).sum() / cells.sum().clamp_min(1)
        return mean


def new_distance(
    segmenter: Segmenter, method: Method, names: tuple[str, ...], run: Path
) -> FeatureDistance | None:
    """As the settings ask for, to the encoder's state that the run folder keeps; None where they do not.

    Raises:
        InputError: none of the classes `names` is a thing.
    """
    if method.feature_distance == 0:
        return None
    distance = FeatureDistance(segmenter.encoder, thing_ids(names, method.thing_classes))
    distance.encoder.load_state_dict(read_tensors(run / PRETRAINED))
    return distance


def thing_cells(labels: Tensor, things: tuple[int, ...], side: int) -> Tensor:
    """Cells of side x side pixels that one thing class covers to LABEL_SHARE: bool [N, H / side, W / side].

    labels: [N, H, W] train ids; `side` divides H and W.
    """
    shares = [F.avg_pool2d((labels == thing).float().unsqueeze(1), side) for thing in things]
    return (torch.cat(shares, 1) >= LABEL_SHARE).any(1)


def things_among(names: tuple[str, ...], things: tuple[str, ...]) -> tuple[int, ...]:
    """Train ids of the classes whose names are among `things`, whatever their case."""
    wanted = {thing.lower() for thing in things}
    return tuple(index for index, name in enumerate(names) if name.lower() in wanted)


def thing_ids(names: tuple[str, ...], things: tuple[str, ...]) -> tuple[int, ...]:
    """Train ids of the classes whose names are among `things`, whatever their case.

    Raises:
        InputError: there is none.
    """
    ids = things_among(names, things)
    if not ids:
        raise InputError(
            f"none of the classes {', '.join(names)} is a known thing class, and method.feature_distance is "
            "about things; name yours in method.thing_classes, or set method.feature_distance=0."
        )
    return ids
