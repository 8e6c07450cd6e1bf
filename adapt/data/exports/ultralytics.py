"""Ultralytics' data YAML: path, train and val, names; masks in masks_dir, or polygons in labels/X.txt.

Masks lie where the pictures do, with masks_dir in place of `images`; label_mapping says which of their values
are which class, and 255 does not count. Lines of polygons are `class x1 y1 x2 y2 ...` in shares of width and
height; small ones lie on top. https://docs.ultralytics.com/datasets/semantic
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from adapt.data.classes import ClassList
from adapt.data.exports.drawing import drawn_classes, fill
from adapt.data.folders.walk import walk
from adapt.data.images import LABEL_SUFFIXES
from adapt.data.known_classes import distinct_colors
from adapt.data.layouts.contents import choose, label_like
from adapt.data.layouts.pairing import Pairs, Tails, pair
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, of_split, split_of
from adapt.errors import InputError
from serve.media.images import read_image

_IGNORED = 255


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says."""
    for file in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        content = _content(file)
        if content is not None:
            return _of_file(root, file, content, split)
    return None


def _content(file: Path) -> dict[str, Any] | None:
    """What the file says; None if it is no such file."""
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
        return None
    return content if "train" in content or "val" in content else None


def _of_file(root: Path, file: Path, content: dict[str, Any], split: Split) -> Labelled:
    if content.get(split) is None:
        raise InputError(f"{file} has no line '{split}:'; add it, with the folder of its pictures.")
    masks = content.get("masks_dir")
    try:
        found = _as_written(file, content, split)
    except InputError:
        elsewhere = _elsewhere(root, file, content, split)
        if elsewhere is None:
            raise
        found = elsewhere
    names = _names(content)
    if masks:
        place = found.labels[0].parent.relative_to(root.resolve()).as_posix()
        kind = LabelFiles(f"{place}/*{found.labels[0].suffix}", _mask_classes(file, content, names))
    else:
        classes = drawn_classes(names)
        values = tuple(0 if n not in classes.names else classes.names.index(n) for n in names)
        pictures = dict(zip(found.labels, found.images, strict=True))
        kind = LabelFiles(
            f"{found.labels[0].parent.name}/*.txt", classes, Polygons(values, pictures), drawn=True
        )
    alone = found.alone
    note = f"left out {len(alone)} pictures without labels, such as {alone[0].name}" if alone else ""
    return Labelled(root, Layout("Ultralytics", ""), found.images, found.labels, kind, note)


def _names(content: dict[str, Any]) -> list[str]:
    names = content["names"]
    return [str(names[key]) for key in sorted(names)] if isinstance(names, dict) else [str(n) for n in names]


def _as_written(file: Path, content: dict[str, Any], split: Split) -> Pairs:
    """In the folders that the file names. Raises InputError if they are not there, or hold no pairs."""
    masks = content.get("masks_dir")
    images: list[Path] = []
    labels: list[Path] = []
    without: list[Path] = []
    places = _places(file, content, split)
    if places is None:
        raise InputError(
            f"{file} names the folder {content[split]} for '{split}', which is not there; write there which "
            "one it is (path, train, val)."
        )
    for place in places:
        beside = _in_place_of_images(place, str(masks) if masks else "labels")
        if masks:
            files = [path for path in walk(beside).pictures if path.suffix.lower() in LABEL_SUFFIXES]
        else:
            files = [path for path in walk(beside).others if path.suffix.lower() == ".txt"]
        pairs = pair([path for path in walk(place).pictures if path not in set(files)], place, files, beside)
        images += pairs.images
        labels += pairs.labels
        without += pairs.alone
    if not images:
        beside = _in_place_of_images(places[0], str(masks) if masks else "labels")
        raise InputError(
            f"No picture in {places[0]} has {'a mask' if masks else 'polygons'} of its name in {beside}; "
            f"put them there{f', or name the folder of masks in {file.name} (masks_dir)' if masks else ''}."
        )
    return Pairs(images, labels, Tails("", ""), without, [])


def _elsewhere(root: Path, file: Path, content: dict[str, Any], split: Split) -> Pairs | None:
    """In folders that were renamed since; None if there are no pairs.

    Raises InputError if nothing tells which pictures are the part.
    """
    root = root.resolve()
    inside = walk(root)
    labels = label_like(inside.pictures) if content.get("masks_dir") else set(_texts(inside.others))
    pictures = [path for path in inside.pictures if path not in labels]
    everything = choose(root, [*pictures, *labels], labels)
    if everything is None:
        return None
    if (places := _places(file, content, split)) is not None:
        pictures = [path for path in pictures if {*places} & {*path.parents}]
    elif _one_part(content) or any(split in _splits(path, root) for path in pictures):
        pictures, labels = of_split(pictures, root, split), set(of_split(sorted(labels), root, split))
    else:
        unnamed = [path for path in everything.pairs.images if not _splits(path, root)]
        place = [*unnamed, *everything.pairs.images][0].parent.relative_to(root).as_posix()
        raise InputError(
            f"{file} names the folder {content[split]} for '{split}', which is not there; write there which "
            f"one it is, such as `{split}: {place}`."
        )
    choice = choose(root, [*pictures, *labels], labels)
    return None if choice is None else choice.pairs


def _texts(files: Sequence[Path]) -> list[Path]:
    return [path for path in files if path.suffix.lower() == ".txt"]


def _one_part(content: dict[str, Any]) -> bool:
    return content.get("val") in (None, content.get("train"))


def _splits(path: Path, root: Path) -> set[str]:
    """Splits that the folders of a file mean."""
    return {meant for part in path.parent.relative_to(root).parts if (meant := split_of(part)) is not None}


def classes_in(place: Path) -> ClassList | None:
    """Of a data YAML of masks in a folder; None if there is none."""
    for file in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
        content = _content(file)
        if content is not None and content.get("masks_dir"):
            return _mask_classes(file, content, _names(content))
    return None


def _places(file: Path, content: dict[str, Any], split: Split) -> list[Path] | None:
    """The folders of a part's pictures; None if one is not there."""
    given = content[split] if isinstance(content[split], list) else [content[split]]
    places = [_place(file, content, str(each)) for each in given]
    return None if None in places else [place for place in places if place is not None]


def _place(file: Path, content: dict[str, Any], given: str) -> Path | None:
    """A folder of pictures: below `path`, or where that is from another machine, below the file's folder."""
    ground = file.parent / str(content.get("path") or "")
    tail = given.removeprefix("../").removeprefix("./")  # Roboflow writes ../train/images
    tries = (ground / given, file.parent / given, file.parent / Path(given).name, file.parent / tail)
    return next((each.resolve() for each in tries if each.is_dir()), None)


def _in_place_of_images(place: Path, name: str) -> Path:
    """The same path with the last part `images` replaced; without such a part, the folder itself."""
    parts = list(place.parts)
    at = [i for i, part in enumerate(parts) if part.casefold() == "images"]
    return Path(*parts[: at[-1]], name, *parts[at[-1] + 1 :]) if at else place


def _mask_classes(file: Path, content: dict[str, Any], names: list[str]) -> ClassList:
    """Values of a class are its number, or what label_mapping maps to it; others do not count."""
    mapping = content.get("label_mapping")
    if mapping is None:
        return ClassList(
            tuple(names), tuple(range(len(names))), distinct_colors(len(names), 1), ignore=(_IGNORED,)
        )
    try:
        pairs = [(int(value), number) for value, number in mapping.items() if int(value) >= 0]
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: label_mapping must have lines `value: class`, but is {mapping!r:.60}."
        ) from error
    values = [[value for value, to in pairs if to == number] for number in range(len(names))]
    if empty := [name for name, own in zip(names, values, strict=True) if not own]:
        raise InputError(
            f"{file}: label_mapping maps no value to the class '{empty[0]}'; add one, or drop it."
        )
    known = {value for own in values for value in own}
    ignored = sorted(({value for value, _ in pairs} | {_IGNORED}) - known)
    also = tuple((value, number) for number, own in enumerate(values) for value in own[1:])
    first = tuple(own[0] for own in values)
    return ClassList(tuple(names), first, distinct_colors(len(names), 1), tuple(ignored), also)


@dataclass(frozen=True)
class Polygons:
    """Draws a file of polygons: uint8 [H, W]. Raises InputError, naming the file.

    values: of the classes in their order.  pictures: of the files, for their sizes.
    """

    values: tuple[int, ...]
    pictures: dict[Path, Path]

    def __call__(self, path: Path) -> np.ndarray:
        height, width = read_image(self.pictures[path]).shape[:2]
        labels = np.zeros((height, width), np.uint8)
        drawn = []
        for line in path.read_text("utf-8").splitlines():
            if not line.split():
                continue
            try:
                number, *places = line.split()
                ring = np.array(places, np.float64).reshape(-1, 2) * (width, height)
                value = self.values[int(number)]
            except (ValueError, IndexError) as error:
                raise InputError(f"{path} has a line that is no polygon of a class: {line:.60}.") from error
            if len(ring) < 3:
                raise InputError(
                    f"{path} has boxes ({line:.60}), which are no areas; export it as segmentation."
                )
            drawn.append((fill((height, width), [ring]), value))
        for mask, value in sorted(drawn, key=lambda pair: -int(pair[0].sum())):
            labels[mask] = value
        return labels
