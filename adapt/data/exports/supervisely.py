"""Supervisely's projects: meta.json, and data sets with img/X.jpg and ann/X.jpg.json; figures are drawn.

https://developer.supervisely.com/getting-started/supervisely-annotation-format
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapt.data.classes import Color
from adapt.data.exports.drawing import box, decoded_mask, drawn_classes, fill, place, strokes
from adapt.data.folders.walk import walk
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, chosen_split
from adapt.data.values.entries import as_value
from adapt.errors import InputError


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says."""
    meta = root / "meta.json"
    classes = _classes(meta) if meta.is_file() else None
    if classes is None:
        return None
    sets = sorted({folder.parent for folder in root.glob("**/ann") if (folder.parent / "img").is_dir()})
    if not sets:
        raise InputError(f"{root} is a project of Supervisely without pictures; download it with images.")
    part = chosen_split([each.name for each in sets], split, root)
    images, labels, without = [], [], 0
    for each in sets if part is None else [each for each in sets if each.name == part]:
        for image in walk(each / "img").pictures:
            names = (each / "ann" / f"{image.name}.json", each / "ann" / f"{image.stem}.json")
            label = next((name for name in names if name.is_file()), None)
            if label is None:
                without += 1
            else:
                images.append(image)
                labels.append(label)
    if not images:
        raise InputError(f"{root} is a project of Supervisely, but no img/X.jpg has an ann/X.jpg.json.")
    listed = drawn_classes([name for name, _ in classes], [color for _, color in classes])
    note = f"left out {without} pictures without annotations" if without else ""
    kind = LabelFiles("ann/*.json", listed, Reader(listed.names), drawn=True)
    return Labelled(root, Layout("Supervisely", ""), images, labels, kind, note)


def _classes(meta: Path) -> list[tuple[str, Color]] | None:
    """Names and colours; None if the file is another program's."""
    try:
        classes = json.loads(meta.read_text("utf-8"))["classes"]
        return [(str(each["title"]), as_value(each["color"])) for each in classes]
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Reader:
    """Draws a file's figures in their order: uint8 [H, W], positions in `names`. Raises InputError."""

    names: tuple[str, ...]

    def __call__(self, path: Path) -> np.ndarray:
        try:
            content = json.loads(path.read_text("utf-8"))
            size = (int(content["size"]["height"]), int(content["size"]["width"]))
            labels = np.zeros(size, np.uint8)
            for figure in content["objects"]:
                name = figure["classTitle"]
                value = self.names.index(name) if name in self.names else 0
                labels[_mask(figure, size, path)] = value
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is no whole annotation ({error!r}); download it again.") from error
        return labels


def _mask(figure: dict[str, Any], size: tuple[int, int], path: Path) -> np.ndarray:
    kind = figure["geometryType"]
    if kind == "bitmap":
        left, top = figure["bitmap"]["origin"]
        return place(decoded_mask(figure["bitmap"]["data"], path, packed=True), size, left, top)
    points = figure["points"]
    if kind == "rectangle":
        return fill(size, [box(points["exterior"])])
    if kind == "polygon":
        return fill(size, [points["exterior"], *points.get("interior", [])])
    if kind == "line":
        return strokes(size, points["exterior"], 1)
    return np.zeros(size, bool)  # points and tags are no areas
