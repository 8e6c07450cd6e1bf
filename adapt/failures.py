"""Steps that cannot be taken: what is said then."""

from collections.abc import Sequence

import click
import torch

from adapt.config import Config
from adapt.pairs import Pair
from adapt.segmenter import Segmenter


class Diverged(click.ClickException):
    """The loss is not finite; the weights are those before the step."""


class OutOfMemory(click.ClickException):
    """The step does not fit into memory."""


def diverged(losses: Sequence[str], iteration: int, classes: Sequence[str]) -> Diverged:
    """What to say of losses that are not finite.

    Args:
        losses: their names.
        iteration: number of the step, from 0.
        classes: names of the classes whose logits are not finite either.
    """
    broken = "all logits are finite"
    if classes:
        broken = f"the logits of {', '.join(classes)} are not finite either"
    return Diverged(
        f"the {', '.join(losses)} loss is not finite at iteration {iteration + 1} ({broken}); the weights "
        "were not touched, and the last checkpoint is whole. Lower training.encoder_lr and "
        "training.decoder_lr, set training.clip_gradient, or use precision bf16 instead of fp16."
    )


@torch.no_grad()
def broken_classes(segmenter: Segmenter, pair: Pair) -> list[int]:
    """Classes whose logits are not finite on this batch."""
    pixels = [image.permute(0, 3, 1, 2).float() / 255 for image in (pair.source_image, pair.target_image)]
    logits = torch.cat([segmenter(segmenter.normalise(each)) for each in pixels])
    finite: list[bool] = logits.isfinite().all(dim=(0, 2, 3)).tolist()
    return [index for index, good in enumerate(finite) if not good]


def memory_advice(config: Config, iteration: int) -> str:
    """What to lower when memory runs out."""
    training, (height, width) = config.training, config.data.crop
    if training.batch > 1:
        parts = next(parts for parts in range(2, training.batch + 1) if training.batch % parts == 0)
        batch, accumulate = training.batch // parts, training.accumulate * parts
        lower = (
            f"training.batch={batch} with training.accumulate={accumulate} takes about {1 / parts:.0%} of it "
            "for the same pictures, also with --resume"
        )
    else:
        fewer = [max(32, side * 3 // 4 // 32 * 32) for side in (height, width)]
        share = fewer[0] * fewer[1] / (height * width)
        lower = f"data.crop=[{fewer[0]}, {fewer[1]}] takes about {share:.0%} of it"
    half_precision = "" if training.precision != "fp32" else ", training.precision=bf16 about 60%"
    again = "" if training.recompute_activations else ", training.recompute_activations=true about half"
    return (
        f"out of memory at iteration {iteration + 1} with batches of {training.batch} crops of "
        f"{height}x{width} in {training.precision}; the last checkpoint is whole. "
        f"{lower}{half_precision}{again}."
    )
