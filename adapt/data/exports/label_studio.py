"""Label Studio's exports: JSON or JSON-MIN (polygons, rectangles, ellipses, brushes), or PNG files.

A task of JSON has `data` and `annotations`. A line of JSON-MIN is one annotation: what is in `data`, and then
lists of regions, which say their sizes themselves, by the names of the controls.
Brush labels as PNG are named task-1-annotation-2-by-3-tag-Car-0.png, and the JSON says which picture the task
has. Pictures lie anywhere below the folder; the eight characters that uploading puts before their names may
be there or not. https://labelstud.io/guide/export
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np

from adapt.data.exports.drawing import box, drawn_classes, fill
from adapt.data.folders.walk import walk
from adapt.data.images import read_labels
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split
from adapt.errors import InputError
from serve.media.files import PICTURE_SUFFIXES

_PNG = re.compile(r"task-(\d+)-annotation-(\d+)-by-[^-]*-[^-]+-(.+)-\d+\.png", re.IGNORECASE)
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_KINDS = {"polygonlabels", "rectanglelabels", "ellipselabels", "brushlabels"}
_SHAPES = re.compile(rb'"(?:(?:polygon|rectangle|ellipse|brush)labels|rle)"')
_HEAD = 65_536
_CORNERS = 96  # of the polygon that an ellipse is drawn as


class Task(NamedTuple):
    """A labelled picture: its file's name, and what is drawn on it."""

    number: int
    picture: str
    regions: list[dict[str, Any]]


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says. Label Studio knows no splits."""
    inside = walk(root)
    masks = [path for path in inside.pictures if _PNG.fullmatch(path.name)]
    files = [path for path in inside.others if path.suffix.lower() == ".json" and _looks_so(path)]
    if not files:
        if masks:
            raise InputError(
                f"{masks[0].name} in {root} names a task of Label Studio by its number; put the project's "
                "export as JSON beside the masks, which says what picture it has."
            )
        return None
    file = files[0]
    everything = _tasks(file, file.stat().st_mtime_ns)
    tasks = [task for task in everything if task.regions]
    pictures = {_plain(path.name): path for path in inside.pictures if path not in set(masks)}
    found = {
        task.picture: pictures[_plain(task.picture)] for task in tasks if _plain(task.picture) in pictures
    }
    if not found:
        raise InputError(
            f"No picture that {file} names ({tasks[0].picture if tasks else 'none'}, ...) is in {root}; put "
            "them there, in folders of any name."
        )
    missing, empty = len(tasks) - len(found), len(everything) - len(tasks)
    left = [f"{missing} tasks whose pictures are not there"] if missing else []
    left += [f"{empty} tasks without any region"] if empty else []
    left += [f"the other exports {', '.join(each.name for each in files[1:])}"] if files[1:] else []
    note = f"left out {' and '.join(left)}" if left else ""
    names = sorted({name for task in tasks for region in task.regions for name in _labels(region)})
    classes = drawn_classes(names)
    reader = Reader(file, classes.names, tuple(masks))
    kind = LabelFiles(file.relative_to(root).as_posix(), classes, reader, drawn=True)
    labels = [file / name for name in found]
    return Labelled(root, Layout("Label Studio", ""), list(found.values()), labels, kind, note)


def _looks_so(path: Path) -> bool:
    """A list of tasks, with annotations or with shapes right inside."""
    with path.open("rb") as file:
        head = file.read(_HEAD).lstrip()
    return head.startswith(b"[") and (
        (b'"annotations"' in head and b'"id"' in head) or _SHAPES.search(head) is not None
    )


def _plain(name: str) -> str:
    return _UPLOADED.sub("", name)


@lru_cache(maxsize=4)
def _tasks(path: Path, changed: int) -> list[Task]:
    """Read a file; the time of change is there to forget what was read of an older state."""
    try:
        tasks = [_task(each) for each in json.loads(path.read_text("utf-8"))]
        return [*{task.number: task for task in tasks if task is not None}.values()]  # the last annotation
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no whole export ({error!r}); export it again as JSON.") from error


def _task(content: dict[str, Any]) -> Task | None:
    """The last annotation that was not cancelled counts."""
    if "annotations" not in content:
        return _small_task(content)
    picture = next((name for value in content["data"].values() if (name := _file_name(value))), None)
    done = [each for each in content["annotations"] if not each.get("was_cancelled")]
    if picture is None or not done:
        return None
    regions = [region for region in done[-1]["result"] if region.get("type") in _KINDS]
    return Task(int(content["id"]), picture, regions)


def _small_task(content: dict[str, Any]) -> Task | None:
    """Of JSON-MIN."""
    picture = next((name for value in content.values() if (name := _file_name(value))), None)
    if picture is None or "id" not in content:
        return None
    listed = [each for value in content.values() if isinstance(value, list) for each in value]
    regions = [
        {"type": kind, "value": each, **{key: each[key] for key in ("original_width", "original_height")}}
        for each in listed
        if isinstance(each, dict)
        for kind in sorted(_KINDS & {*each})
    ]
    return Task(int(content["id"]), picture, regions)


def _file_name(value: object) -> str | None:
    """Of a picture's address: /data/upload/1/x.jpg, /data/local-files/?d=dir/x.jpg, s3://bucket/x.jpg."""
    if not isinstance(value, str):
        return None
    address = urlparse(value)
    path = parse_qs(address.query).get("d", [address.path])[0]
    name = unquote(path).rsplit("/", 1)[-1]
    return name if Path(name).suffix.lower() in PICTURE_SUFFIXES else None


def _labels(region: dict[str, Any]) -> list[str]:
    return list(region["value"].get(region["type"], []))


@dataclass(frozen=True)
class Reader:
    """Labels of one picture, uint8 [H, W]: positions in `names`. Raises InputError, naming the file.

    masks: PNG files of brush labels, if these were exported; they are read instead of what the JSON draws.
    """

    file: Path
    names: tuple[str, ...]
    masks: tuple[Path, ...]

    def __call__(self, path: Path) -> np.ndarray:
        tasks = _tasks(self.file, self.file.stat().st_mtime_ns)
        task = next(task for task in tasks if task.picture == path.name)
        first = task.regions[0]
        size = (int(first["original_height"]), int(first["original_width"]))
        labels = np.zeros(size, np.uint8)
        ours = [m for m in self.masks if int(_number(m)) == task.number]
        for mask in sorted(ours, key=lambda mask: self._place(mask, task)):
            match = _PNG.fullmatch(mask.name)
            assert match is not None
            labels[read_labels(mask).reshape(*size, -1)[..., 0] > 0] = self.names.index(
                _known(match[3], self.names)
            )
        if not ours:
            for region in task.regions:
                for name in _labels(region):
                    labels[_mask(region, size, path)] = self.names.index(name)
        return labels

    def _place(self, mask: Path, task: Task) -> int:
        """In the order in which the labels were drawn."""
        match = _PNG.fullmatch(mask.name)
        assert match is not None
        order = [name for region in task.regions for name in _labels(region)]
        name = _known(match[3], self.names)
        return order.index(name) if name in order else len(order)


def _number(mask: Path) -> str:
    match = _PNG.fullmatch(mask.name)
    assert match is not None
    return match[1]


def _known(name: str, names: tuple[str, ...]) -> str:
    """A label as the JSON has it: file names have no slashes."""
    return next((each for each in names if each.replace("/", "_") == name), name)


def _mask(region: dict[str, Any], size: tuple[int, int], path: Path) -> np.ndarray:
    value, kind = region["value"], region["type"]
    scale = np.array([size[1], size[0]]) / 100  # places are in per cent of the picture
    if kind == "polygonlabels":
        return fill(size, [np.asarray(value["points"], np.float64) * scale])
    if kind == "brushlabels":
        return decode_brush(value["rle"], size, path)
    if kind == "ellipselabels":
        turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        ring = np.stack([value["radiusX"] * np.cos(turn), value["radiusY"] * np.sin(turn)], 1) * scale
        return fill(size, [_turned(ring, value) + np.array([value["x"], value["y"]]) * scale])
    corner = np.array([value["x"], value["y"]]) * scale
    ring = np.asarray(box([(0, 0), (value["width"], value["height"])])) * scale
    return fill(size, [_turned(ring, value) + corner])


def _turned(ring: np.ndarray, value: dict[str, Any]) -> np.ndarray:
    angle = np.deg2rad(value.get("rotation", 0))
    return np.asarray(ring @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]))


def decode_brush(packed: list[int], size: tuple[int, int], where: Path) -> np.ndarray:
    """bool [H, W] of a brush's run lengths: where the fourth of four channels is not 0.

    A stream of bits: the number of values (32 bits), their width less 1 (5), four widths of lengths less 1
    (4 each); then runs: whether the value repeats (1), which width (2), the length less 1, and the value, or
    as many values. Raises InputError, naming the file, if it ends too soon.
    """
    bits = np.unpackbits(np.array(packed, np.uint8))
    at = 0

    def read(count: int) -> int:
        nonlocal at
        taken = bits[at : at + count]
        at += count
        if len(taken) < count:
            raise InputError(f"{where} has a brush that is cut off; export it again.")
        return int("".join(map(str, taken.tolist())), 2) if count else 0

    total, width = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    if total != size[0] * size[1] * 4:
        raise InputError(f"{where} has a brush of another size than its picture; export it again.")
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        repeats, length = read(1), read(widths[read(2)]) + 1
        for place in [slice(done, done + length)] if repeats else range(done, done + length):
            values[place] = read(width)
        done += length
    return np.asarray(values.reshape(*size, 4)[..., 3] > 0)
