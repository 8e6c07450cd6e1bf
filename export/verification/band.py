"""What of a picture a check looks at: its size, and at writing some rows, since all pixels of many classes
take minutes.

An exact score takes C terms for each of C classes, so C^2 a decoder pixel. Bands lie at the pictures' bottom
first, where padding and cropping are, and further up from picture to picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adapt.data.images import resize_image
from serve.card import Card
from serve.media.images import Image

MOST = 2**22
"""Terms C^2 P of the P decoder pixels that are looked at in a picture: 11,600 pixels of 19 classes."""
LEAST = 4
"""Decoder rows that are looked at, however many classes there are."""

TRIM = (3, 5)
"""Rows and columns that the first picture loses if padding would not be seen otherwise."""


class Band(NamedTuple):
    """Some decoder rows of a picture."""

    rows: slice
    height: int
    """Decoder rows of the picture."""

    @property
    def whole(self) -> bool:
        """Whether that is all of the picture."""
        return (self.rows.start, self.rows.stop) == (0, self.height)

    def pixels(self, card: Card) -> slice:
        """Rows of the labels that depend on rows of the band alone."""
        at = places(self.height, card)
        inside = (at.floor() >= self.rows.start) & (at.ceil() < self.rows.stop)
        first = int(inside.int().argmax())
        return slice(first, first + int(inside.sum()))

    def upsampled(self, x: Tensor, card: Card) -> Tensor:
        """Those rows of a map of which the band x [C, h, w] is given: [C, H, W]."""
        rows, scale = self.pixels(card), card.output_stride
        if card.upsampling.coordinates == "half_pixel":
            full = torch.nn.functional.interpolate(x[None], scale_factor=float(scale), mode="bilinear")[0]
            first = rows.start - self.rows.start * scale
            return full[:, first : first + rows.stop - rows.start]
        lines = _between(x, places(self.height, card)[rows] - self.rows.start, 1)
        return _between(lines, places(x.shape[2], card), 2)


def places(count: int, card: Card) -> Tensor:
    """Where the lines of an upsampled map lie among the `count` of the decoder, float64."""
    scale = card.output_stride
    full = torch.arange(count * scale, dtype=torch.float64)
    if card.upsampling.coordinates == "align_corners":
        at = full * (count - 1) / max(count * scale - 1, 1)
    else:
        shift = 0.5 if card.upsampling.coordinates == "half_pixel" else 0.0
        at = (full + shift) / scale - shift
    return at.clamp(0, count - 1)


def _between(x: Tensor, at: Tensor, axis: int) -> Tensor:
    """Lines of x at places `at` along an axis, linearly."""
    below = at.floor().long()
    above = at.ceil().long()
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    return torch.lerp(
        x.index_select(axis, below), x.index_select(axis, above), (at - below).view(shape).to(x)
    )


def band_of(position: int, pictures: int, shape: tuple[int, ...], most: int | None) -> Band:
    """The band of one of so many pictures, logits [N, C, h, w]; all of it if `most` terms allow or None."""
    _, C, h, w = shape
    count = h if most is None else min(h, max(LEAST, most // (C * C * w)))
    start = round((h - count) * (1 - position / max(1, pictures - 1)))
    return Band(slice(start, start + count), h)


def needs_trimming(frames: Sequence[Image], card: Card, least: tuple[int, int]) -> bool:
    """Whether no picture of any size is padded on both sides, and the first one can spare what it takes."""
    sizes = [fitting(frame, card).shape[:2] for frame in frames]
    padded = any(height % card.stride and width % card.stride for height, width in sizes)
    needed = (max(side, card.minimum_size) for side in least)
    room = all(side - cut >= low for side, cut, low in zip(sizes[0], TRIM, needed, strict=True))
    return card.size is None and card.stride > 1 and not padded and room


def fitting(frame: Image, card: Card) -> Image:
    """Bring a picture to what the graph takes: its fixed size, or at least the minimum."""
    if card.size is not None:
        return resize_image(frame, card.size)
    height, width = (max(side, card.minimum_size) for side in frame.shape[:2])
    return resize_image(frame, (height, width))
