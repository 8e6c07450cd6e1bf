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
from adapt.data.layouts.splits import Split, chosen_split, folders_in
from adapt.data.layouts.unpaired import UnpairedError

_IMAGES = re.compile(
    r"(?:\w+[-_])?(?:images?|imgs?|img_dir|pictures?|photos?|pics|rgb|frames?|jpegimages|inputs?|color_images|raw)"
    r"(?:[-_]\w+)?",
    re.IGNORECASE,
)
"""What folders of pictures are called."""
_SHOWN = 3


def find_tree(root: Path, split: Split) -> Labelled | None:
    """The pictures and labels of a folder with any such names; None if there are no pairs.

    Raises InputError if the split is not there, or a part of the pictures has no labels.
    """
    for images, labels, pictures in _places(root, split):
        found = _pairs(images, labels)
        if found is not None and found.images:
            name = f"{pictures} and {labels.relative_to(root).as_posix()}/"
            pattern = f"{labels.relative_to(root).as_posix()}/*{found.tails.label}{found.labels[0].suffix}"
            note = describe_tails(found.tails, found.images, found.labels)
            layout = Layout(name, "", (), exact=True)
            pairs = Labelled(root, layout, found.images, found.labels, LabelFiles(pattern), note)
            _refuse_alone(found, pairs)
            return pairs
    return None


def _places(root: Path, split: Split) -> Iterator[tuple[Path, Path, str]]:
    """Folders of pictures, and where their labels may be; and what the former are called."""
    part = chosen_split(folders_in(root), split, root) if _split_first(root) else None
    for place in [root] if part is None else [root / part]:
        kinds = folders_in(place)
        for label in filter(is_label_folder, kinds):
            for image in (name for name in kinds if _IMAGES.fullmatch(name) and not is_label_folder(name)):
                ours, theirs = place / image, place / label
                below = chosen_split(folders_in(ours), split, ours)
                if below is not None:
                    ours = ours / below
                    theirs = theirs / below if (theirs / below).is_dir() else theirs
                yield ours, theirs, f"{ours.relative_to(root).as_posix()}/"
        yield place, place, f"{place.name}/"


def _split_first(root: Path) -> bool:
    return not any(map(_IMAGES.fullmatch, folders_in(root)))


def _pairs(images: Path, labels: Path) -> Pairs | None:
    inside = walk(images)
    if images == labels:
        beside = label_files(images, inside.pictures)
        pictures = [path for path in inside.pictures if path not in beside]
        masks = [path for path in inside.pictures if path in beside]
    else:
        pictures, masks = inside.pictures, walk(labels).pictures
    # lossy files where there are no others: whoever reads them says what is wrong with them
    masks = [path for path in masks if path.suffix.lower() in LABEL_SUFFIXES] or masks
    return pair(pictures, images, masks, labels) if pictures and masks else None


def _refuse_alone(found: Pairs, pairs: Labelled) -> None:
    if not found.alone:
        return
    total = len(found.images) + len(found.alone)
    more = len(found.alone) - _SHOWN
    names = ", ".join(path.name for path in found.alone[:_SHOWN]) + (f", and {more} more" if more > 0 else "")
    raise UnpairedError(
        f"{len(found.alone)} of {total} pictures have no label file such as {found.labels[0].name} in "
        f"{found.labels[0].parent}: {names}; add them or remove the pictures.",
        pairs,
        found.alone,
        found.surplus,
    )
