"""What a look at one picture tells: size, light and colour, and which classes its labels hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from adapt.data.datasets import LabelledImages, LabelledPart, count_labels, read_all, read_picture
from adapt.data.frames import sample_frames
from adapt.data.label_codes import IGNORE, UnknownLabels
from adapt.errors import InputError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601), on values as they are stored."""


class Look(NamedTuple):
    """One picture."""

    path: Path
    size: tuple[int, int]
    """Height and width in pixels."""
    color: tuple[float, float, float]
    """Mean red, green and blue, in [0, 1]."""
    class_pixels: tuple[int, ...] = ()
    """[C], of labelled pictures."""
    ignored: int = 0
    """Pixels of its labels that do not count."""

    @property
    def brightness(self) -> float:
        """In [0, 1]."""
        return float(np.dot(self.color, LUMA))


class Fault(NamedTuple):
    """A file that cannot be used, and why."""

    path: Path
    why: str


class Looked(NamedTuple):
    """What looking at some files of a data set found."""

    looks: list[Look]
    damaged: list[Fault]
    """Files that cannot be read, or that do not fit their labels."""
    unknown: list[tuple[int, UnknownLabels]]
    """Positions of label files with values that nothing names."""


def spread(count: int, most: int | None) -> list[int]:
    """Up to `most` of the positions 0 … count - 1, evenly spread; all of them where `most` is None."""
    if most is None or count <= most:
        return list(range(count))
    return [int(position) for position in np.linspace(0, count - 1, most).round()]


def mean_color(image: np.ndarray) -> tuple[float, float, float]:
    """Of uint8 [H, W, 3] RGB; in [0, 1]."""
    red, green, blue, _ = (channel / 255 for channel in cv2.mean(image))
    return red, green, blue


def look_at_labelled(part: LabelledPart, dataset: LabelledImages, most: int | None) -> Looked:
    """Look at up to `most` pictures of a data set with their labels, at the sizes that the files have.

    dataset: that the part belongs to, for its classes.
    """
    chosen = spread(len(part.found.images), most)
    sample = only(part, dataset, chosen)

    def look(index: int) -> Look:
        image, labels = sample[index]
        pixels = count_labels(labels)
        counted = tuple(pixels[: len(sample.classes)].tolist())
        path = sample.image_paths[index]
        return Look(path, image.shape[:2], mean_color(image), counted, int(pixels[IGNORE]))

    found = read_all(look, len(sample), "looking at labels", leave=False)
    damaged = [
        Fault(_blamed(error, sample, index), error.message)
        for index, error in enumerate(found)
        if isinstance(error, InputError) and not isinstance(error, UnknownLabels)
    ]
    unknown = [(chosen[i], error) for i, error in enumerate(found) if isinstance(error, UnknownLabels)]
    return Looked([each for each in found if isinstance(each, Look)], damaged, unknown)


def only(part: LabelledPart, dataset: LabelledImages, positions: Sequence[int]) -> LabelledImages:
    """Some pictures of one data set, as large as they are."""
    found = part.found
    few = found._replace(
        images=[found.images[i] for i in positions], labels=[found.labels[i] for i in positions]
    )
    return LabelledImages([LabelledPart(few, part.code)], dataset.classes)


def _blamed(error: InputError, sample: LabelledImages, index: int) -> Path:
    """The label file if the message names it alone, else the picture."""
    picture, labels = sample.image_paths[index], sample.label_paths[index]
    return labels if str(labels) in error.message and str(picture) not in error.message else picture


def look_at_pictures(paths: Sequence[Path], most: int | None) -> Looked:
    """Look at up to `most` unlabelled pictures."""
    chosen = [paths[position] for position in spread(len(paths), most)]

    def look(index: int) -> Look:
        image = read_picture(chosen[index])
        return Look(chosen[index], image.shape[:2], mean_color(image))

    found = read_all(look, len(chosen), "looking at pictures", leave=False)
    damaged = [
        Fault(path, each.message)
        for path, each in zip(chosen, found, strict=True)
        if isinstance(each, InputError)
    ]
    return Looked([each for each in found if isinstance(each, Look)], damaged, [])


def look_at_video(video: Path, frames: int) -> Looked:
    """Look at up to `frames` frames of a video, evenly spread."""
    try:
        looks = [Look(video, image.shape[:2], mean_color(image)) for image in sample_frames(video, frames)]
    except InputError as error:
        return Looked([], [Fault(video, error.message)], [])
    return Looked(looks, [], [])
