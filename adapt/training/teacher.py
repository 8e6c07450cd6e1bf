"""The EMA teacher and its pseudo-labels (DACS, Tranheden et al. 2021)."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.config.method import Method
from adapt.data.classes import IGNORE
from adapt.model.hrda import HrdaSegmenter
from adapt.model.segmenter import Norm, Segmenter


class PseudoLabels(NamedTuple):
    """What the teacher says of target pictures."""

    labels: Tensor
    """[N, H, W] int64, IGNORE on padding"""
    weights: Tensor
    """[N, H, W] q, the share of the picture's pixels above the confidence threshold, or of its class's."""
    confidence: Tensor
    """[N, H, W] softmax probability of the label"""
    confident: Tensor
    """[N] share of the picture's pixels above the threshold"""


def new_teacher(student: Segmenter, crop: tuple[int, int]) -> Segmenter:
    """A copy that no gradient reaches, without dropout and drop path.

    Of a network with two scales, the teacher's detail slides over the crop (height, width) in windows of the
    size that the student's detail is trained on.

    Batch normalisation keeps the statistics of the batch at hand: target crops are normalised as what they
    are, not as the mean of both domains, which is what the running statistics describe. Where those are
    fixed, they are the target's (adapt/training/watching/start.py), and it takes them.
    """
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    for module in teacher.modules():
        if isinstance(module, Norm) and not student.fixed_norms:
            module.train()
    if isinstance(teacher, HrdaSegmenter):
        teacher.window = (crop[0] // 2, crop[1] // 2)
    return teacher


def teacher_momentum(iteration: float, largest: float) -> float:
    """alpha = min(1 - 1 / (t + 1), largest): a plain average at first, an exponential one later."""
    return min(1 - 1 / (iteration + 1), largest)


@torch.no_grad()
def follow(teacher: Segmenter, student: Segmenter, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student; batch-norm running statistics are copied."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)
    for kept, current in zip(teacher.buffers(), student.buffers(), strict=True):
        kept.copy_(current)


def label_crops(teacher: Segmenter, images: Tensor, padding: Tensor, method: Method) -> PseudoLabels:
    """What the teacher says of target crops, without weight on rows that are to be ignored.

    Args:
        teacher: as `new_teacher` made it.
        images: [N, 3, H, W] on [0, 1].
        padding: bool [N, H, W], pixels that are no picture.
        method: what counts as confident, and which rows count.
    """
    per_class = method.confidence_per == "class"
    pseudo = pseudo_label(teacher, teacher.normalise(images), padding, method.confidence, per_class)
    height = images.shape[2]
    top, bottom = (round(share * height) for share in method.ignored_rows)
    weights = pseudo.weights.clone()
    weights[:, :top] = 0
    weights[:, height - bottom :] = 0
    return pseudo._replace(weights=weights)


@torch.no_grad()
def pseudo_label(
    teacher: Segmenter, pixels: Tensor, padding: Tensor, confidence: float, per_class: bool = False
) -> PseudoLabels:
    """Label weakly augmented target crops.

    Args:
        teacher: as `new_teacher` made it.
        pixels: normalised, [N, 3, H, W].
        padding: bool [N, H, W], pixels that are no picture.
        confidence: softmax probability above which a pixel counts as confident.
        per_class: take the share of confident pixels among those of the same label, not among all.

    The weight is taken per picture, so that it does not depend on what else is in the batch.
    """
    logits = teacher(pixels).float()
    full = F.interpolate(logits, size=pixels.shape[2:], mode="bilinear", align_corners=False)
    probability, labels = full.softmax(1).max(1)
    inside = ~padding
    confident = (probability > confidence) & inside
    share = confident.sum((1, 2), keepdim=True) / inside.sum((1, 2), keepdim=True)
    weights = share.expand_as(probability).contiguous()
    if per_class:
        weights = _shares_of_classes(labels, confident, inside, logits.shape[1])
    return PseudoLabels(torch.where(inside, labels, IGNORE), weights, probability, share.flatten())


def _shares_of_classes(labels: Tensor, confident: Tensor, inside: Tensor, classes: int) -> Tensor:
    """[N, H, W] share of confident pixels among those of the pixel's picture and label."""
    number = len(labels)
    group = labels + classes * torch.arange(number, device=labels.device).view(-1, 1, 1)
    counts = torch.zeros(2, number * classes, device=labels.device)
    for row, mask in enumerate((confident, inside)):
        counts[row].index_add_(0, group.flatten(), mask.flatten().float())
    return (counts[0] / counts[1].clamp_min(1))[group]
