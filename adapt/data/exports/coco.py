"""COCO's JSON: panoptic (with PNG files of segments), stuff and instances, as COCO and others write it.

Pictures lie anywhere below the folder, under the names in `images`. Of several files panoptic wins, then
stuff. What no shape covers is background; in panoptic and stuff files it does not count.
https://cocodataset.org/#format-data
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adapt.data.classes import ClassList
from adapt.data.exports.drawing import drawn_classes, fill
from adapt.data.folders.walk import walk
from adapt.data.images import read_labels
from adapt.data.known_classes import distinct_colors
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, chosen_split, split_of
from adapt.errors import InputError

_HEAD = 65_536  # bytes that tell a file of COCO's
_KEYS = re.compile(rb'"(images|annotations|categories|licenses|info)"\s*:')
_KINDS = ("panoptic", "stuff", "instances")
_OTHERS = ("captions", "keypoints")
_WORD = re.compile(r"[A-Za-z]+")
_KEPT = 4  # files that stay in memory


class Content(NamedTuple):
    """What a file says, by the names of its pictures."""

    sizes: dict[str, tuple[int, int]]
    """(height, width)"""
    shapes: dict[str, list[dict[str, Any]]]
    """Annotations, in their order; of a panoptic file, its segments."""
    segments: dict[str, str]
    """PNG files of a panoptic file."""
    categories: dict[int, str]

    @property
    def panoptic(self) -> bool:
        return bool(self.segments)


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says."""
    files = [path for place in ("*.json", "*/*.json") for path in sorted(root.glob(place)) if _is_one(path)]
    files = [path for path in files if not any(other in path.name for other in _OTHERS)]
    if not files:
        return None
    parts = {path: name for path in files if (name := _split_name(path, root)) is not None}
    part = chosen_split(parts.values(), split, root)
    meant = [path for path in files if part is None or parts.get(path) == part]
    file = max(meant, key=lambda path: [kind in path.name for kind in _KINDS])
    content = _read(file, file.stat().st_mtime_ns)
    if not content.panoptic and not any(
        s.get("segmentation") for each in content.shapes.values() for s in each
    ):
        return None  # boxes alone
    folder = file.with_suffix("")
    images = _matched(content, [p for p in walk(root).pictures if folder not in p.parents], root)
    if not images:
        raise InputError(
            f"No picture that {file} lists is in {root}; put them there, in folders of any name."
        )
    if content.panoptic and not folder.is_dir():
        raise InputError(f"{file} needs the folder {folder.name}/ of PNG files beside it; unpack it there.")
    missing = len(content.sizes) - len(images)
    note = f"left out {missing} pictures that {file.name} lists, since they are not there" if missing else ""
    if content.panoptic:
        labels = [folder / content.segments[name] for name in images]
    else:
        labels = [file / name for name in images]
    kind = LabelFiles(file.relative_to(root).as_posix(), _classes(content, file), Reader(file), drawn=True)
    return Labelled(root, Layout("COCO", ""), list(images.values()), labels, kind, note)


def _is_one(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return head.lstrip().startswith(b"{") and len({*_KEYS.findall(head)}) > 1


def _split_name(file: Path, root: Path) -> str | None:
    """The word in its name, or its folder, that means a split: train of instances_train2017.json."""
    words = [*_WORD.findall(file.stem), *(file.parent.relative_to(root).parts)]
    return next((word for word in words if split_of(word) is not None), None)


@lru_cache(maxsize=_KEPT)
def _read(path: Path, changed: int) -> Content:
    """Parse a file; the time of change is there to forget what was read of an older state."""
    try:
        content = json.loads(path.read_text("utf-8"))
        names = {image["id"]: image["file_name"] for image in content["images"]}
        sizes = {image["file_name"]: (image["height"], image["width"]) for image in content["images"]}
        categories = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        shapes: dict[str, list[dict[str, Any]]] = {}
        segments = {}
        for each in content["annotations"]:
            name = names[each["image_id"]]
            if "segments_info" in each:
                segments[name] = each["file_name"]
                shapes[name] = each["segments_info"]
            else:
                shapes.setdefault(name, []).append(each)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no whole file in COCO's format ({error!r}); export it again.") from error
    return Content(sizes, shapes, segments, categories)


def _matched(content: Content, pictures: list[Path], root: Path) -> dict[str, Path]:
    """The pictures of the names in a file: by their paths, or else by their names alone."""
    by_path = {path.relative_to(root).as_posix(): path for path in pictures}
    by_name = {path.name: path for path in pictures}
    names = content.segments if content.panoptic else content.sizes
    found = {name: by_path.get(name) or by_name.get(Path(name).name) for name in names}
    return {name: path for name, path in found.items() if path is not None}


def _classes(content: Content, file: Path) -> ClassList:
    used = sorted(content.categories)
    names = [content.categories[key] for key in used]
    if content.panoptic or "stuff" in file.name:  # what has no segment is unlabelled
        ids = tuple(range(1, len(names) + 1))
        return ClassList(tuple(names), ids, distinct_colors(len(names), 1), ignore=(0,))
    return drawn_classes(_used_names(content))


def _used_names(content: Content) -> list[str]:
    """Roboflow lists a category 0 above all others, which no shape has."""
    used = {shape["category_id"] for shapes in content.shapes.values() for shape in shapes}
    return [name for key, name in sorted(content.categories.items()) if key in used]


@dataclass(frozen=True)
class Reader:
    """Labels of one picture, uint16 [H, W]: ids of the classes. Raises InputError, naming the file."""

    file: Path

    def __call__(self, path: Path) -> np.ndarray:
        content = _read(self.file, self.file.stat().st_mtime_ns)
        if content.panoptic:
            return _panoptic(path, content, self._positions(content))
        name = path.relative_to(self.file).as_posix()
        labels = np.zeros(content.sizes[name], np.uint16)
        positions = self._positions(content)
        shapes = content.shapes.get(name, [])
        for shape in sorted(shapes, key=lambda shape: -float(shape.get("area", 0))):  # small ones on top
            labels[_mask(shape["segmentation"], labels.shape, path)] = positions[shape["category_id"]]
        return labels

    def _positions(self, content: Content) -> dict[int, int]:
        names = list(_classes(content, self.file).names)
        first = 1 if content.panoptic or "stuff" in self.file.name else 0
        return {key: names.index(name) + first for key, name in content.categories.items() if name in names}


def _panoptic(path: Path, content: Content, positions: dict[int, int]) -> np.ndarray:
    """The colour of a pixel is its segment's number, red the lowest byte."""
    name = next(name for name, file in content.segments.items() if file == path.name)
    red, green, blue = np.moveaxis(read_labels(path).astype(np.int64), -1, 0)
    numbers = red | green << 8 | blue << 16
    labels = np.zeros(numbers.shape, np.uint16)
    for segment in content.shapes[name]:
        labels[numbers == segment["id"]] = positions[segment["category_id"]]
    return labels


def _mask(segmentation: Any, size: tuple[int, ...], path: Path) -> np.ndarray:
    """bool [H, W] of polygons, or of run lengths in columns, which may be packed."""
    height, width = size
    if isinstance(segmentation, list):
        whole = np.zeros((height, width), bool)
        for ring in segmentation:
            whole |= fill((height, width), [ring])
        return whole
    runs = segmentation["counts"]
    if isinstance(runs, list):
        values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return np.asarray(values.reshape(width, height).T)
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError(
            f"{path} has packed masks, for which the extra `coco` is missing; run `pip install 'blda[coco]'`."
        ) from error
    return np.asarray(mask.decode({"size": [height, width], "counts": runs})).astype(bool)
