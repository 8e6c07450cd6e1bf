"""Training pairs: a labelled source crop with an unlabelled target crop.

Where some pictures of the target are labelled, crops of theirs take the place of a share of the source's.

Pair i depends on the seed and on i alone, never on what was drawn before: a resumed run, another number of
workers or of ranks sees the same pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adapt.augmentation.augment import (
    crop_with_class,
    images_with_class,
    random_crop,
    random_flip,
    rare_class_probabilities,
    without_labels,
)
from adapt.augmentation.draws import Draws, part_shares, weighted_totals
from adapt.config.settings import Config
from adapt.data.classes import IGNORE
from adapt.data.datasets import LabelledImages, Sample, UnlabelledImages
from adapt.interruption import outlive_interrupts

RARE_CLASS_PIXELS = 3000
"""At 512x512, how many pixels of the drawn class an image should hold (DAFormer); scaled with the crop."""
CROP_SHARE = 0.5
"""Share of these that the crop itself should hold."""
DOMINANT_CLASS = 0.75
"""Crops in which one class has more of the pixels are drawn again."""


class Pair(NamedTuple):
    """One source crop and one target crop; batches put N in front. Without a source, two target crops."""

    source_image: Tensor
    """uint8 [H, W, 3] RGB; without a source, another target picture"""
    source_labels: Tensor
    """uint8 [H, W] train ids, IGNORE where pixels do not count; without a source, 0 but on padding"""
    target_image: Tensor
    """uint8 [H, W, 3] RGB; a copy of the source image in source-only training"""
    target_padding: Tensor
    """bool [H, W], pixels that pad a target picture smaller than the crop"""
    labelled_target: Tensor = torch.zeros(1, dtype=torch.bool)
    """bool, whether the source crop is in truth one of a labelled target picture"""


def unit_images(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, 3, H, W] on [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


class LabelledCrops:
    """Crops of labelled pictures, drawn evenly or by rare-class sampling (Hoyer et al. 2022).

    Args:
        pictures: they.
        class_pixels: [images, C] pixels of each class in each of them.
        crop: (height, width).
        temperature: T of rare-class sampling; None draws pictures evenly.
        weights: of each of several data sets, as in the settings; empty draws all pictures alike.
    """

    def __init__(
        self,
        pictures: LabelledImages,
        class_pixels: np.ndarray,
        crop: tuple[int, int],
        temperature: float | None,
        weights: Sequence[float | None] = (),
    ) -> None:
        self.pictures = pictures
        self.crop = crop
        shares = part_shares(weights, pictures.sizes) if weights else None
        part_of = np.repeat(np.arange(len(pictures.sizes)), pictures.sizes)
        self.draws = Draws(np.arange(len(pictures)), part_of, shares)
        self.class_probability: np.ndarray | None = None
        if temperature is not None:
            totals = weighted_totals(class_pixels, part_of, shares)
            self.class_probability = rare_class_probabilities(totals, temperature)
            self.min_pixels = RARE_CLASS_PIXELS * crop[0] * crop[1] / 512**2
            holders = images_with_class(class_pixels, int(self.min_pixels))
            self.holders = [Draws(each, part_of, shares) for each in holders]

    def draw(self, generator: np.random.Generator) -> Sample:
        """One crop."""
        if self.class_probability is None:
            sample = self.pictures[self.draws.draw(generator)]
            return random_crop(sample, self.crop, generator, DOMINANT_CLASS)
        rare = int(generator.choice(len(self.class_probability), p=self.class_probability))
        sample = self.pictures[self.holders[rare].draw(generator)]
        return crop_with_class(sample, rare, self.crop, int(self.min_pixels * CROP_SHARE), generator)


class LabelledTarget(NamedTuple):
    """Pictures of the target that have labels."""

    pictures: LabelledImages
    class_pixels: np.ndarray
    """[images, C] pixels of each class in each of them."""
    share: float
    """Of the labelled crops, how many are theirs."""


class TrainingPairs(Dataset[Pair]):
    """Endlessly many pairs, numbered from 0.

    Args:
        source: labelled pictures; None without, and then both crops of a pair are the target's.
        target: unlabelled pictures; None in source-only training.
        class_pixels: [images, C] pixels of each class in each source image; of no use without a source.
        crop: (height, width).
        rare_class_temperature: T of rare-class sampling; None draws source images evenly.
        seed: of all draws.
        source_weights: of each of several sources, as in the settings; empty draws all pictures alike.
        target_weights: the same of the targets.
        labelled: pictures of the target that have labels.
    """

    def __init__(
        self,
        source: LabelledImages | None,
        target: UnlabelledImages | None,
        class_pixels: np.ndarray | None,
        *,
        crop: tuple[int, int],
        rare_class_temperature: float | None,
        seed: int,
        source_weights: Sequence[float | None] = (),
        target_weights: Sequence[float | None] = (),
        labelled: LabelledTarget | None = None,
    ) -> None:
        self.target = target
        self.crop = crop
        self.seed = seed
        self.source_crops: LabelledCrops | None = None
        if source is not None and class_pixels is not None:
            temperature = rare_class_temperature
            self.source_crops = LabelledCrops(source, class_pixels, crop, temperature, source_weights)
        if target is not None:
            of_target = part_shares(target_weights, target.sizes) if target_weights else None
            part_of = np.repeat(np.arange(len(target.sizes)), target.sizes)
            self.target_draws = Draws(np.arange(len(target)), part_of, of_target)
        self.target_crops: LabelledCrops | None = None
        self.share = 0.0
        if labelled is not None:
            pictures, pixels, self.share = labelled
            self.target_crops = LabelledCrops(pictures, pixels, crop, rare_class_temperature)

    def __getitem__(self, index: int) -> Pair:
        generator = np.random.default_rng([self.seed, index])
        crops = self.source_crops
        # Without labels of the target nothing is drawn here, and pairs are those that they were.
        if self.target_crops is not None and generator.random() < self.share:
            crops = self.target_crops
        source = self._target_crop(generator) if crops is None else _flipped(crops, generator)
        target = source if self.target is None else self._target_crop(generator)
        arrays = (source.image, source.labels, target.image, target.labels == IGNORE)
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        tensors.append(torch.tensor(crops is not None and crops is self.target_crops))
        return Pair(*tensors)

    def _target_crop(self, generator: np.random.Generator) -> Sample:
        assert self.target is not None
        image = self.target[self.target_draws.draw(generator)]
        return random_flip(random_crop(without_labels(image), self.crop, generator), generator)


def _flipped(crops: LabelledCrops, generator: np.random.Generator) -> Sample:
    return random_flip(crops.draw(generator), generator)


def new_loader(
    pairs: TrainingPairs, config: Config, first: int, rank: int, ranks: int, pin_memory: bool
) -> DataLoader[Pair]:
    """Batches from iteration `first` to the last, `training.accumulate` each.

    Args:
        pairs: all of them.
        config: batch, accumulate, iterations, workers.
        first: iterations done.
        rank: of the `ranks` processes, which share out consecutive batches.
        pin_memory: whether batches go to a GPU.
    """
    training = config.training
    numbers = range(first * training.accumulate, training.iterations * training.accumulate)
    starts = ((i * ranks + rank) * training.batch for i in numbers)
    indices = [range(start, start + training.batch) for start in starts]
    return DataLoader(
        pairs,
        batch_sampler=indices,  # type: ignore[arg-type]
        num_workers=config.data.workers,
        worker_init_fn=outlive_interrupts,
        pin_memory=pin_memory,
    )


@dataclass(frozen=True)
class Domains:
    """The data of a run, opened and checked."""

    source: LabelledImages | None
    """None in a training on the target alone."""
    target: UnlabelledImages | None
    """None only in source-only training without statistics."""
    evaluation: LabelledImages | None
    pairs: TrainingPairs
    labelled: LabelledImages | None = None
    """Pictures of the target that have labels, where some were given to train on."""

    @property
    def names(self) -> list[str]:
        """Of all pictures that are trained on."""
        parts = (self.source, self.target, self.labelled)
        return [name for part in parts if part is not None for name in part.names]
