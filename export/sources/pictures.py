"""Pictures that a graph is checked on, or its ranges are measured with: opened as `adapt` opens its data.

That is folders of pictures, images/ with labels/, and the layouts of data sets (adapt/data/layouts.py) with
the class lists that these come with.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from adapt.data.classes import IGNORE, ClassList
from adapt.data.datasets import UnlabelledImages, open_target, read_picture
from adapt.data.domains import open_labelled
from adapt.data.finding import NotLabelledError, find_images, find_labelled
from adapt.data.images import resize_image
from adapt.errors import InputError
from export.fold.session import Labels
from export.sources.source import Source
from serve.card import Card
from serve.media.images import Image
from serve.media.whole import scratch

Item = TypeVar("Item")

MAX_FRAMES = 8
MAX_LABELLED = 32
"""Pictures with ground truth that are looked at."""
FRAMES = 200
"""Frames of a target video, evenly."""
MOST_MEASURED = 64
"""Pictures that integer ranges are measured on."""


class Pictures(NamedTuple):
    """What a graph is checked on."""

    frames: list[Image]
    words: str
    """Which they are."""
    truths: Sequence[Labels] = ()
    """Ground truth [H, W] of each frame, in the card's classes, or nothing."""


def pictures_for(card: Card, source: Source, data: Path | None, labels: bool = False) -> Pictures:
    """Pictures of a folder, of the run, or colour fields.

    Args:
        data: folder; of a data set with splits the val split is meant, unless it is inside of another.
        labels: also read its labels, if it has any.

    Raises:
        InputError: a folder without pictures, or with labels that are not complete or in other classes.
    """
    if data is not None:
        if labels and _is_labelled(data):
            return _labelled(card, data)
        return Pictures(_read(find_images(data, "val")), f"pictures of {data.resolve().name}")
    if kept := source.pictures():  # no path of this machine: the words go into files
        return Pictures(_read(kept), f"target pictures kept in {source.path.resolve().name}")
    return Pictures(synthetic_frames(card), "synthetic pictures (give real ones: --data)")


def calibration_pictures(folder: Path) -> list[Path]:
    """Up to MOST_MEASURED files of a folder or a data set's train split, evenly.

    Raises:
        InputError: there are none.
    """
    try:
        return _spread(find_images(folder, "train"), MOST_MEASURED)
    except InputError as error:
        raise InputError(
            f"--calibrate: {error.message} It takes pictures from the domain that the model will see."
        ) from error


@contextmanager
def target_pictures(target: Sequence[Path], size: tuple[int, int] | None) -> Iterator[UnlabelledImages]:
    """Unlabelled pictures of folders and videos, while they are wanted: frames are kept for as long.

    Raises:
        InputError: there is nothing to read, or something that can't be read.
    """
    with scratch() as cache:
        yield open_target(target, cache, FRAMES, size)


def classes_of(card: Card) -> ClassList:
    """A card's classes; label files that come without a class list of their own count in their order."""
    return ClassList(card.classes, tuple(range(len(card.classes))), card.palette, ignore=(IGNORE,))


def synthetic_frames(card: Card) -> list[Image]:
    """Smooth colour fields of odd sizes, when no real picture is at hand."""
    rng = np.random.default_rng(0)
    sizes = [card.size] if card.size else [(card.minimum_size + 1, card.minimum_size + 33), (192, 320)]
    coarse = [rng.integers(0, 256, (7, 9, 3), dtype=np.uint8) for _ in sizes]
    return [resize_image(colours, size) for colours, size in zip(coarse, sizes, strict=True)]


def _is_labelled(data: Path) -> bool:
    try:
        find_labelled(data, "val")
    except NotLabelledError:
        return False
    return True


def _labelled(card: Card, data: Path) -> Pictures:
    folder = open_labelled(data, classes_of(card), None)
    samples = [folder[position] for position in _spread(range(len(folder)), MAX_LABELLED)]
    words = f"labelled pictures of {data.resolve().name}"
    return Pictures([sample.image for sample in samples], words, [sample.labels for sample in samples])


def _read(paths: Sequence[Path]) -> list[Image]:
    return [read_picture(path) for path in _spread(paths, MAX_FRAMES)]


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """Up to `most` of them, evenly."""
    return [items[int(i)] for i in np.unique(np.linspace(0, len(items) - 1, most).astype(int))]
