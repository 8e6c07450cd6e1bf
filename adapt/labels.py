"""Class lists: which value in a label file is which class, what it is called and how it is painted.

Everything inside this project counts in *train ids*: 0..C-1 in the order of the class list, and IGNORE for
pixels that do not count. Label files hold whatever their makers chose (ids with gaps, or colours); ClassList
translates.

A class file is YAML:

    ignore: 11                 # one value or a list; may be left out
    classes:
      - {id: 0, name: sky, color: [128, 128, 128]}
      - {id: 1, name: building, color: [128, 0, 0]}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from adapt.errors import InputError

IGNORE = 255  # train id of pixels that do not count
LARGEST_ID = 65535  # label files have at most 16 bits
MOST_CLASSES = 255  # train ids are uint8 and 255 is IGNORE
_UNKNOWN = -1
_SHOWN = 5  # how many items an error message lists before it says how many more there are

Color = tuple[int, int, int]


class UnknownLabels(InputError):  # noqa: N818 (it names what was found)
    """A label array holds values that the class list does not know.

    counts: {value: pixels}, most frequent first; a value is an id, or an (R, G, B) triple in coloured labels.
    where: the file, or whatever else held them.
    """

    def __init__(self, counts: Mapping[int | Color, int], where: str = "The label array") -> None:
        self.counts = dict(counts)
        self.where = where
        super().__init__(
            f"{where} holds values that are not in the class list: {describe_counts(self.counts)}; "
            "add them to the class file (as classes or under ignore)."
        )


def describe_counts(counts: Mapping[int | Color, int]) -> str:
    """The first few unknown values with their pixel counts, as a person would list them."""
    shown = [f"{value} ({pixels} px)" for value, pixels in list(counts.items())[:_SHOWN]]
    more = len(counts) - _SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class ClassList:
    """C classes in train-id order.

    names: what they are called, all different.
    ids: their values in single-channel label files, 0..65535, all different.
    palette: their RGB colours (0..255), all different: values in coloured label files, and overlay paint.
    ignore: values in single-channel label files that do not count. In coloured label files black does not
        count, unless a class is black.
    Raises InputError where this does not hold, and outside 2 <= C <= 255.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    palette: tuple[Color, ...]
    ignore: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.ids) == len(self.palette):
            raise InputError(
                f"A class list needs as many names as ids and colours, but has {len(self.names)}, "
                f"{len(self.ids)} and {len(self.palette)}."
            )
        if not 2 <= len(self.names) <= MOST_CLASSES:
            raise InputError(
                f"A class list holds 2 to {MOST_CLASSES} classes, but this one has {len(self.names)}."
            )
        for name, value, color in zip(self.names, self.ids, self.palette, strict=True):
            _check_class(name, value, color)
        for what, items in (("name", self.names), ("id", self.ids), ("color", self.palette)):
            _check_different(what, items, self.names)
        for value in self.ignore:
            if not _is_int(value, LARGEST_ID):
                raise InputError(
                    f"An ignored value is {value!r}, but must be a whole number from 0 to {LARGEST_ID}."
                )
            if value in self.ids:
                name = self.names[self.ids.index(value)]
                raise InputError(
                    f"Value {value} is both ignored and the id of class '{name}'; keep one of the two."
                )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _train_id_of_id(self) -> np.ndarray:
        table = np.full(LARGEST_ID + 1, _UNKNOWN, np.int16)
        table[list(self.ignore)] = IGNORE
        table[list(self.ids)] = np.arange(len(self))
        return table

    @cached_property
    def _train_id_of_color(self) -> tuple[np.ndarray, np.ndarray]:
        """Packed colours in rising order, and their train ids."""
        known = {_pack(color): train_id for train_id, color in enumerate(self.palette)}
        known.setdefault(_pack((0, 0, 0)), IGNORE)
        packed = sorted(known)
        return np.array(packed, np.int32), np.array([known[key] for key in packed], np.int16)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Label-file values to train ids.

        labels: [H, W] whole numbers (ids), or uint8 [H, W, 3] RGB colours.
        Returns uint8 [H, W]: 0..C-1 or IGNORE.
        Raises UnknownLabels if a value is neither a class nor ignored.
        """
        if labels.ndim == 2 and np.issubdtype(labels.dtype, np.integer):
            known = (labels >= 0) & (labels <= LARGEST_ID)
            train_ids = np.where(known, self._train_id_of_id[np.where(known, labels, 0)], _UNKNOWN)
            values = labels
        elif labels.ndim == 3 and labels.shape[2] == 3 and labels.dtype == np.uint8:
            values = (labels.astype(np.int32) * (1 << 16, 1 << 8, 1)).sum(axis=2, dtype=np.int32)
            colors, train_id_of = self._train_id_of_color
            nearest = np.searchsorted(colors, values).clip(max=len(colors) - 1)
            train_ids = np.where(colors[nearest] == values, train_id_of[nearest], _UNKNOWN)
        else:
            raise InputError(
                f"Labels must be whole numbers [H, W] or 8-bit colours [H, W, 3], "
                f"but are {labels.dtype} {list(labels.shape)}."
            )
        unknown = train_ids == _UNKNOWN
        if unknown.any():
            raise UnknownLabels(_count(values[unknown], is_color=labels.ndim == 3))
        return train_ids.astype(np.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for JSON or YAML, in the layout of a class file."""
        return {
            "ignore": list(self.ignore),
            "classes": [
                {"id": value, "name": name, "color": list(color)}
                for name, value, color in zip(self.names, self.ids, self.palette, strict=True)
            ],
        }

    @classmethod
    def from_dict(cls, content: object) -> "ClassList":
        """The inverse of to_dict, for content that people wrote. Raises InputError for anything malformed."""
        if not isinstance(content, Mapping) or not isinstance(content.get("classes"), list):
            raise InputError("A class file needs a list 'classes' whose items have id, name and color.")
        if unexpected := sorted(map(str, set(content) - {"classes", "ignore"})):
            raise InputError(f"A class file has the keys 'classes' and 'ignore', but not '{unexpected[0]}'.")
        for position, entry in enumerate(content["classes"]):
            if not isinstance(entry, Mapping) or set(entry) != {"id", "name", "color"}:
                raise InputError(
                    f"Class {position + 1} must have exactly the keys id, name and color, but is {entry!r}."
                )
        ignore = content.get("ignore")
        ignore = [] if ignore is None else ignore if isinstance(ignore, list) else [ignore]
        entries = content["classes"]
        return cls(
            names=tuple(entry["name"] for entry in entries),
            ids=tuple(entry["id"] for entry in entries),
            palette=tuple(
                tuple(c) if isinstance(c, list) else c for c in (entry["color"] for entry in entries)
            ),
            ignore=tuple(ignore),
        )


def load_classes(path: str | Path) -> ClassList:
    """Read a YAML class file. Raises InputError, naming the file, if it is missing or malformed."""
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"There is no class file {path}; give a YAML file with the list 'classes' (id, name, color)."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable YAML file: {reason}.") from error
    try:
        return ClassList.from_dict(content)
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from error


def save_classes(classes: ClassList, path: str | Path) -> None:
    """Write a class file, one class per line; load_classes reads it back equal."""
    path = Path(path)
    content = classes.to_dict()
    lines = [f"ignore: {content['ignore']}", "classes:"]
    for entry in content["classes"]:
        flow = yaml.safe_dump(
            entry, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
        )
        lines.append(f"  - {flow.strip()}")
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)


def same_classes(a: ClassList, b: ClassList, what_a: str, what_b: str) -> None:
    """Raise InputError, listing the first differences, unless both lists mean the same by every train id.

    Names in order are what counts: values in label files and colours may differ between data sets.
    """
    if a.names == b.names:
        return
    differences = [f"{what_a} has {len(a)} classes and {what_b} has {len(b)}"] if len(a) != len(b) else []
    differences += [
        f"class {train_id} is '{in_a}' in {what_a} and '{in_b}' in {what_b}"
        for train_id, (in_a, in_b) in enumerate(zip(a.names, b.names, strict=False))
        if in_a != in_b
    ]
    more = len(differences) - _SHOWN
    listed = "; ".join(differences[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    raise InputError(
        f"The class lists differ: {listed}. Use class files with the same names in the same order."
    )


def _is_int(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest


def _check_class(name: object, value: object, color: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"A class name is {name!r}, but must be text; put it in quotes.")
    if not _is_int(value, LARGEST_ID):
        raise InputError(
            f"Class '{name}' has id {value!r}, but ids are whole numbers from 0 to {LARGEST_ID}."
        )
    if not isinstance(color, tuple) or len(color) != 3 or not all(_is_int(part, 255) for part in color):
        shown = list(color) if isinstance(color, tuple) else color
        raise InputError(
            f"Class '{name}' has color {shown!r}, but a color is [R, G, B] with whole numbers from 0 to 255."
        )


def _check_different(what: str, items: tuple[Any, ...], names: tuple[str, ...]) -> None:
    first: dict[Any, int] = {}
    for train_id, item in enumerate(items):
        if item in first:
            shown = list(item) if isinstance(item, tuple) else item
            one, other = first[item], train_id
            raise InputError(
                f"Classes {one + 1} ('{names[one]}') and {other + 1} ('{names[other]}') "
                f"have the same {what} {shown!r}; every class needs its own."
            )
        first[item] = train_id


def _pack(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _count(values: np.ndarray, is_color: bool) -> dict[int | Color, int]:
    found, pixels = np.unique(values, return_counts=True)
    order = np.argsort(-pixels, kind="stable")
    counts: dict[int | Color, int] = {}
    for value, number in zip(found[order].tolist(), pixels[order].tolist(), strict=True):
        counts[(value >> 16, value >> 8 & 255, value & 255) if is_color else value] = number
    return counts


def _classes(ignore: tuple[int, ...], rows: tuple[tuple[int, str, Color], ...]) -> ClassList:
    ids, names, palette = zip(*rows, strict=True)
    return ClassList(names, ids, palette, ignore)


# The grouping of CamVid's 32 classes in Badrinarayanan et al., SegNet, 2017.
CAMVID11 = _classes(
    ignore=(11,),
    rows=(
        (0, "sky", (128, 128, 128)),
        (1, "building", (128, 0, 0)),
        (2, "pole", (192, 192, 128)),
        (3, "road", (128, 64, 128)),
        (4, "pavement", (60, 40, 222)),
        (5, "tree", (128, 128, 0)),
        (6, "sign", (192, 128, 128)),
        (7, "fence", (64, 64, 128)),
        (8, "car", (64, 0, 128)),
        (9, "pedestrian", (64, 64, 0)),
        (10, "bicyclist", (0, 128, 192)),
    ),
)

# Files *_gtFine_labelIds.png; the ids in between are Cityscapes' void classes.
CITYSCAPES19 = _classes(
    ignore=(0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30),
    rows=(
        (7, "road", (128, 64, 128)),
        (8, "sidewalk", (244, 35, 232)),
        (11, "building", (70, 70, 70)),
        (12, "wall", (102, 102, 156)),
        (13, "fence", (190, 153, 153)),
        (17, "pole", (153, 153, 153)),
        (19, "traffic light", (250, 170, 30)),
        (20, "traffic sign", (220, 220, 0)),
        (21, "vegetation", (107, 142, 35)),
        (22, "terrain", (152, 251, 152)),
        (23, "sky", (70, 130, 180)),
        (24, "person", (220, 20, 60)),
        (25, "rider", (255, 0, 0)),
        (26, "car", (0, 0, 142)),
        (27, "truck", (0, 0, 70)),
        (28, "bus", (0, 60, 100)),
        (31, "train", (0, 80, 100)),
        (32, "motorcycle", (0, 0, 230)),
        (33, "bicycle", (119, 11, 32)),
    ),
)
