"""Source and target readers: labelled and unlabelled pictures, in folders and in videos.

Which files belong to a data set is told by its layout (adapt/data/finding.py); label files hold ids or
colours, whose meaning is a LabelCode (adapt/data/label_codes.py). Sizes may differ between images; an image
and its labels must agree.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapt.data.classes import ClassList
from adapt.data.exports.huggingface import is_stored, read_stored_image
from adapt.data.finding import find_images, find_labelled
from adapt.data.folders.target import find_target
from adapt.data.frames import extract_frames
from adapt.data.images import resize_image, resize_labels
from adapt.data.label_codes import IGNORE, LabelCode, UnknownLabels
from adapt.data.layouts.patterns import Labelled
from adapt.data.layouts.splits import Split
from adapt.data.values.unknown import describe_unknown
from adapt.errors import InputError
from serve.media.images import read_image
from serve.media.progress import Bar

_SHOWN = 3  # files an error message names before it says how many more there are


class Sample(NamedTuple):
    """image: uint8 [H, W, 3] RGB.  labels: uint8 [H, W] train ids, IGNORE where pixels do not count."""

    image: np.ndarray
    labels: np.ndarray


class LabelReport(NamedTuple):
    """What reading all labels found.

    class_pixels: int64 [images, C], how many pixels of each class each image has.
    ignored: int64 [images], how many that do not count.
    """

    class_pixels: np.ndarray
    ignored: np.ndarray


class UnlabelledImages:
    """Images read on demand.

    paths: the files.  size: (height, width) to resize to, or None to keep each image's own.
    sizes: how many of them each of several targets has, in order; None if there is one.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: tuple[int, int] | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        self.paths = list(paths)
        self.size = size
        self._sizes = sizes

    @property
    def sizes(self) -> list[int]:
        """How many images each target has, in order."""
        return [len(self)] if self._sizes is None else list(self._sizes)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        """File stems, in the order of the items."""
        return [path.stem for path in self.paths]

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3] RGB. Raises InputError, naming the file, if it cannot be read."""
        image = read_picture(self.paths[index])
        return image if self.size is None else resize_image(image, self.size)


class UnlabelledFolder(UnlabelledImages):
    """The images of the data set in a folder, or else those that lie in the folder itself.

    Of a data set with splits the train split is meant, unless the folder is inside of it.
    Raises InputError if the folder is missing or holds no images.
    """

    def __init__(self, root: str | Path, size: tuple[int, int] | None = None) -> None:
        super().__init__(find_images(Path(root), "train"), size)


class LabelledPart(NamedTuple):
    """A data set, and what the values in its label files mean."""

    found: Labelled
    code: LabelCode


class LabelledImages:
    """The images and labels of one data set or of several, one after the other.

    parts: the data sets; at least one.
    classes: the classes to count in.
    size: (height, width) to resize to (images by averaging or bilinear, labels to the nearest), or None.
    keep_labels: leave the labels as large as their files are, whatever `size` makes of the images.
    """

    def __init__(
        self,
        parts: Sequence[LabelledPart],
        classes: ClassList,
        size: tuple[int, int] | None = None,
        keep_labels: bool = False,
    ) -> None:
        self.parts = list(parts)
        self.classes = classes
        self.size = size
        self.keep_labels = keep_labels
        self.image_paths = [path for part in parts for path in part.found.images]
        self.label_paths = [path for part in parts for path in part.found.labels]
        self.names = [path.stem for path in self.image_paths]
        self._ends = list(accumulate(len(part.found.images) for part in parts))

    @property
    def sizes(self) -> list[int]:
        """How many images each data set has, in order."""
        if len(self.parts) == 1:
            return [len(self)]
        return [len(part.found.images) for part in self.parts]

    def __len__(self) -> int:
        return len(self.names)

    def part(self, index: int) -> LabelledPart:
        """The data set that an image belongs to."""
        return self.parts[bisect_right(self._ends, index)]

    def values(self, index: int) -> np.ndarray:
        """What the label file of an image holds. Raises InputError if it cannot be read."""
        return self.part(index).found.kind.read(self.label_paths[index])

    def __getitem__(self, index: int) -> Sample:
        """Raises InputError if a file cannot be read or sizes differ, UnknownLabels if a value is unknown."""
        image = read_picture(self.image_paths[index])
        path = self.label_paths[index]
        values = self.values(index)
        if image.shape[:2] != values.shape[:2]:
            raise InputError(
                f"{self.image_paths[index]} is {image.shape[1]}x{image.shape[0]} pixels but its labels "
                f"{path} are {values.shape[1]}x{values.shape[0]}; both must have the same size."
            )
        try:
            labels = self.part(index).code.encode(values)
        except UnknownLabels as unknown:
            raise UnknownLabels(unknown.counts, str(path), unknown.book) from None
        if self.size is None:
            return Sample(image, labels)
        if not self.keep_labels:
            labels = resize_labels(labels, self.size)
        return Sample(resize_image(image, self.size), labels)


class LabelledFolder(LabelledImages):
    """The images and labels of the data set in a folder.

    root: the folder.
    classes, size, keep_labels: as of `LabelledImages`.
    code: what the label files' values mean in these classes; by default what the class list says.
    split: what is meant of a data set with splits, unless the folder is inside of it.
    Raises InputError if a folder is missing or empty, or if images and labels do not pair up.
    """

    def __init__(
        self,
        root: str | Path,
        classes: ClassList,
        size: tuple[int, int] | None = None,
        *,
        code: LabelCode | None = None,
        split: Split = "train",
        keep_labels: bool = False,
    ) -> None:
        found = find_labelled(Path(root), split)
        part = LabelledPart(found, classes.code if code is None else code)
        super().__init__([part], classes, size, keep_labels)


def read_picture(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB of a picture file, or of a picture in a file of rows. Raises InputError."""
    return read_stored_image(path) if is_stored(path) else read_image(path)


def open_target(
    paths: Sequence[Path], cache: Path, frames: int, size: tuple[int, int] | None = None
) -> UnlabelledImages:
    """The unlabelled target: folders of images and video files, as many as there are, one after the other.

    paths: the folders and videos.
    cache: folder for decoded frames (kept, and used again while a video and the settings are unchanged).
    frames: how many to take from each video, spread evenly over its time.
    size: (height, width) to resize to, or None.
    Raises InputError if there is nothing to read, or something cannot be read.
    """
    if not paths or frames < 1:
        raise InputError(
            "The target has no frames; give a folder of images or videos, and at least 1 frame per video."
        )
    images: list[Path] = []
    sizes = []
    for part in find_target(paths):
        before = len(images)
        images += part.pictures
        for video in part.videos:
            images += extract_frames(video, cache, frames, size)
        sizes.append(len(images) - before)
    return UnlabelledImages(images, size, sizes)


def check_labels(dataset: LabelledImages, workers: int = 4) -> LabelReport:
    """Read every image and its labels once, with progress, and count each class's pixels (after resizing).

    Raises InputError if label files hold unknown values (says which files hold which, and what these look
    like), if files cannot be read or sizes differ, or if no pixel at all belongs to a class.
    """

    outcomes = read_all(
        lambda index: count_labels(dataset[index].labels), len(dataset), "checking labels", workers
    )
    unknown = [(i, outcome) for i, outcome in enumerate(outcomes) if isinstance(outcome, UnknownLabels)]
    if unknown:
        paths = [dataset.label_paths[index] for index, _ in unknown[:_SHOWN]]
        labels = [dataset.values(index) for index, _ in unknown[:_SHOWN]]
        code = dataset.part(unknown[0][0]).code
        raise InputError(describe_unknown([p for _, p in unknown], paths, labels, code, len(dataset)))
    _raise_first(outcomes, dataset.label_paths)
    pixels = np.stack([o for o in outcomes if isinstance(o, np.ndarray)]).astype(np.int64)
    class_pixels = pixels[:, : len(dataset.classes)]
    if not class_pixels.any():
        raise InputError(
            f"No pixel in {dataset.label_paths[0].parent} belongs to a class: all of them are ignored."
        )
    return LabelReport(class_pixels, pixels[:, IGNORE])


def count_labels(labels: np.ndarray) -> np.ndarray:
    """int64 [256]: pixels of each train id in uint8 [H, W], those that do not count at IGNORE."""
    return np.bincount(labels.ravel(), minlength=IGNORE + 1)


def check_images(dataset: UnlabelledImages, workers: int = 4) -> None:
    """Read every image once, with progress. Raises InputError, naming them, if some cannot be read."""
    outcomes = read_all(lambda index: dataset[index].shape, len(dataset), "checking images", workers)
    _raise_first(outcomes, dataset.paths)


def read_all(
    read: Callable[[int], object], count: int, what: str, workers: int = 4, leave: bool = True
) -> list[object]:
    """What `read` returns for each index below `count`, or the InputError that it raises.

    leave: whether the bar that shows its progress stays when it is done.
    """

    def outcome(index: int) -> object:
        try:
            return read(index)
        except InputError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        return list(Bar(pool.map(outcome, range(count)), what, count, unit="image", leave=leave))


def _raise_first(outcomes: Iterable[object], paths: Sequence[Path]) -> None:
    """Complain about the first error, and name the other files that have one."""
    errors = [(path, o) for path, o in zip(paths, outcomes, strict=True) if isinstance(o, InputError)]
    if not errors:
        return
    others = [path.name for path, _ in errors[1:]]
    also = f" ({len(others)} more files have problems: {', '.join(others[:_SHOWN])}{_and_more(others)}.)"
    raise InputError(errors[0][1].message + (also if others else ""))


def _and_more(items: Sequence[object]) -> str:
    more = len(items) - _SHOWN
    return f", and {more} more" if more > 0 else ""
