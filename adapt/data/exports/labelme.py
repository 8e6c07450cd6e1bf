"""labelme's JSON files beside the pictures: shapes are drawn in their order, over a background.

A file holds `shapes` (label, points, shape_type), imagePath, imageHeight and imageWidth.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adapt.data.exports.drawing import box, decoded_mask, disc, drawn_classes, fill, place, strokes
from adapt.data.folders.beside import key
from adapt.data.folders.walk import walk
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, chosen_split, folders_in
from adapt.errors import InputError
from serve.media.images import read_image

_LOOKED_AT = 3
_HEAD = 65_536
_LINE = 10  # pixels wide, as labelme itself draws lines; its points have a radius of half of that
_IGNORE = "__ignore__"


class Summary(NamedTuple):
    """What is asked of a file before its shapes are drawn."""

    image_path: str
    names: frozenset[str]


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says."""
    if not any(_summary_of(path) for path in _json_files(root)):
        return None
    part = chosen_split(folders_in(root), split, root)
    inside = walk(root if part is None else root / part)
    files = [path for path in inside.others if path.suffix.lower() == ".json" and _summary_of(path)]
    elsewhere = _by_name(inside.pictures)
    found = {file: image for file in files if (image := _picture(file, elsewhere)) is not None}
    if not found:
        raise InputError(
            f"The pictures that labelme's files in {root} name are not there; put them beside the JSON "
            "files, or into a folder below it."
        )
    used = {name for file in found if (summary := _summary_of(file)) for name in summary.names}
    classes = drawn_classes(_listed(root) or sorted(used - {_IGNORE}))
    unlabelled = set(inside.pictures) - set(found.values())
    without = [f"{len(unlabelled)} pictures without a JSON file"] if unlabelled else []
    without += [f"{len(files) - len(found)} JSON files without a picture"] if len(found) < len(files) else []
    note = f"left out {' and '.join(without)}" if without else ""
    kind = LabelFiles("*.json", classes, Reader(classes.names, tuple(found.items())), drawn=True)
    return Labelled(root, Layout("labelme", ""), list(found.values()), list(found), kind, note)


def _json_files(root: Path) -> list[Path]:
    """Some that tell whether the folder is one of labelme's."""
    found: list[Path] = []
    for pattern in ("*.json", "*/*.json", "*/*/*.json"):
        found += sorted(path for path in root.glob(pattern) if not path.name.startswith("."))[:_LOOKED_AT]
    return found


def _summary_of(path: Path) -> Summary | None:
    """None if the file is another program's."""
    return _summary(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=100_000)
def _summary(path: Path, changed: int) -> Summary | None:
    """The time of change is there to forget what was read of an older state."""
    try:
        with path.open("rb") as file:
            if b'"shapes"' not in file.read(_HEAD):  # other programs' files may be of any size
                return None
        content = json.loads(path.read_text("utf-8"))
        return Summary(content["imagePath"], frozenset(str(shape["label"]) for shape in content["shapes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _listed(root: Path) -> list[str]:
    """The names in labels.txt, which labelme is started with, without those that mean no class."""
    file = root / "labels.txt"
    if not file.is_file():
        return []
    return [
        name for line in file.read_text("utf-8").splitlines() if (name := line.strip()) and name != _IGNORE
    ]


def _by_name(pictures: Sequence[Path]) -> dict[str, Path]:
    """Pictures by their names without suffix, those of which there is one."""
    times = Counter(key(path.stem) for path in pictures)
    return {key(path.stem): path for path in pictures if times[key(path.stem)] == 1}


def _picture(file: Path, elsewhere: dict[str, Path]) -> Path | None:
    """The picture that a file names, or else the one with the same name beside it, or anywhere."""
    summary = _summary_of(file)
    named = summary.image_path.replace("\\", "/") if summary is not None else file.stem
    beside = [file.parent / named, file.parent / named.rsplit("/", 1)[-1]]
    beside += sorted(path for path in file.parent.glob(f"{glob_safe(file.stem)}.*") if path != file)
    return next((path for path in beside if path.is_file()), elsewhere.get(key(file.stem)))


def glob_safe(name: str) -> str:
    """A name whose brackets and stars mean themselves in a glob pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


@dataclass(frozen=True)
class Reader:
    """Draws a file's shapes: uint8 [H, W], positions in `names`. Raises InputError, naming the file."""

    names: tuple[str, ...]
    pictures: tuple[tuple[Path, Path], ...]
    """Of each file."""

    def __call__(self, path: Path) -> np.ndarray:
        try:
            content = json.loads(path.read_text("utf-8"))
            height, width = content.get("imageHeight"), content.get("imageWidth")
            if not height or not width:
                height, width = read_image(dict(self.pictures)[path]).shape[:2]
            labels = np.zeros((height, width), np.uint8)
            for shape in content["shapes"]:
                labels[_mask(shape, (height, width), path)] = self._value(shape["label"], path)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is no whole file of labelme ({error!r}); save it there again."
            ) from error
        return labels

    def _value(self, name: str, path: Path) -> int:
        if name == _IGNORE:
            return 255
        if name.strip("_").casefold() == "background":
            return 0
        if name not in self.names:
            raise InputError(f"{path} has the label '{name}', which labels.txt lacks; add it there.")
        return self.names.index(name)


def _mask(shape: dict[str, Any], size: tuple[int, int], path: Path) -> np.ndarray:
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind in ("polygon", "oriented_rectangle") and len(points) > 2:
        return fill(size, [points])
    if kind == "rectangle":
        return fill(size, [box(points)])
    if kind == "circle":
        (x, y), (other_x, other_y) = points
        return disc(size, (x, y), float(np.hypot(other_x - x, other_y - y)))
    if kind == "mask":
        left, top = (round(value) for value in points[0])
        return place(decoded_mask(shape["mask"], path, packed=False), size, left, top)
    if kind in ("point", "points"):
        return np.asarray(np.logical_or.reduce([disc(size, point, _LINE / 2) for point in points]))
    return strokes(size, points, _LINE)
