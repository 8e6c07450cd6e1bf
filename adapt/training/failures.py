"""Steps that cannot be taken: what is said then."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import click
import torch

from adapt.augmentation.pairs import Pair
from adapt.config.settings import Config, Training, with_assignments
from adapt.errors import InputError
from adapt.model.segmenter import Segmenter
from adapt.training.checks import check_machine, check_network

SHARE_OF_HALF, SHARE_RECOMPUTED = 0.6, 0.5
"""Memory of mixed precision, and of recomputed activations, of what it is without."""
NOTHING_LEFT = (
    "Nothing is left to lower in these settings: take a smaller network (model.encoder, model.width) in a "
    "new run, or a device with more memory."
)


class Diverged(click.ClickException):
    """The loss is not finite; the weights are those before the step."""


class OutOfMemory(click.ClickException):
    """The step does not fit into memory."""


@contextmanager
def within_memory(config: Config, iteration: int, segmenter: Segmenter) -> Iterator[None]:
    """Turn what a device says that has no memory left into advice; arguments as of `memory_advice`.

    Raises:
        OutOfMemory: there is not enough.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(memory_advice(config, iteration, segmenter)) from error


def check_finite(
    losses: Mapping[str, float],
    iteration: int,
    segmenter: Segmenter,
    pairs: Sequence[Pair],
    names: Sequence[str],
    training: Training,
) -> None:
    """Stop before a step that would spoil the weights.

    Args:
        losses: by name.
        iteration: number of the step, from 0.
        segmenter: the network.
        pairs: the step's batches.
        names: of the classes.
        training: the run's settings.

    Raises:
        Diverged: a loss is not finite.
    """
    wrong = [name for name, value in losses.items() if not math.isfinite(value)]
    if wrong:
        broken = sorted({c for pair in pairs for c in broken_classes(segmenter, pair)})
        raise diverged(wrong, iteration, [names[c] for c in broken], training)


def diverged(losses: Sequence[str], iteration: int, classes: Sequence[str], training: Training) -> Diverged:
    """What to say of losses that are not finite.

    Args:
        losses: their names.
        iteration: number of the step, from 0.
        classes: names of the classes whose logits are not finite either.
        training: the run's settings.
    """
    broken = "all logits are finite"
    if classes:
        broken = f"the logits of {', '.join(classes)} are not finite either"
    clip = "set training.clip_gradient"
    if training.clip_gradient is not None:
        clip = f"lower training.clip_gradient from {training.clip_gradient:g}"
    precise = ", or training.precision=bf16 instead of fp16" if training.precision == "fp16" else ""
    return Diverged(
        f"the {', '.join(losses)} loss is not finite at iteration {iteration + 1} ({broken}); the weights "
        f"were not touched, and the last checkpoint is whole. With --resume, {clip}{precise}; or lower "
        "training.encoder_lr and training.decoder_lr in a new run."
    )


@torch.no_grad()
def broken_classes(segmenter: Segmenter, pair: Pair) -> list[int]:
    """Classes whose logits are not finite on this batch."""
    pixels = [image.permute(0, 3, 1, 2).float() / 255 for image in (pair.source_image, pair.target_image)]
    logits = torch.cat([segmenter(segmenter.normalise(each)) for each in pixels])
    finite: list[bool] = logits.isfinite().all(dim=(0, 2, 3)).tolist()
    return [index for index, good in enumerate(finite) if not good]


def memory_advice(config: Config, iteration: int, segmenter: Segmenter) -> str:
    """What to lower when memory runs out: only what a run would be accepted with.

    Args:
        config: the run's settings.
        iteration: number of the step, from 0.
        segmenter: the network.
    """
    training, (height, width) = config.training, config.data.crop
    ways = (_splits(training.batch, training.accumulate), _precisions(config), _recomputation(config))
    lower = [way for each in ways if (way := _accepted(config, each, segmenter))]
    advice = [f"with --resume RUN and --set, {'; '.join(way.says for way in lower)}"] if lower else []
    if not any(way.assignments[0].startswith("training.batch") for way in lower):
        crop = _accepted(config, _smaller_crops(config.data.crop, segmenter.stride), segmenter)
        advice += [f"in a new run, since a run keeps its crop, {crop.says}"] if crop else []
    what = f"What takes less: {'; or '.join(advice)}." if advice else NOTHING_LEFT
    return (
        f"out of memory at iteration {iteration + 1} with batches of {training.batch} crops of "
        f"{height}x{width} in {training.precision}; the last checkpoint is whole. {what}"
    )


class Way(NamedTuple):
    """Settings that take less memory."""

    assignments: tuple[str, ...]
    says: str
    """What is said of them."""


def _splits(batch: int, accumulate: int) -> list[Way]:
    """The same pictures in smaller batches, the largest of them first."""
    found = []
    for parts in range(2, batch + 1):
        if batch % parts == 0:
            sets = (f"training.batch={batch // parts}", f"training.accumulate={accumulate * parts}")
            says = f"{' with '.join(sets)} takes about {1 / parts:.0%} of it for the same pictures"
            found.append(Way(sets, says))
    return found


def _precisions(config: Config) -> list[Way]:
    kinds = ("bf16", "fp16") if config.training.precision == "fp32" else ()
    sets = [f"training.precision={kind}" for kind in kinds]
    return [Way((each,), f"{each} takes about {SHARE_OF_HALF:.0%}") for each in sets]


def _recomputation(config: Config) -> list[Way]:
    way = "training.recompute_activations=true"
    return (
        []
        if config.training.recompute_activations
        else [Way((way,), f"{way} takes about {SHARE_RECOMPUTED:.0%}")]
    )


def _smaller_crops(crop: tuple[int, int], stride: int) -> list[Way]:
    """About three quarters of both sides, or of one, in multiples of the stride; the smallest first."""
    low = [max(stride, side * 3 // 4 // stride * stride) for side in crop]
    found = []
    for height, width in ((low[0], low[1]), (low[0], crop[1]), (crop[0], low[1])):
        share = height * width / (crop[0] * crop[1])
        if share < 1:
            setting = f"data.crop=[{height}, {width}]"
            found.append(Way((setting,), f"{setting} takes about {share:.0%} of it"))
    return found


def _accepted(config: Config, ways: list[Way], segmenter: Segmenter) -> Way | None:
    """The first one that a run would be accepted with."""
    for way in ways:
        try:
            advised = with_assignments(config, way.assignments)
            check_machine(advised)
            check_network(advised, segmenter)
        except InputError:
            continue
        return way
    return None
