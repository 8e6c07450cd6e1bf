"""One training step as a chain of terms: each runs forward, and backward, before the next one starts.

So only one graph is in memory at a time. A host is a choice of terms and of their settings (`terms_of`):
the source alone; with mixed pictures, labelled by the teacher (DACS, DAFormer); with masked ones (MIC).
Balancing (METHOD 4 to 6; Li et al. 2025, sections 3.3 and 3.4) enters where each term takes its loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from adapt.augmentation.augment import Mixed, class_mix, colour_jitter, gaussian_blur, random_mask
from adapt.augmentation.pairs import Pair
from adapt.balance.bins import Extent, extent_of
from adapt.balance.captured import Captured
from adapt.balance.correction import ShiftTable, cumulative_density, shift_table, stack_tables
from adapt.balance.histogram import Histogram, labels_at_stride, logit_histogram
from adapt.balance.logit_statistics import LogitStatistics
from adapt.balance.losses import corrected_cross_entropy, density_regression
from adapt.balance.mixtures import Mixture
from adapt.config.settings import Method
from adapt.data.classes import IGNORE
from adapt.model.segmenter import Segmenter, TrainingOutput
from adapt.training.feature_distance import FeatureDistance
from adapt.training.teacher import PseudoLabels, pseudo_label

JITTER_PROBABILITY = 0.8
TABLE_POINTS = 128
DETAIL_WEIGHT = 0.1
"""Weight of the loss on the detail alone, where the network has two scales (HRDA's lambda_d)."""


class Balance:
    """The online correction's part of every step; absent when `method.balance` is not online.

    Attributes:
        statistics: the running ones.
        source_table: the step's shifts of the source, once it has taken in the source's logits. The mixed
            pictures need them again.
        target_table: the same of the target.
    """

    source_table: ShiftTable
    target_table: ShiftTable

    def __init__(
        self,
        statistics: LogitStatistics,
        total: Callable[[Tensor], Tensor],
        stride: int,
        greatest: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        """Balance by `statistics`.

        Args:
            total: sums a tensor over the ranks of data-parallel training.
            stride: of the decoder.
            greatest: the elementwise maximum of a tensor over the ranks.
        """
        self.statistics = statistics
        self._stride = stride
        self._total = total
        self._greatest = greatest
        self._source = Captured(self._update_source)
        self._target = Captured(self._update_target)

    def take_source(self, logits: Tensor, labels: Tensor) -> None:
        """Take in the step's source logits; labels [N, H, W] at full size."""
        histogram = self.count(logits, labels)
        self.source_table = self._source(histogram.counts, histogram.outside)

    def take_target(self, logits: Tensor, labels: Tensor) -> None:
        """Take in the step's target logits, after the source's."""
        histogram = self.count(logits, labels)
        self.target_table = self._target(histogram.counts, histogram.outside)

    def _update_source(self, counts: Tensor, outside: Tensor) -> ShiftTable:
        self.statistics.update_source(Histogram(counts, outside, self._stride, self.statistics.bins))
        return shift_table(self.statistics.shift_statistics("source"), TABLE_POINTS)

    def _update_target(self, counts: Tensor, outside: Tensor) -> ShiftTable:
        self.statistics.update_target(Histogram(counts, outside, self._stride, self.statistics.bins))
        return shift_table(self.statistics.shift_statistics("target"), TABLE_POINTS)

    def count(self, logits: Tensor, labels: Tensor) -> Histogram:
        """Histogram of the step's logits over all ranks, in bins that hold them, the same on every rank."""
        logits, labels = logits.detach(), labels_at_stride(labels, self._stride)
        extent = extent_of(logits, (labels >= 0) & (labels < logits.shape[1]))
        self.statistics.fit_range(Extent.of_stacked(self._greatest(extent.stacked())))
        bins = self.statistics.bins
        own = logit_histogram(logits, labels, self._stride, bins)
        # An int32 holds the pixels of any step, and is half of what ranks would exchange otherwise.
        return Histogram(self._total(own.counts.int()).long(), self._total(own.outside), self._stride, bins)


Network = Callable[[Tensor], TrainingOutput]
"""A `StudentNetwork`, bare or wrapped for data-parallel training."""


@dataclass
class Step:
    """What the terms of one step work on."""

    network: Network
    segmenter: Segmenter
    """The network's, for its normalisation and stride."""
    pair: Pair
    method: Method
    backward: Callable[[Tensor], None]
    generator: torch.Generator
    balance: Balance | None = None
    teacher: Segmenter | None = None
    feature_distance: FeatureDistance | None = None
    mixed: Mixed | None = None
    """The mixed pictures, once there are some."""

    @cached_property
    def pseudo(self) -> PseudoLabels:
        """What the teacher says of the target crops, without weight on rows that are to be ignored."""
        assert self.teacher is not None, "the source alone needs no teacher"
        pixels = self.teacher.normalise(_unit(self.pair.target_image))
        pseudo = pseudo_label(self.teacher, pixels, self.pair.target_padding, self.method.confidence)
        height = pixels.shape[2]
        top, bottom = (round(share * height) for share in self.method.ignored_rows)
        weights = pseudo.weights.clone()
        weights[:, :top] = 0
        weights[:, height - bottom :] = 0
        return pseudo._replace(weights=weights)


Term = Callable[[Step], dict[str, Tensor]]
"""Adds to the gradients; returns its losses by name."""


def terms_of(method: Method) -> tuple[Term, ...]:
    """The terms of a step, in the order in which they run."""
    if not method.self_training:
        return (source_term,)
    if method.masked_consistency == 0:
        return source_term, mixed_term
    return source_term, mixed_term, masked_term


def source_term(step: Step) -> dict[str, Tensor]:
    """Learn from the source crops."""
    method, balance, segmenter = step.method, step.balance, step.segmenter
    labels = step.pair.source_labels.long()
    pixels = segmenter.normalise(_unit(step.pair.source_image))
    output = step.network(pixels)
    if balance is not None:
        balance.take_source(output.logits, labels)
    table = None if balance is None else balance.source_table
    losses = {"source": _cross_entropy(step, output, labels, table)}
    if balance is not None and method.density_weight > 0:
        density = _density_loss(output, labels, torch.ones_like(labels).float(), balance, segmenter)
        losses["source_density"] = method.density_weight * density
    if step.feature_distance is not None:
        distance = step.feature_distance(output.coarsest, pixels, labels)
        losses["feature_distance"] = method.feature_distance * distance
    return _run_backward(losses, step)


def mixed_term(step: Step) -> dict[str, Tensor]:
    """Learn from target crops with source classes pasted in, labelled by the teacher (DACS)."""
    method, balance, segmenter = step.method, step.balance, step.segmenter
    mixed = step.mixed = _mix(step)
    output = step.network(segmenter.normalise(mixed.images))
    table = rows = None
    if balance is not None:
        # What the teacher is not to be believed says nothing about the target either.
        own = torch.where(mixed.from_target & (mixed.weights > 0), mixed.labels, IGNORE)
        balance.take_target(output.logits, own)
    if balance is not None and method.correct_mixed:
        table = stack_tables(balance.source_table, balance.target_table)
        rows = _rows(mixed.labels, mixed.from_target, segmenter.num_classes)
    losses = {"mixed": _cross_entropy(step, output, mixed.labels, table, rows, mixed.weights)}
    if balance is not None and method.density_weight > 0:
        density = _density_loss(output, mixed.labels, mixed.weights, balance, segmenter, mixed.from_target)
        losses["mixed_density"] = method.density_weight * density
    return _run_backward(losses, step) | {"confident": step.pseudo.weights.amax((1, 2)).mean()}


def masked_term(step: Step) -> dict[str, Tensor]:
    """Learn to see what masks hide in target crops (MIC).

    The target's shifts correct this loss too; its logits are not counted in the statistics, since they are
    those of pictures that nobody will show the network.
    """
    method = step.method
    images = _unit(step.pair.target_image)
    images = colour_jitter(images, method.jitter, JITTER_PROBABILITY, step.generator)
    pixels = step.segmenter.normalise(gaussian_blur(images, step.generator))
    size = (pixels.shape[0], pixels.shape[2], pixels.shape[3])
    keep = random_mask(size, method.mask_patch, method.mask_ratio, step.generator)
    output = step.network(pixels * keep.to(pixels.device))
    balance = step.balance
    table = balance.target_table if balance is not None and method.correct_mixed else None
    loss = _cross_entropy(step, output, step.pseudo.labels, table, weights=step.pseudo.weights)
    # Ranks exchange gradients with the last term's backward pass: it must reach the density head as well.
    return _run_backward({"masked": method.masked_consistency * loss + 0 * output.density.sum()}, step)


def _mix(step: Step) -> Mixed:
    """Mixed pictures, jittered and blurred, with labels and weights."""
    pair, pseudo = step.pair, step.pseudo
    mixed = class_mix(
        _unit(pair.source_image),
        pair.source_labels.long(),
        _unit(pair.target_image),
        pseudo.labels,
        pseudo.weights,
        step.generator,
    )
    images = colour_jitter(mixed.images, step.method.jitter, JITTER_PROBABILITY, step.generator)
    return mixed._replace(images=gaussian_blur(images, step.generator))


def _cross_entropy(
    step: Step,
    output: TrainingOutput,
    labels: Tensor,
    table: ShiftTable | None,
    rows: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Corrected cross-entropy; of a network with two scales, also of the detail alone."""
    tau = step.method.tau
    loss = corrected_cross_entropy(output.logits, labels, table=table, tau=tau, rows=rows, weights=weights)
    if output.detail is None:
        return loss
    top, left, height, width = output.detail.box
    part = (slice(None), slice(top, top + height), slice(left, left + width))
    detail = corrected_cross_entropy(
        output.detail.logits,
        labels[part],
        table=table,
        tau=tau,
        rows=None if rows is None else rows[part],
        weights=None if weights is None else weights[part],
    )
    return (1 - DETAIL_WEIGHT) * loss + DETAIL_WEIGHT * detail


def _rows(labels: Tensor, from_target: Tensor, num_classes: int) -> Tensor:
    """Row of the stacked (source, target) tables for every pixel; -1 where no label counts."""
    return torch.where(labels == IGNORE, -1, labels + num_classes * from_target)


def _density_loss(
    output: TrainingOutput,
    labels: Tensor,
    weights: Tensor,
    balance: Balance,
    segmenter: Segmenter,
    from_target: Tensor | None = None,
) -> Tensor:
    """Regress d = F[y, y](f[y]) at the decoder's stride; every pixel by the statistics of its own domain."""
    stride = segmenter.output_stride
    if from_target is None:
        from_target = torch.zeros_like(labels, dtype=torch.bool)
    at_stride, own = labels_at_stride(labels, stride), labels_at_stride(from_target, stride)
    rows = _rows(at_stride, own, segmenter.num_classes)
    positive, seen = _positive_rows(balance.statistics)
    counted = (rows >= 0) & seen[rows.clamp_min(0)]
    density = cumulative_density(positive, output.logits.detach(), rows.clamp_min(0))
    return density_regression(output.density, density, labels_at_stride(weights, stride) * counted)


def _positive_rows(statistics: LogitStatistics) -> tuple[Mixture, Tensor]:
    """The mixtures F[c, c] of the source, then of the target, [2C, K], and which of them are known [2C]."""
    both = [statistics.shift_statistics(domain) for domain in ("source", "target")]
    diagonal = torch.arange(both[0].num_classes, device=both[0].seen.device)
    parts = [s.rows.select((diagonal, diagonal)) for s in both]
    joined = Mixture(*(torch.cat(pair) for pair in zip(*parts, strict=True)))
    return joined, torch.cat([s.seen for s in both])


def _run_backward(losses: dict[str, Tensor], step: Step) -> dict[str, Tensor]:
    step.backward(torch.stack(list(losses.values())).sum())
    return {name: loss.detach() for name, loss in losses.items()}


def _unit(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] on [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255
