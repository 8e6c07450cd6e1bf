"""What post-hoc balancing has to beat: plain logit adjustment by the shares of the classes.

    label = argmax_l  f[l] - t * log share[l]                      (Menon et al. 2021, section 4.1, post hoc)

The shares of a target without labels are those of the network's own labels, or the mean of its softmax
(Prior2Posterior, arXiv 2412.16540, where it stands for the prior that a network has learned). Both are
counted where our statistics are: at decoder pixels that lie on the picture.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapt.data.datasets import UnlabelledImages
from adapt.errors import InputError
from adapt.evaluation.prediction import picture_logits
from adapt.model.segmenter import Segmenter
from serve.media.progress import Bar

LEAST_PIXELS = 100
"""Pixels of full size with a label that a class must have for its share of the labels to count, as
`method.min_pixels` has it for our statistics. By the share of hardly a pixel, a class would take over."""
STRENGTHS = (0.1, 0.2, 0.3, 0.5, 1.0)
"""t. Beyond 0.5 it ruins some networks, at 0.5 and below it helps most."""


class Adjustment(NamedTuple):
    """One baseline at one strength."""

    by: str
    """Which shares, in words: "pseudo-label shares" or "mean softmax"."""
    strength: float
    """t"""

    @property
    def title(self) -> str:
        return f"{self.by}, t {self.strength:g}"


class Shares(NamedTuple):
    """How much of a set of pictures each class takes, as the network sees it."""

    labels: Tensor
    """[C] share of pixels that the network gives to each class."""
    softmax: Tensor
    """[C] mean softmax, above 0."""
    pictures: int
    least: float
    """Share of the labels below which a class is left alone: that of LEAST_PIXELS."""

    @property
    def by_name(self) -> dict[str, Tensor]:
        return {"pseudo-label shares": self.labels, "mean softmax": self.softmax}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: share.tolist() for name, share in self.by_name.items()} | {"pictures": self.pictures}


class ShareCount:
    """Counts shares, picture by picture."""

    def __init__(self, num_classes: int) -> None:
        self._labels = torch.zeros(num_classes, dtype=torch.float64)
        self._softmax = torch.zeros(num_classes, dtype=torch.float64)
        self._pictures = 0
        self._area = 0

    def add(self, logits: Tensor, output_stride: int, size: tuple[int, ...]) -> None:
        """Count a picture.

        Args:
            logits: [1, C, h, w] at the decoder's stride, padding included; pixels with one that is not finite
                do not count.
            output_stride: the decoder's.
            size: (height, width) of the picture.
        """
        rows, columns = (len(range(output_stride // 2, side, output_stride)) for side in size)
        inside = logits[0, :, :rows, :columns].flatten(1).double().cpu()
        inside = inside[:, torch.isfinite(inside).all(0)]
        self._labels += torch.bincount(inside.argmax(0), minlength=len(inside))
        self._softmax += inside.softmax(0).sum(1)
        self._pictures += 1
        self._area += inside.shape[1] * output_stride**2

    def shares(self) -> Shares:
        """Of all pictures. Raises InputError if there was no usable pixel."""
        pixels = self._labels.sum()
        if pixels == 0:
            raise InputError(
                "the pictures that shares are counted on have no pixel with finite logits; give others "
                "with --target."
            )
        softmax = (self._softmax / pixels).clamp_min(torch.finfo(torch.float64).tiny)
        return Shares(self._labels / pixels, softmax, self._pictures, LEAST_PIXELS / self._area)


def target_shares(
    segmenter: Segmenter, images: UnlabelledImages, num_classes: int, device: torch.device | str
) -> Shares:
    """Shares on unlabelled pictures, each seen once and whole.

    Raises:
        InputError: no usable pixel.
    """
    segmenter.eval().to(device)
    count = ShareCount(num_classes)
    for index in Bar(range(len(images)), desc="shares of the target", unit="image"):
        image = images[index]
        count.add(picture_logits(segmenter, image), segmenter.output_stride, image.shape[:2])
    return count.shares()


def adjustments(shares: Shares) -> dict[Adjustment, Tensor]:
    """What every baseline adds to the logits: -t * log share, [C] float64 each; 0 to what is left alone."""
    counted = torch.where(shares.labels >= shares.least, shares.labels, 1.0)
    return {
        Adjustment(name, strength): -strength * share.log()
        for name, share in (shares.by_name | {"pseudo-label shares": counted}).items()
        for strength in STRENGTHS
    }


def adjusted(logits: Tensor, offset: Tensor) -> Tensor:
    """Logits [N, C, h, w] with an offset [C] added."""
    return logits + offset.to(logits.device, logits.dtype).view(1, -1, 1, 1)


def named(scores: Mapping[Adjustment, Any]) -> dict[str, Any]:
    """The same by title."""
    return {way.title: value for way, value in scores.items()}
