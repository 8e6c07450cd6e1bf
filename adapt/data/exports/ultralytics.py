"""Ultralytics' data YAML: path, train and val, names; masks in masks_dir, or polygons in labels/X.txt.

Masks lie where the pictures do, with masks_dir in place of `images`; label_mapping says which of their values
are which class, and 255 does not count. Lines of polygons are `class x1 y1 x2 y2 ...` in shares of width and
height; small ones lie on top. https://docs.ultralytics.com/datasets/semantic
"""

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
from adapt.data.layouts.pairing import pair
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split
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
    given = content.get(split)
    if given is None:
        raise InputError(f"{file} has no line '{split}:'; add it, with the folder of its pictures.")
    places = [_place(file, content, str(each)) for each in (given if isinstance(given, list) else [given])]
    names = content["names"]
    listed = (
        [str(names[key]) for key in sorted(names)] if isinstance(names, dict) else [str(n) for n in names]
    )
    masks = content.get("masks_dir")
    images: list[Path] = []
    labels: list[Path] = []
    without: list[Path] = []
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
        raise InputError(
            f"No picture in {places[0]} has {'a mask' if masks else 'polygons'} in {beside}; put them "
            f"there, or name the folder of masks in {file.name} (masks_dir)."
        )
    note = f"left out {len(without)} pictures without labels, such as {without[0].name}" if without else ""
    if masks:
        kind = LabelFiles(f"{masks}/*{labels[0].suffix}", _mask_classes(file, content, listed))
    else:
        classes = drawn_classes(listed)
        values = tuple(0 if n not in classes.names else classes.names.index(n) for n in listed)
        kind = LabelFiles(
            "labels/*.txt", classes, Polygons(values, dict(zip(labels, images, strict=True))), drawn=True
        )
    return Labelled(root, Layout("Ultralytics", ""), images, labels, kind, note)


def _place(file: Path, content: dict[str, Any], given: str) -> Path:
    """A folder of pictures: below `path`, or where that is from another machine, below the file's folder."""
    ground = file.parent / str(content.get("path") or "")
    found = [base / given for base in (ground, file.parent) if (base / given).is_dir()]
    found += [file.parent / Path(given).name] if (file.parent / Path(given).name).is_dir() else []
    tail = file.parent / given.removeprefix("../").removeprefix("./")  # Roboflow writes ../train/images
    found += [tail] if tail.is_dir() else []
    if not found:
        raise InputError(
            f"{file} names the folder {given}, which is not below {ground}; correct `path` there."
        )
    return found[0].resolve()


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
