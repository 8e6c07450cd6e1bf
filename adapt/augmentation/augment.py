"""Augmentation: pure functions whose only randomness is the generator they are given.

First the host's side, one sample at a time on uint8 arrays (numpy.random.Generator): crops, flips, padding
and the choice of rare classes. Then the device's side, on batches (torch.Generator): ClassMix, colour jitter
and blur. Random numbers are drawn on the torch generator's own device, so a CPU generator gives the same
batch on any device.

Shapes: N batch, C classes, H and W pixels; size is always (height, width).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapt.data.classes import IGNORE
from adapt.data.datasets import Sample

Size = tuple[int, int]
_CROP_TRIES = 10


def without_labels(image: np.ndarray) -> Sample:
    """An unlabelled image as a sample, so that crops treat both alike: label 0 throughout.

    After padding, labels == IGNORE therefore marks the pixels that are no picture.
    """
    return Sample(image, np.zeros(image.shape[:2], np.uint8))


def pad(sample: Sample, size: Size) -> Sample:
    """Grow to at least `size` at the bottom and right: black pixels, labels IGNORE."""
    bottom = max(0, size[0] - sample.labels.shape[0])
    right = max(0, size[1] - sample.labels.shape[1])
    if bottom == right == 0:
        return sample
    return Sample(
        np.pad(sample.image, ((0, bottom), (0, right), (0, 0))),
        np.pad(sample.labels, ((0, bottom), (0, right)), constant_values=IGNORE),
    )


def random_crop(
    sample: Sample, size: Size, generator: np.random.Generator, cat_max_ratio: float = 1.0
) -> Sample:
    """A window of `size`, uniform in position; small samples are padded first.

    cat_max_ratio: a window in which one class has more than this share of the labelled pixels is drawn again,
    up to ten times (0.75 is the field's custom: crops of nothing but road teach little).
    """
    sample = pad(sample, size)
    for _ in range(_CROP_TRIES):
        crop = _window(sample, size, *_random_corner(sample, size, generator))
        if cat_max_ratio >= 1 or _dominant_share(crop.labels) <= cat_max_ratio:
            break
    return crop


def crop_with_class(
    sample: Sample, class_id: int, size: Size, min_pixels: int, generator: np.random.Generator
) -> Sample:
    """A window of `size` with at least min_pixels of the class, or the best of ten (as in DAFormer).

    Every window is drawn around a random pixel of the class: DAFormer draws blindly and may miss the class in
    all ten. A sample without the class gives a plain random crop.
    """
    sample = pad(sample, size)
    rows, columns = np.nonzero(sample.labels == class_id)
    if len(rows) == 0:
        return random_crop(sample, size, generator)
    best, most = sample, -1
    for _ in range(_CROP_TRIES):
        pixel = generator.integers(len(rows))
        corner = _random_corner(sample, size, generator, (int(rows[pixel]), int(columns[pixel])))
        crop = _window(sample, size, *corner)
        found = int(np.count_nonzero(crop.labels == class_id))
        if found > most:
            best, most = crop, found
        if found >= min_pixels:
            break
    return best


def random_flip(sample: Sample, generator: np.random.Generator) -> Sample:
    """Mirrored left to right with probability one half."""
    if generator.random() < 0.5:
        return sample
    return Sample(np.ascontiguousarray(sample.image[:, ::-1]), np.ascontiguousarray(sample.labels[:, ::-1]))


def rare_class_probabilities(class_pixels: np.ndarray, temperature: float) -> np.ndarray:
    """How often to sample each class: softmax((1 - f) / T), f its share of pixels (DAFormer, section 3.3).

    class_pixels: [C], over the whole data set.  temperature: T > 0; smaller means rarer classes more often.
    Returns float64 [C] with sum 1; a class without a pixel gets 0.
    """
    share = class_pixels / class_pixels.sum()
    exponent = np.where(class_pixels > 0, (1 - share) / temperature, -np.inf)
    weight = np.exp(exponent - exponent.max())
    return np.asarray(weight / weight.sum())


def images_with_class(class_pixels: np.ndarray, min_pixels: int) -> list[np.ndarray]:
    """For each class, the indices of the images that hold at least min_pixels of it.

    class_pixels: [images, C].  A class that reaches min_pixels nowhere gets the images that hold any of it.
    """
    chosen = []
    for pixels in class_pixels.T:
        enough = np.flatnonzero(pixels >= max(1, min_pixels))
        chosen.append(enough if len(enough) else np.flatnonzero(pixels))
    return chosen


class Mixed(NamedTuple):
    """Target images with source classes pasted in.

    images [N, 3, H, W], labels [N, H, W] and weights float [N, H, W]: the source's (weight 1) where pasted,
    else the target's.  from_target: bool [N, H, W], the pixels that are still the target's.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor
    from_target: Tensor


def class_mix(
    source_images: Tensor,
    source_labels: Tensor,
    target_images: Tensor,
    pseudo_labels: Tensor,
    weights: Tensor,
    generator: torch.Generator,
    source_weights: Tensor | None = None,
    favour: Tensor | None = None,
) -> Mixed:
    """ClassMix (Olsson et al. 2021) as in DACS: half of a source image's classes, rounded up, are pasted.

    Image n of the source is pasted on image n of the target. Ignored source pixels never are.
    source_images, target_images: [N, 3, H, W].  source_labels, pseudo_labels: [N, H, W] train ids.
    weights: float [N, H, W], of the pseudo-labels.
    source_weights: of the source's labels, where these are pseudo-labels too; None is 1.
    favour: [C] above 0. Classes are drawn one after the other without being put back, each with a probability
        in proportion to it (Efraimidis and Spirakis 2006); None draws all alike.
    """
    ids = source_labels.flatten(1).long()
    present = torch.zeros(len(ids), IGNORE + 1, dtype=torch.bool, device=ids.device)
    present.scatter_(1, ids, True)
    present[:, IGNORE] = False
    half = (present.sum(dim=1, keepdim=True) + 1) // 2
    # each class draws a number; the present ones with the highest are pasted
    draw = torch.rand(present.shape, generator=generator, device=generator.device).to(ids.device)
    if favour is not None:
        draw[:, : len(favour)] **= 1 / favour
    rank = torch.where(present, draw, -1.0).argsort(dim=1, descending=True).argsort(dim=1)
    pasted = (present & (rank < half)).gather(1, ids).view(source_labels.shape)
    return Mixed(
        images=torch.where(pasted[:, None], source_images, target_images),
        labels=torch.where(pasted, source_labels, pseudo_labels),
        weights=torch.where(
            pasted, torch.ones_like(weights) if source_weights is None else source_weights, weights
        ),
        from_target=~pasted,
    )


def colour_jitter(images: Tensor, strength: float, probability: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue of each image changed at random, with the given probability.

    images: float [N, 3, H, W] RGB in [0, 1]; so is the result.
    strength: s in [0, 0.5]. Brightness moves by up to s, contrast and saturation by factors in [1 - s, 1 +
    s], hue by up to s of a full turn (DAFormer: s = 0.2, probability 0.2).
    """
    from kornia import enhance

    chosen = _chosen(images, probability, generator)
    if len(chosen) == 0:
        return images
    draws = torch.rand(4, len(chosen), generator=generator, device=generator.device).to(images)
    brightness, contrast, saturation, hue = (2 * draws - 1) * strength
    with _own_precision(images):
        jittered = enhance.adjust_brightness(images[chosen], brightness)
        jittered = enhance.adjust_contrast_with_mean_subtraction(jittered, 1 + contrast)
        jittered = enhance.adjust_saturation_with_gray_subtraction(jittered, 1 + saturation)
        jittered = enhance.adjust_hue(jittered, 2 * torch.pi * hue)
    return images.index_copy(0, chosen, jittered.clamp(0, 1))


def gaussian_blur(
    images: Tensor,
    generator: torch.Generator,
    probability: float = 0.5,
    sigmas: tuple[float, float] = (0.15, 1.15),
) -> Tensor:
    """Each image blurred with the given probability, by a sigma (pixels) uniform in `sigmas`.

    images: float [N, 3, H, W] in [0, 1]; so is the result. Both sides must exceed 4 * the largest sigma.
    """
    from kornia.filters import gaussian_blur2d

    chosen = _chosen(images, probability, generator)
    if len(chosen) == 0:
        return images
    low, high = sigmas
    draws = torch.rand(len(chosen), 1, generator=generator, device=generator.device).to(images)
    sigma = (low + (high - low) * draws).expand(-1, 2)
    width = 2 * max(1, int(4 * high)) + 1
    with _own_precision(images):
        return images.index_copy(0, chosen, gaussian_blur2d(images[chosen], (width, width), sigma))


def _own_precision(images: Tensor) -> torch.autocast:
    """Mixed precision is for the network: a picture rounded to bfloat16 has 8 bits left, and another type."""
    return torch.autocast(images.device.type, enabled=False)


def _chosen(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Indices of the images that the dice pick."""
    draw = torch.rand(len(images), generator=generator, device=generator.device)
    return (draw < probability).nonzero().flatten().to(images.device)


def _random_corner(
    sample: Sample, size: Size, generator: np.random.Generator, around: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Top and left of a window inside the sample, uniform over all or over those that cover `around`."""
    corner = []
    for axis in (0, 1):
        low, high = 0, sample.labels.shape[axis] - size[axis]
        if around is not None:
            low, high = max(low, around[axis] - size[axis] + 1), min(high, around[axis])
        corner.append(int(generator.integers(low, high, endpoint=True)))
    return corner[0], corner[1]


def _window(sample: Sample, size: Size, top: int, left: int) -> Sample:
    window = np.s_[top : top + size[0], left : left + size[1]]
    return Sample(sample.image[window], sample.labels[window])


def _dominant_share(labels: np.ndarray) -> float:
    """Share of the most frequent class among the labelled pixels (0 where none is labelled)."""
    pixels = np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE]
    return float(pixels.max() / max(1, pixels.sum()))


def random_mask(size: tuple[int, int, int], patch: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Squares to keep: bool [N, 1, H, W].

    Args:
        size: N, H, W.
        patch: side of a square in pixels; the last ones of a row or column are cut.
        ratio: probability that a square is masked.
        generator: of the draws, on its own device.
    """
    number, height, width = size
    grid = (number, 1, -(-height // patch), -(-width // patch))
    keep = torch.rand(grid, generator=generator, device=generator.device) >= ratio
    squares = keep.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return squares[:, :, :height, :width]
