"""What a training without a source begins with: the model, set to the target before a step is taken.

Two things that need no labels, and no step. Of batch normalisation, with mu and v the mean and the variance
of the target's pictures at each layer, the running statistics become

    (1 - w) * theirs + w * (mu, v),    w = `method.start_norms`    (AdaBN, Li et al. 2016; a share of it,
                                                                    Schneider et al. 2020, section 3)

and stay so in training, for student and teacher: batches of a few crops would not describe the target, and
without a source nothing else holds them. Then, of the classifier's bias b, with pi[l] the mean over the
target of the network's softmax,

    b[l] <- b[l] - t * log pi[l],    t = `method.start_adjustment`    (post-hoc logit adjustment,
                                             Menon et al. 2021, by the prior of arXiv 2412.16540)

so that what the model gives to rare classes too rarely is there to be learned from: the teacher labels with
it from the first picture on.
"""

import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from adapt.config.settings import Config
from adapt.data.datasets import UnlabelledImages
from adapt.errors import InputError
from adapt.evaluation.baselines import ShareCount
from adapt.evaluation.prediction import picture_logits
from adapt.model.segmenter import Norm, Segmenter

PICTURES = 64
"""Of the target, evenly spread."""
LEAST = 1e-3
"""Share of a class below which it is raised no further: it may not be there at all."""


def set_to_target(
    segmenter: Segmenter, target: UnlabelledImages, config: Config, device: torch.device
) -> None:
    """Change batch normalisation and the classifier's bias as above, in place; the mode is restored.

    Args:
        segmenter: the model; on its own device again afterwards.
        target: pictures.
        config: how far, and how many pictures are seen at a time.
        device: where.
    """
    was_training, home = segmenter.training, next(segmenter.parameters()).device
    method = config.method
    segmenter.eval().to(device)
    if method.start_norms > 0:
        _blend_norms(segmenter, target, method.start_norms, max(2, config.training.batch))
    if method.start_adjustment > 0:
        _adjust(segmenter, target, method.start_adjustment)
    segmenter.train(was_training).to(home)


@torch.no_grad()
def _blend_norms(segmenter: Segmenter, target: UnlabelledImages, share: float, batch: int) -> None:
    norms = [module for module in segmenter.modules() if isinstance(module, Norm)]
    norms = [norm for norm in norms if norm.running_mean is not None]
    before = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    failed: Exception | None = None
    try:
        for images in _batches(target, batch) if norms else ():
            segmenter.logits(images.to(next(segmenter.parameters()).device))
    except (RuntimeError, ValueError) as error:  # one value per channel has no variance
        failed = error
        print(f"batch normalisation stays as it is ({' '.join(str(error).split())[:120]}).", file=sys.stderr)
    for norm, buffers, momentum in zip(norms, before, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        for name, buffer in norm.named_buffers():
            blends = failed is None and name in ("running_mean", "running_var")
            buffer.copy_(buffers[name].lerp(buffer, share) if blends else buffers[name])


def _batches(target: UnlabelledImages, size: int) -> Iterator[Tensor]:
    """uint8 [N, H, W, 3], N at most `size`, pictures of one shape together; alone only if none is like it."""
    kept: dict[tuple[int, ...], list[np.ndarray]] = {}
    for index in _evenly(len(target)):
        image = target[index]
        alike = kept.setdefault(image.shape, [])
        alike.append(image)
        if len(alike) == size:
            yield torch.from_numpy(np.stack(alike))
            alike.clear()
    for rest in kept.values():
        if rest:
            yield torch.from_numpy(np.stack(rest))


def _evenly(count: int) -> list[int]:
    return [int(index) for index in np.linspace(0, count - 1, min(PICTURES, count))]


@torch.no_grad()
def _adjust(segmenter: Segmenter, target: UnlabelledImages, strength: float) -> None:
    bias = None if segmenter.classifier is None else segmenter.classifier.bias
    if bias is None:
        print(
            "the model has no single classifier with a bias, so its classes begin as they are, unadjusted.",
            file=sys.stderr,
        )
        return
    count = ShareCount(segmenter.num_classes)
    for index in _evenly(len(target)):
        image = target[index]
        count.add(picture_logits(segmenter, image), segmenter.output_stride, image.shape[:2])
    try:
        shares = count.shares().softmax
    except InputError:  # no pixel with finite logits: the training will say so
        return
    bias -= strength * shares.clamp_min(LEAST).log().to(bias)
