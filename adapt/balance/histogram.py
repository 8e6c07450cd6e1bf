"""Counts of logits, per true class and channel, in integers: they stay exact however many there are.

A float32 stops counting at 2^24, which one bin reaches after a few hundred pictures.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adapt.balance.bins import BINS, Bins, default_bins, extent_of, no_bins
from adapt.balance.bins import LOGIT_RANGE as LOGIT_RANGE  # where those who count without bins look for it

Pooling = Literal["pixels", "classes"]


@dataclass(frozen=True)
class Histogram:
    """Counts of logits, int64 [C, C, B]: row = class of the pixel, column = channel, last axis = bin."""

    counts: Tensor
    outside: Tensor
    """Scalar: how many of the counted logits lay beyond the range and were put into an edge bin."""
    stride: int = 1
    """Pixels of the full-size label map that a counted one stands for, along a side."""
    bins: Bins | None = None
    """Where the bins lie; None is LOGIT_RANGE."""

    def centres(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Centres of the bins, [B], in logits."""
        return bin_centres(self.counts.device, dtype, self.bins)

    @property
    def outside_share(self) -> float:
        """Share of the counted logits that lay beyond the range."""
        return float(self.outside / self.counts.sum().clamp_min(1))

    def in_bins(self, bins: Bins) -> "Histogram":
        """The same counts in other bins, each where its bin's centre falls; exact if bins were doubled."""
        position = ((self.centres(torch.float64) - bins.low) / bins.step).nan_to_num(0)
        index = position.floor().clamp(0, BINS - 1).long()
        counts = torch.zeros_like(self.counts).index_add_(-1, index, self.counts)
        return Histogram(counts, self.outside, self.stride, bins)

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
        """The sum of two histograms of the same bins; `counted_in_all` makes bins that hold both."""
        return Histogram(self.counts + other.counts, self.outside + other.outside, self.stride, self.bins)


def bin_centres(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, bins: Bins | None = None
) -> Tensor:
    """Centres of the histogram bins, [B], in logits; None is LOGIT_RANGE."""
    return (default_bins(device) if bins is None else bins.to(device)).centres(dtype)


@torch.no_grad()
def logit_histogram(logits: Tensor, labels: Tensor, stride: int = 1, bins: Bins | None = None) -> Histogram:
    """Count the logits of each class's pixels.

    Args:
        logits: [N, C, h, w] at the decoder's stride.
        labels: [N, h, w] integers; values outside 0..C-1 are left out.
        stride: of the decoder.
        bins: where to count; None is LOGIT_RANGE. What lies outside is counted in the edge bins.
    """
    classes = logits.shape[1]
    low, step = default_bins(logits.device) if bins is None else bins
    position = (logits.float() - low) / step
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
    return Histogram(counts.view(classes + 1, classes, BINS)[:classes], outside, stride, bins)


def counted_in_all(maps: Iterable[tuple[Tensor, Tensor]], stride: int = 1) -> Histogram | None:
    """One histogram of many maps of logits and labels, seen one by one, in bins that hold all of them.

    None if there is no map.
    """
    total: Histogram | None = None
    for logits, labels in maps:
        before = no_bins(logits.device) if total is None or total.bins is None else total.bins
        counted = (labels >= 0) & (labels < logits.shape[1])
        bins = before.around(extent_of(logits, counted))
        new = logit_histogram(logits, labels, stride, bins)
        total = new if total is None else total.in_bins(bins) + new
    return total


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
