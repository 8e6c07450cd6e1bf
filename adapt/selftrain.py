"""One training step: supervised on the source, self-trained on the target, balanced in both (METHOD 4 to 6).

The source part runs backward before the mixed part runs forward, so only one graph is in memory at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.augment import Mixed, class_mix, colour_jitter, gaussian_blur
from adapt.config import Method
from adapt.correction import ShiftTable, cumulative_density, shift_table, stack_tables
from adapt.labels import IGNORE
from adapt.logit_statistics import Histogram, LogitStatistics, labels_at_stride, logit_histogram
from adapt.losses import corrected_cross_entropy, density_regression
from adapt.mixtures import Mixture
from adapt.pairs import Pair
from adapt.segmenter import Segmenter, TrainingOutput
from adapt.teacher import pseudo_label

JITTER_PROBABILITY = 0.8
TABLE_POINTS = 128


@dataclass
class Balance:
    """The online correction's part of a step; absent when `method.balance` is not online."""

    statistics: LogitStatistics
    total: Callable[[Tensor], Tensor]
    """Sums a tensor over the ranks of data-parallel training."""
    source_table: ShiftTable | None = None
    """This step's shifts of the source, which the mixed pictures need again."""

    def count(self, logits: Tensor, labels: Tensor, stride: int) -> Histogram:
        """Histogram of this step's logits over all ranks; labels [N, H, W] at full size."""
        own = logit_histogram(logits.detach(), labels_at_stride(labels, stride))
        return Histogram(self.total(own.counts), self.total(own.outside))


Network = Callable[[Tensor], TrainingOutput]
"""A `StudentNetwork`, bare or wrapped for data-parallel training."""


def source_step(
    network: Network,
    segmenter: Segmenter,
    pair: Pair,
    method: Method,
    balance: Balance | None,
    backward: Callable[[Tensor], None],
) -> dict[str, Tensor]:
    """Learn from the source crops. Returns the losses by name; gradients are accumulated by `backward`."""
    labels = pair.source_labels.long()
    output = network(segmenter.normalise(_unit(pair.source_image)))
    table = None
    if balance is not None:
        balance.statistics.update_source(balance.count(output.logits, labels, segmenter.output_stride))
        table = shift_table(balance.statistics.shift_statistics("source"), TABLE_POINTS)
        balance.source_table = table
    losses = {"source": corrected_cross_entropy(output.logits, labels, table=table, tau=method.tau)}
    if balance is not None and method.density_weight > 0:
        density = _density_loss(output, labels, torch.ones_like(labels).float(), balance, segmenter)
        losses["source_density"] = method.density_weight * density
    return _run_backward(losses, backward)


def target_step(
    network: Network,
    segmenter: Segmenter,
    teacher: Segmenter,
    pair: Pair,
    method: Method,
    balance: Balance | None,
    generator: torch.Generator,
    backward: Callable[[Tensor], None],
) -> dict[str, Tensor]:
    """Learn from target crops with source classes pasted in, labelled by the teacher (DACS)."""
    mixed, confidence = _mix(teacher, pair, method, generator)
    output = network(segmenter.normalise(mixed.images))
    table = rows = None
    if balance is not None:
        own = torch.where(mixed.from_target, mixed.labels, IGNORE)
        balance.statistics.update_target(balance.count(output.logits, own, segmenter.output_stride))
        assert balance.source_table is not None, "source_step comes first"
        target_table = shift_table(balance.statistics.shift_statistics("target"), TABLE_POINTS)
        table = stack_tables(balance.source_table, target_table)
        rows = _rows(mixed.labels, mixed.from_target, segmenter.num_classes)
    loss = corrected_cross_entropy(
        output.logits, mixed.labels, table=table, tau=method.tau, rows=rows, weights=mixed.weights
    )
    losses = {"mixed": loss}
    if balance is not None and method.density_weight > 0:
        density = _density_loss(output, mixed.labels, mixed.weights, balance, segmenter, mixed.from_target)
        losses["mixed_density"] = method.density_weight * density
    return _run_backward(losses, backward) | {"confident": confidence}


def _mix(teacher: Segmenter, pair: Pair, method: Method, generator: torch.Generator) -> tuple[Mixed, Tensor]:
    """Mixed pictures with labels and weights, and the mean share of confident pixels."""
    target = _unit(pair.target_image)
    pseudo = pseudo_label(teacher, teacher.normalise(target), pair.target_padding, method.confidence)
    mixed = class_mix(
        _unit(pair.source_image), pair.source_labels.long(), target, pseudo.labels, pseudo.weights, generator
    )
    images = colour_jitter(mixed.images, method.jitter, JITTER_PROBABILITY, generator)
    images = gaussian_blur(images, generator)
    return mixed._replace(images=images), pseudo.weights.mean()


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


def _run_backward(losses: dict[str, Tensor], backward: Callable[[Tensor], None]) -> dict[str, Tensor]:
    backward(torch.stack(list(losses.values())).sum())
    return {name: loss.detach() for name, loss in losses.items()}


def _unit(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] on [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255
