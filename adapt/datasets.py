"""Source and target readers: folders of images with and without labels, and videos.

Layouts of labelled data, found from the folder that is given:

    ROOT/images/*.jpg  ROOT/labels/*.png        the layout to use for one's own data
    ROOT/train/*.png   ROOT/trainannot/*.png    the SegNet copy of CamVid (its other parts: give CAMVID/val,
                                                which has CAMVID/valannot beside it)

An image and its label file have the same stem. Label files hold ids or colours (adapt/labels.py).
Sizes may differ between images; an image and its labels must agree. Hidden files (.name) are skipped.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from adapt.errors import InputError
from adapt.frames import extract_frames
from adapt.images import IMAGE_SUFFIXES, read_image, read_labels, resize_image, resize_labels
from adapt.labels import ClassList, UnknownLabels, describe_counts

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")
_SHOWN = 3  # files an error message names before it says how many more there are


class Sample(NamedTuple):
    """image: uint8 [H, W, 3] RGB.  labels: uint8 [H, W] train ids, IGNORE where pixels do not count."""

    image: np.ndarray
    labels: np.ndarray


class LabelReport(NamedTuple):
    """class_pixels: int64 [images, C], how many pixels of each class each image has."""

    class_pixels: np.ndarray


class UnlabelledImages:
    """Images read on demand.

    paths: the files.  size: (height, width) to resize to, or None to keep each image's own.
    """

    def __init__(self, paths: Sequence[Path], size: tuple[int, int] | None = None) -> None:
        self.paths = list(paths)
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> list[str]:
        """File stems, in the order of the items."""
        return [path.stem for path in self.paths]

    def __getitem__(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3] RGB. Raises InputError, naming the file, if it cannot be read."""
        image = read_image(self.paths[index])
        return image if self.size is None else resize_image(image, self.size)


class UnlabelledFolder(UnlabelledImages):
    """The images in a folder, or in its subfolder images/ where it has one.

    Raises InputError if the folder is missing or holds no images.
    """

    def __init__(self, root: str | Path, size: tuple[int, int] | None = None) -> None:
        root = _existing_folder(Path(root))
        folder = root / "images" if (root / "images").is_dir() else root
        super().__init__(list(_files_by_stem(folder, IMAGE_SUFFIXES).values()), size)


class LabelledFolder:
    """Images with their labels, in one of the layouts above.

    root: the folder.  classes: what the label files' values mean.
    size: (height, width) to resize to (images by averaging or bilinear, labels to the nearest), or None.
    Raises InputError if a folder is missing or empty, or if images and labels do not pair up.
    """

    def __init__(self, root: str | Path, classes: ClassList, size: tuple[int, int] | None = None) -> None:
        image_folder, label_folder = _find_layout(Path(root))
        images = _files_by_stem(image_folder, IMAGE_SUFFIXES)
        labels = _files_by_stem(label_folder, (".png",))
        _check_pairs(images, labels, image_folder, label_folder)
        self.classes = classes
        self.size = size
        self.names = list(images)
        self.image_paths = list(images.values())
        self.label_paths = [labels[name] for name in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Raises InputError if a file cannot be read or sizes differ, UnknownLabels if a value is unknown."""
        image = read_image(self.image_paths[index])
        path = self.label_paths[index]
        values = read_labels(path)
        if image.shape[:2] != values.shape[:2]:
            raise InputError(
                f"{self.image_paths[index]} is {image.shape[1]}x{image.shape[0]} pixels but its labels "
                f"{path} are {values.shape[1]}x{values.shape[0]}; both must have the same size."
            )
        try:
            labels = self.classes.encode(values)
        except UnknownLabels as unknown:
            raise UnknownLabels(unknown.counts, str(path)) from None
        if self.size is None:
            return Sample(image, labels)
        return Sample(resize_image(image, self.size), resize_labels(labels, self.size))


def open_target(
    paths: Sequence[Path], cache: Path, frames: int, size: tuple[int, int] | None = None
) -> UnlabelledImages:
    """The unlabelled target: one folder of images, or one or several video files.

    paths: the folder or the videos.
    cache: folder for decoded frames (kept, and used again while a video and the settings are unchanged).
    frames: how many to take from each video, spread evenly over its time.
    size: (height, width) to resize to, or None.
    Raises InputError if there is nothing to read, or something cannot be read.
    """
    if len(paths) == 1 and paths[0].is_dir():
        return UnlabelledFolder(paths[0], size)
    if missing := [path for path in paths if not path.exists()]:
        raise InputError(
            f"There is no folder or video {missing[0]}; give a folder of images, or video files."
        )
    if folders := [path for path in paths if path.is_dir()]:
        raise InputError(
            f"The target is one folder of images or several videos, but {folders[0]} is a folder too many."
        )
    if not paths or frames < 1:
        raise InputError(
            "The target has no frames; give a folder of images or videos, and at least 1 frame per video."
        )
    images = [path for video in paths for path in extract_frames(video, cache, frames, size)]
    return UnlabelledImages(images, size)


def check_labels(dataset: LabelledFolder, workers: int = 4) -> LabelReport:
    """Read every image and its labels once, with progress, and count each class's pixels (after resizing).

    Raises InputError if label files hold unknown values (says which files hold which), if a file cannot be
    read or sizes differ, or if no pixel at all belongs to a class.
    """

    def count(index: int) -> np.ndarray:
        return np.bincount(dataset[index].labels.ravel(), minlength=256)[: len(dataset.classes)]

    outcomes = _read_all(count, len(dataset), "checking labels", workers)
    unknown = [outcome for outcome in outcomes if isinstance(outcome, UnknownLabels)]
    if unknown:
        listed = "; ".join(
            f"{problem.where} holds {describe_counts(problem.counts)}" for problem in unknown[:_SHOWN]
        )
        raise InputError(
            f"{len(unknown)} of {len(dataset)} label files hold values that are not in the class list: "
            f"{listed}{_and_more(unknown)}. Add them to the class file (as classes or under ignore)."
        )
    _raise_first(outcomes)
    class_pixels = np.stack([outcome for outcome in outcomes if isinstance(outcome, np.ndarray)]).astype(
        np.int64
    )
    if not class_pixels.any():
        raise InputError(
            f"No pixel in {dataset.label_paths[0].parent} belongs to a class: all of them are ignored."
        )
    return LabelReport(class_pixels)


def check_images(dataset: UnlabelledImages, workers: int = 4) -> None:
    """Read every image once, with progress. Raises InputError, naming the first, if some cannot be read."""
    _raise_first(_read_all(lambda index: dataset[index].shape, len(dataset), "checking images", workers))


def _read_all(read: Callable[[int], object], count: int, what: str, workers: int) -> list[object]:
    """What `read` returns for each index, or the InputError that it raises."""

    def outcome(index: int) -> object:
        try:
            return read(index)
        except InputError as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(outcome, range(count)), what, count, unit="image"))


def _raise_first(outcomes: Iterable[object]) -> None:
    errors = [outcome for outcome in outcomes if isinstance(outcome, InputError)]
    if errors:
        more = f" ({len(errors) - 1} more files have problems.)" if len(errors) > 1 else ""
        raise InputError(errors[0].message + more)


def _existing_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; give an existing folder of images.")
    return folder


def _find_layout(root: Path) -> tuple[Path, Path]:
    """The folder of images and the folder of labels."""
    _existing_folder(root)
    pairs = [
        (root / "images", root / "labels"),
        (root / "train", root / "trainannot"),
        (root, root.parent / f"{root.name}annot"),
    ]
    for images, labels in pairs:
        if images.is_dir() and labels.is_dir():
            return images, labels
    missing = "labels" if (root / "images").is_dir() else "images"
    raise InputError(
        f"{root} has no folder {missing}/; labelled data needs images/ and labels/ with files of equal names."
    )


def _files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """{stem: file}, sorted by name. Raises InputError if there are none, or two with the same stem."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if path.stem in files:
            raise InputError(f"{files[path.stem]} and {path.name} have the same name; keep one of the two.")
        files[path.stem] = path
    if not files:
        videos = any(path.suffix.lower() in VIDEO_SUFFIXES for path in folder.iterdir())
        advice = "; give its videos themselves." if videos else "."
        raise InputError(f"The folder {folder} holds no images ({', '.join(suffixes)}){advice}")
    return files


def _check_pairs(
    images: dict[str, Path], labels: dict[str, Path], image_folder: Path, label_folder: Path
) -> None:
    for what, having, other, place in (
        ("images", images, labels, label_folder),
        ("label files", labels, images, image_folder),
    ):
        alone = [path.name for stem, path in having.items() if stem not in other]
        if alone:
            raise InputError(
                f"{len(alone)} {what} have no partner of the same name in {place}: "
                f"{', '.join(alone[:_SHOWN])}{_and_more(alone)}."
            )


def _and_more(items: Sequence[object]) -> str:
    more = len(items) - _SHOWN
    return f", and {more} more" if more > 0 else ""
