"""Statistics of a finished network for the post-hoc correction (Li et al. 2025, section 3.2).

One pass over the unlabelled target, pseudo-labelled by the network itself, gives the rows; one over the
labelled source gives the anchors. Without a source the anchors are pooled from the target as well.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.balance.bias import doubt
from adapt.balance.histogram import Histogram, counted_in_all, labels_at_stride
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics, range_warning
from adapt.balance.mixtures import Mixture
from adapt.config.method import Method
from adapt.data.classes import IGNORE
from adapt.data.datasets import LabelledImages, UnlabelledImages
from adapt.errors import InputError
from adapt.model.segmenter import Segmenter
from serve.media.progress import Bar


def gather_statistics(
    segmenter: Segmenter,
    source: LabelledImages | None,
    target: UnlabelledImages,
    method: Method,
    device: torch.device | str = "cpu",
    anchors: Mixture | None = None,
) -> ShiftStatistics:
    """Gather and fit.

    Args:
        segmenter: in evaluation mode, on `device`.
        source: labelled pictures for the anchors; None pools the anchors from the target.
        target: unlabelled pictures.
        method: components, min_pixels, eps, posthoc_anchors.
        anchors: [2, K], taken instead of pooled ones.

    Raises:
        InputError: a domain without a single usable pixel.
    """
    rows = target_histogram(segmenter, target, device)
    pooled = rows if source is None else source_histogram(segmenter, source, device)
    statistics = fit_shift_statistics(
        rows,
        pooled.anchors(method.posthoc_anchors, method.min_pixels),
        components=method.components,
        min_pixels=method.min_pixels,
        eps=method.eps,
        anchor_bins=pooled.bins,
    )
    if anchors is not None:
        statistics = replace(statistics, anchors=anchors)
    if warning := range_warning(statistics.outside, statistics.logit_range):
        Bar.write(warning, file=sys.stderr)
    if said := doubt(statistics, method.uses_shares and source is not None):
        Bar.write(f"{said}; so it is off unless a strength is chosen", file=sys.stderr)
    return statistics


def target_histogram(segmenter: Segmenter, target: UnlabelledImages, device: torch.device | str) -> Histogram:
    """Logits of the unlabelled pictures by the class that the network takes each pixel for.

    Raises:
        InputError: there is not a single pixel.
    """
    maps = _target_maps(segmenter, target, device)
    return _total(counted_in_all(maps, segmenter.output_stride), "target")


def source_histogram(segmenter: Segmenter, source: LabelledImages, device: torch.device | str) -> Histogram:
    """Logits of the labelled pictures by true class.

    Raises:
        InputError: there is not a single labelled pixel.
    """
    maps = _source_maps(segmenter, source, device)
    return _total(counted_in_all(maps, segmenter.output_stride), "source")


@torch.inference_mode()
def _target_maps(
    segmenter: Segmenter, target: UnlabelledImages, device: torch.device | str
) -> Iterable[tuple[Tensor, Tensor]]:
    for index in Bar(range(len(target)), desc="target statistics", unit="image"):
        image = torch.from_numpy(target[index]).unsqueeze(0).to(device)
        logits, inside = _logits_inside(segmenter, image)
        yield logits, torch.where(inside, logits.argmax(1), IGNORE)


@torch.inference_mode()
def _source_maps(
    segmenter: Segmenter, source: LabelledImages, device: torch.device | str
) -> Iterable[tuple[Tensor, Tensor]]:
    for index in Bar(range(len(source)), desc="source statistics", unit="image"):
        sample = source[index]
        image = torch.from_numpy(sample.image).unsqueeze(0).to(device)
        logits, _ = _logits_inside(segmenter, image)
        labels = torch.from_numpy(sample.labels).unsqueeze(0).to(device)
        height, width = labels.shape[1:]
        labels = F.pad(labels, (0, -width % segmenter.stride, 0, -height % segmenter.stride), value=IGNORE)
        yield logits, labels_at_stride(labels, segmenter.output_stride)


def _logits_inside(segmenter: Segmenter, image: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [1, C, h, w], and which decoder pixels [1, h, w] lie on the picture, not on its padding."""
    height, width = image.shape[1:3]
    logits = segmenter.logits(image)
    stride = segmenter.output_stride
    rows = torch.arange(logits.shape[2], device=logits.device) * stride + stride // 2 < height
    columns = torch.arange(logits.shape[3], device=logits.device) * stride + stride // 2 < width
    return logits, (rows.unsqueeze(1) & columns).unsqueeze(0)


def _total(total: Histogram | None, domain: str) -> Histogram:
    if total is None or not bool(total.row_pixels.sum() > 0):
        raise InputError(f"the {domain} has no pixel to gather statistics from.")
    return total
