"""Counts of logits, per true class and channel, in integers: they stay exact however many there are.

A float32 stops counting at 2^24, which one bin reaches after a few hundred pictures.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BINS = 256
Pooling = Literal["pixels", "classes"]
LOGIT_RANGE = (-32.0, 32.0)
"""Range of the histograms in logits. Values outside are counted in the edge bins, and reported."""


@dataclass(frozen=True)
class Histogram:
    """Counts of logits, int64 [C, C, B]: row = class of the pixel, column = channel, last axis = bin."""

    counts: Tensor
    outside: Tensor
    """Scalar: how many of the counted logits lay beyond the range and were put into an edge bin."""
    stride: int = 1
    """Pixels of the full-size label map that a counted one stands for, along a side."""

    @property
    def row_pixels(self) -> Tensor:
        """Full-size pixels of each class, [C]: every counted one appears once in each column of its row."""
        return self.counts[:, 0].sum(-1) * self.stride**2

    def anchors(self, pooling: Pooling = "pixels", min_pixels: int = 1) -> Tensor:
        """Pooled over classes, [2, B]: the diagonal (positive logits), then all the rest.

        Over "pixels", as the paper does, frequent classes make the anchors (int64); over "classes" every
        class with at least `min_pixels` at full size contributes alike, by as much as if the pixels were
        shared out evenly (float32). Rarer ones do not: a handful of pixels would weigh as much as the road.
        """
        counts = self.counts
        if pooling == "classes":
            pixels = self.row_pixels
            counted = pixels >= max(min_pixels, 1)
            even = (counts[:, 0].sum(-1) * counted).sum() / counted.sum().clamp_min(1)
            share = torch.where(counted, even / counts[:, 0].sum(-1).clamp_min(1), 0)
            counts = counts * share.view(-1, 1, 1)
        positive = counts.diagonal().sum(-1)  # diagonal() puts the class last: [B, C]
        return torch.stack([positive, counts.sum((0, 1)) - positive])

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram(self.counts + other.counts, self.outside + other.outside, self.stride)


def bin_centres(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """Centres of the histogram bins, [B], in logits."""
    low, high = LOGIT_RANGE
    width = (high - low) / BINS
    return low + width * (torch.arange(BINS, device=device, dtype=dtype) + 0.5)


@torch.no_grad()
def logit_histogram(logits: Tensor, labels: Tensor, stride: int = 1) -> Histogram:
    """Count the logits of each class's pixels.

    Args:
        logits: [N, C, h, w] at the decoder's stride.
        labels: [N, h, w] integers; values outside 0..C-1 are left out.
        stride: of the decoder.
    """
    classes = logits.shape[1]
    low, high = LOGIT_RANGE
    position = (logits.float() - low) * (BINS / (high - low))
    labels = labels.int()
    counted = (labels >= 0) & (labels < classes)
    outside = (((position < 0) | (position >= BINS)) & counted.unsqueeze(1)).sum()
    # Left-out pixels go to a row of their own that is dropped: no boolean indexing, no device sync.
    row = torch.where(counted, labels, classes).unsqueeze(1)
    channel = torch.arange(classes, device=logits.device, dtype=torch.int32).view(1, -1, 1, 1)
    # A NaN has no bin; it lands in the first, and the loss that it makes stops the training.
    index = position.nan_to_num_(0).clamp_(0, BINS - 1).int()
    index += (row * classes + channel) * BINS
    counts = _count(index.flatten(), (classes + 1) * classes * BINS)
    return Histogram(counts.view(classes + 1, classes, BINS)[:classes], outside, stride)


def _count(index: Tensor, bins: int) -> Tensor:
    """How often each of 0..bins-1 occurs, int64 [bins]."""
    if index.device.type == "cpu":
        return torch.bincount(index, minlength=bins)
    # bincount would read back the largest index, for which a GPU has to wait.
    counts = torch.zeros(bins, dtype=torch.int32, device=index.device)
    return counts.index_add_(0, index, torch.ones_like(index)).long()


def labels_at_stride(labels: Tensor, stride: int) -> Tensor:
    """Labels [N, H, W] at the centres of the decoder's pixels: [N, H / stride, W / stride]."""
    return labels[:, stride // 2 :: stride, stride // 2 :: stride]
