"""Folders of pictures and folders of labels, under any of the names that people give them.

Kind first (images/train, labels/train) or split first (train/images, train/labels), mirrored in folders; or
label files beside their pictures.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from adapt.data.folders.beside import is_label_folder, label_files
from adapt.data.folders.walk import walk
from adapt.data.images import LABEL_SUFFIXES
from adapt.data.layouts.pairing import Pairs, describe_tails, pair
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, chosen_split, folders_in, of_split
from adapt.data.layouts.unpaired import refuse_alone

_IMAGES = re.compile(
    r"(?:\w+[-_])?(?:images?|imgs?|img_dir|pictures?|photos?|pics|rgb|frames?|jpegimages|inputs?|color_images|raw)"
    r"(?:[-_]\w+)?",
    re.IGNORECASE,
)
"""What folders of pictures are called."""
LAST = re.compile(r"instan[cz]|obje[ck]t|visual|overlay|colou?r|farb|depth|preview", re.IGNORECASE)
"""Folders of labels that are taken only where there are no others."""


def find_tree(root: Path, split: Split) -> Labelled | None:
    """The pictures and labels of a folder with any such names; None if there are no pairs.

    Raises InputError if the split is not there, or a part of the pictures has no labels.
    """
    for images, labels, pictures in _places(root, split):
        found = _beside(images, split) if images == labels else _pairs(images, labels)
        if found is not None and found.images:
            name = f"{pictures} and {labels.relative_to(root).as_posix()}/"
            pattern = f"{labels.relative_to(root).as_posix()}/*{found.tails.label}{found.labels[0].suffix}"
            note = describe_tails(found.tails, found.images, found.labels)
            layout = Layout(name, "", (), exact=True)
            pairs = Labelled(root, layout, found.images, found.labels, LabelFiles(pattern), note)
            refuse_alone(found, pairs)
            return pairs
    return None


def _places(root: Path, split: Split) -> Iterator[tuple[Path, Path, str]]:
    """Folders of pictures, and where their labels may be; and what the former are called."""
    part = chosen_split(folders_in(root), split, root) if _split_first(root) else None
    for place in [root] if part is None else [root / part]:
        kinds = folders_in(place)
        for label in (name for name in kinds if is_label_folder(name) and not LAST.search(name)):
            for image in (name for name in kinds if is_picture_folder(name) and not is_label_folder(name)):
                ours, theirs = place / image, place / label
                below = chosen_split(folders_in(ours), split, ours)
                if below is not None:
                    ours = ours / below
                    theirs = theirs / below if (theirs / below).is_dir() else theirs
                yield ours, theirs, f"{ours.relative_to(root).as_posix()}/"
        yield place, place, f"{place.name}/"


def is_picture_folder(name: str) -> bool:
    """Whether folders of pictures are called so."""
    return _IMAGES.fullmatch(name) is not None


def _split_first(root: Path) -> bool:
    return not any(map(is_picture_folder, folders_in(root)))


def _pairs(images: Path, labels: Path) -> Pairs | None:
    return _matched(walk(images).pictures, images, walk(labels).pictures, labels)


def _beside(place: Path, split: Split) -> Pairs | None:
    """Label files beside their pictures, or in folders below them."""
    inside = walk(place).pictures
    beside = label_files(place, inside)
    there = of_split(inside, place, split) if beside else []
    pictures, masks = ([path for path in there if (path in beside) is kind] for kind in (False, True))
    return _matched(pictures, place, masks, place)


def _matched(pictures: list[Path], images: Path, masks: list[Path], labels: Path) -> Pairs | None:
    # lossy files where there are no others: whoever reads them says what is wrong with them
    masks = [path for path in masks if path.suffix.lower() in LABEL_SUFFIXES] or masks
    return pair(pictures, images, masks, labels) if pictures and masks else None
