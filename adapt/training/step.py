"""One training step as a chain of terms: each runs forward, and backward, before the next one starts.

So only one graph is in memory at a time. A host is a choice of terms and of their settings (`terms_of`):
the source alone; with mixed pictures, labelled by the teacher (DACS, DAFormer); with masked ones (MIC).
Without a source the same terms run but for its own: what is pasted comes from another target picture then.
Balancing (METHOD 4 to 6; Li et al. 2025, sections 3.3 and 3.4) enters where each term takes its loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from adapt.augmentation.augment import Mixed, class_mix, colour_jitter, gaussian_blur, random_mask
from adapt.augmentation.pairs import Pair, unit_images
from adapt.balance.class_priors import SOURCE, TARGET, ClassPriors
from adapt.balance.correction import ShiftTable, stack_tables
from adapt.balance.losses import corrected_cross_entropy, density_loss, domain_rows
from adapt.balance.online import Balance
from adapt.config.method import Method
from adapt.data.classes import IGNORE
from adapt.model.segmenter import Segmenter, TrainingOutput
from adapt.training.feature_distance import FeatureDistance
from adapt.training.teacher import PseudoLabels, label_crops
from adapt.training.watching.watch import Watch

JITTER_PROBABILITY = 0.8
DETAIL_WEIGHT = 0.1
"""Weight of the loss on the detail alone, where the network has two scales (HRDA's lambda_d)."""


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
    priors: ClassPriors | None = None
    teacher: Segmenter | None = None
    watch: Watch | None = None
    feature_distance: FeatureDistance | None = None
    target_labels: bool = False
    """Whether some of the source's crops are labelled pictures of the target."""
    source_free: bool = False
    """Whether there is no source: both crops of the pair are the target's, and the teacher labels both."""
    favour: Tensor | None = None
    """[C], see `class_mix`."""
    mixed: Mixed | None = None
    """The mixed pictures, once there are some."""
    labelled: tuple[Tensor, Tensor] | None = None
    """Logits of the source's crops, and labels [N, H, W] where these are of the target; IGNORE elsewhere."""

    @cached_property
    def from_target(self) -> Tensor | None:
        """bool [N, H, W]: pixels of the source's crops that are of the target. None in a run without."""
        if not self.target_labels:
            return None
        return self.pair.labelled_target.view(-1, 1, 1).expand_as(self.pair.source_labels)

    @cached_property
    def pseudo(self) -> PseudoLabels:
        """What the teacher says of the target crops, without weight on rows that are to be ignored."""
        assert self.teacher is not None, "the source alone needs no teacher"
        images, padding = unit_images(self.pair.target_image), self.pair.target_padding
        return label_crops(self.teacher, images, padding, self.method)

    @cached_property
    def pasted(self) -> PseudoLabels:
        """The same of the crops that are pasted from, where these are the target's too."""
        assert self.teacher is not None and self.source_free, "a source has labels"
        images, padding = unit_images(self.pair.source_image), self.pair.source_labels == IGNORE
        return label_crops(self.teacher, images, padding, self.method)


Term = Callable[[Step], dict[str, Tensor]]
"""Adds to the gradients; returns its losses by name."""


def terms_of(method: Method, iteration: int | None = None, source_free: bool = False) -> tuple[Term, ...]:
    """The terms of a step, in their order; `iteration` is its number, None stands for any late one."""
    if source_free:
        return (mixed_term,) if method.masked_consistency == 0 else (mixed_term, masked_term)
    starting = iteration is not None and iteration < method.source_start
    if not method.self_training or starting:
        return (source_term,)
    if method.masked_consistency == 0:
        return source_term, mixed_term
    return source_term, mixed_term, masked_term


def source_term(step: Step) -> dict[str, Tensor]:
    """Learn from the source crops, and from labelled pictures of the target among them, if there are some."""
    method, balance, segmenter = step.method, step.balance, step.segmenter
    labels = step.pair.source_labels.long()
    pixels = segmenter.normalise(unit_images(step.pair.source_image))
    output = step.network(pixels)
    of_source = labels if step.from_target is None else torch.where(step.from_target, IGNORE, labels)
    if balance is not None:
        balance.take_source(output.logits, of_source)
    if step.priors is not None:
        step.priors.take(SOURCE, of_source)
    if step.from_target is not None:
        step.labelled = output.logits.detach(), torch.where(step.from_target, labels, IGNORE)
        if not method.self_training:  # there will be no other pictures of the target
            _take_target(step, *step.labelled)
    table, rows = None if balance is None else balance.source_table, None
    if balance is not None and step.from_target is not None:
        table = stack_tables(balance.source_table, balance.target_so_far())
        rows = domain_rows(labels, step.from_target, segmenter.num_classes)
    losses = {"source": _cross_entropy(step, output, labels, table, rows, None, step.from_target)}
    if balance is not None and method.density_weight > 0:
        losses["source_density"] = _density(step, output, labels, torch.ones_like(labels), step.from_target)
    if step.feature_distance is not None:
        distance = step.feature_distance(output.coarsest, pixels, of_source)
        losses["feature_distance"] = method.feature_distance * distance
    return _run_backward(losses, step)


def mixed_term(step: Step) -> dict[str, Tensor]:
    """Learn from target crops with source classes pasted in, labelled by the teacher (DACS).

    Without a source, classes of other target crops are pasted, which the teacher labels as well.
    """
    method, balance, segmenter = step.method, step.balance, step.segmenter
    mixed, unpasted = _mix_target(step) if step.source_free else _mix(step)
    step.mixed = mixed
    output = step.network(segmenter.normalise(mixed.images))
    # What the teacher is not to be believed says nothing about the target either.
    own = torch.where(mixed.from_target & (mixed.weights > 0), mixed.labels, IGNORE)
    logits = output.logits.detach()
    if step.labelled is not None:
        logits, own = (torch.cat(both) for both in zip((logits, own), step.labelled, strict=True))
    _take_target(step, logits, own)
    if step.watch is not None:
        said = torch.where(unpasted, mixed.labels, IGNORE)
        step.watch.take(output.logits, said, segmenter.output_stride)
    table = rows = None
    if balance is not None and method.correct_mixed and step.source_free:
        table = balance.target_table
    elif balance is not None and method.correct_mixed:
        table = stack_tables(balance.source_table, balance.target_table)
        rows = domain_rows(mixed.labels, mixed.from_target, segmenter.num_classes)
    domains = mixed.from_target
    losses = {"mixed": _cross_entropy(step, output, mixed.labels, table, rows, mixed.weights, domains)}
    if balance is not None and method.density_weight > 0:
        losses["mixed_density"] = _density(step, output, mixed.labels, mixed.weights, domains)
    return _run_backward(losses, step) | {"confident": step.pseudo.confident.mean()}


def _take_target(step: Step, logits: Tensor, labels: Tensor) -> None:
    """Count logits and labels [N, H, W] of the target, at most once a step."""
    if step.balance is not None:
        step.balance.take_target(logits, labels)
    if step.priors is not None:
        step.priors.take(TARGET, labels)


def masked_term(step: Step) -> dict[str, Tensor]:
    """Learn to see what masks hide in target crops (MIC).

    The target's shifts correct this loss too; its logits are not counted in the statistics, since they are
    those of pictures that nobody will show the network.
    """
    method = step.method
    images = unit_images(step.pair.target_image)
    images = colour_jitter(images, method.jitter, JITTER_PROBABILITY, step.generator)
    pixels = step.segmenter.normalise(gaussian_blur(images, step.generator))
    size = (pixels.shape[0], pixels.shape[2], pixels.shape[3])
    keep = random_mask(size, method.mask_patch, method.mask_ratio, step.generator)
    output = step.network(pixels * keep.to(pixels.device))
    balance = step.balance
    table = balance.target_table if balance is not None and method.correct_mixed else None
    pseudo, domains = step.pseudo, torch.ones_like(step.pseudo.labels, dtype=torch.bool)
    loss = _cross_entropy(step, output, pseudo.labels, table, None, pseudo.weights, domains)
    # Ranks exchange gradients with the last term's backward pass: it must reach the density head as well.
    return _run_backward({"masked": method.masked_consistency * loss + 0 * output.density.sum()}, step)


def _mix(step: Step) -> tuple[Mixed, Tensor]:
    """Mixed pictures, jittered and blurred, with labels and weights; and where nothing was pasted."""
    pair, pseudo = step.pair, step.pseudo
    mixed = class_mix(
        unit_images(pair.source_image),
        pair.source_labels.long(),
        unit_images(pair.target_image),
        pseudo.labels,
        pseudo.weights,
        step.generator,
    )
    unpasted = mixed.from_target
    if step.from_target is not None:  # pasted from one picture of the target into another
        mixed = mixed._replace(from_target=mixed.from_target | step.from_target)
    return _augmented(mixed, step), unpasted


def _mix_target(step: Step) -> tuple[Mixed, Tensor]:
    """The same of two target crops: all pixels are the target's, and the teacher labelled all of them."""
    pair, pseudo, pasted = step.pair, step.pseudo, step.pasted
    mixed = class_mix(
        unit_images(pair.source_image),
        pasted.labels,
        unit_images(pair.target_image),
        pseudo.labels,
        pseudo.weights,
        step.generator,
        pasted.weights,
        step.favour,
    )
    everywhere = torch.ones_like(mixed.from_target)
    return _augmented(mixed._replace(from_target=everywhere), step), everywhere


def _augmented(mixed: Mixed, step: Step) -> Mixed:
    images = colour_jitter(mixed.images, step.method.jitter, JITTER_PROBABILITY, step.generator)
    return mixed._replace(images=gaussian_blur(images, step.generator))


def _cross_entropy(
    step: Step,
    output: TrainingOutput,
    labels: Tensor,
    table: ShiftTable | None,
    rows: Tensor | None = None,
    weights: Tensor | None = None,
    from_target: Tensor | None = None,
) -> Tensor:
    """Corrected cross-entropy; of a network with two scales, also of the detail alone."""
    if step.priors is not None:
        weights = step.priors.weigh(weights, labels, from_target)

    def loss_of(logits: Tensor, part: tuple[slice, ...]) -> Tensor:
        domains = None if from_target is None else from_target[part]
        return corrected_cross_entropy(
            logits,
            labels[part],
            table=table,
            tau=step.method.tau,
            rows=None if rows is None else rows[part],
            weights=None if weights is None else weights[part],
            offsets=None if step.priors is None else step.priors.offsets(domains),
        )

    loss = loss_of(output.logits, ())
    if output.detail is None:
        return loss
    top, left, height, width = output.detail.box
    part = (slice(None), slice(top, top + height), slice(left, left + width))
    return (1 - DETAIL_WEIGHT) * loss + DETAIL_WEIGHT * loss_of(output.detail.logits, part)


def _density(
    step: Step, output: TrainingOutput, labels: Tensor, weights: Tensor, from_target: Tensor | None
) -> Tensor:
    """lambda * density regression."""
    assert step.balance is not None
    known, stride, weights = step.balance.statistics, step.segmenter.output_stride, weights.float()
    loss = density_loss(output.density, output.logits, labels, weights, known, stride, from_target)
    return step.method.density_weight * loss


def _run_backward(losses: dict[str, Tensor], step: Step) -> dict[str, Tensor]:
    step.backward(torch.stack(list(losses.values())).sum())
    return {name: loss.detach() for name, loss in losses.items()}
