"""Sliding windows: logits of a large picture as the mean of those of overlapping parts of it.

For networks that were trained on crops and know nothing of larger pictures, and for pictures that do not fit
into memory whole. What is averaged are logits at the decoder's stride; the correction comes after the mean.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.errors import InputError
from adapt.model.segmenter import Segmenter

Size = tuple[int, int]


class Window(NamedTuple):
    """How a picture is cut up."""

    size: Size
    """(height, width) of a part, in pixels."""
    overlap: float = 0.5
    """Least share of its side that a part has in common with the one before, in [0, 1)."""


def check_window(window: Window, stride: int) -> None:
    """Refuse windows that the network cannot take.

    Raises:
        InputError: names one near it that it can.
    """
    if any(side < stride or side % stride for side in window.size):
        raise InputError(
            f"the window is {window.size[0]}x{window.size[1]} (height x width), but this network needs sides "
            f"that are multiples of {stride}; give {_fitting(window.size, stride)}."
        )


@torch.no_grad()
def sliding_logits(segmenter: Segmenter, images: Tensor, window: Window) -> Tensor:
    """Logits of whole pictures, as `Segmenter.logits` gives them, but from windows.

    Args:
        segmenter: in evaluation mode.
        images: uint8 [N, H, W, 3] RGB, any size; a picture smaller than the window is one window.
        window: its sides are multiples of the segmenter's stride.

    Returns:
        [N, C, h, w] at the decoder's stride, of the picture padded at the bottom and right to the stride.

    Raises:
        InputError: a window that the network cannot take.
    """
    stride = segmenter.stride
    check_window(window, stride)
    height, width = images.shape[1:3]
    pixels = segmenter.normalise(images.permute(0, 3, 1, 2).float() / 255)
    pixels = F.pad(pixels, (0, -width % stride, 0, -height % stride))
    step = (_step(window.size[0], window.overlap, stride), _step(window.size[1], window.overlap, stride))
    return average_windows(segmenter, pixels, window.size, step, segmenter.output_stride)


def average_windows(
    network: Callable[[Tensor], Tensor], pixels: Tensor, size: Size, step: Size, output_stride: int
) -> Tensor:
    """Run a network on overlapping windows and average what it says of every cell.

    Args:
        network: [N, channels, h, w] -> [N, C, h / output_stride, w / output_stride].
        pixels: [N, channels, H, W], sides multiples of `output_stride`.
        size: (height, width) of the windows, cut to the picture where it is smaller.
        step: pixels from one window to the next; the last one is moved back to end with the picture.
        output_stride: size and step are multiples of it.

    Returns:
        [N, C, H / output_stride, W / output_stride]
    """
    height, width = pixels.shape[2:]
    total = None
    for top in _starts(height, size[0], step[0]):
        for left in _starts(width, size[1], step[1]):
            part = network(pixels[:, :, top : top + size[0], left : left + size[1]]).float()
            if total is None:
                grid = (height // output_stride, width // output_stride)
                total = part.new_zeros(*part.shape[:2], *grid)
                count = part.new_zeros(grid)
            y, x = top // output_stride, left // output_stride
            place = (..., slice(y, y + part.shape[2]), slice(x, x + part.shape[3]))
            total[place] += part
            count[place] += 1
    assert total is not None
    return total / count


def _starts(length: int, size: int, step: int) -> Iterator[int]:
    """Starts of windows that cover `length`; the last one ends with it."""
    last = max(0, length - size)
    yield from range(0, last, step)
    yield last


def _step(side: int, overlap: float, stride: int) -> int:
    """Largest multiple of the stride that keeps the overlap; the stride at least."""
    return max(stride, int(side * (1 - overlap)) // stride * stride)


def _fitting(size: Size, stride: int) -> str:
    height, width = (max(stride, round(side / stride) * stride) for side in size)
    return f"{height}x{width}"
