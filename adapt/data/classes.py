"""Class lists: which classes there are, what label files call them and how they are painted.

A class file is YAML:

    ignore: 11                 # one value or a list (ids, or [R, G, B] colours); may be left out
    classes:
      - {id: 0, name: sky, color: [128, 128, 128]}
      - {id: 1, name: building, color: [128, 0, 0]}

The lists of well-known data sets are in adapt/data/known_classes.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from adapt.data.label_codes import IGNORE as IGNORE
from adapt.data.label_codes import LARGEST_ID, LabelCode
from adapt.data.label_codes import Color as Color
from adapt.errors import InputError
from serve.media.whole import replacing

MOST_CLASSES = 255  # train ids are uint8 and 255 is IGNORE


@dataclass(frozen=True)
class ClassList:
    """C classes in train-id order.

    names: what they are called, all different.
    ids: their values in single-channel label files, 0..65535, all different.
    palette: their RGB colours (0..255), all different: values in coloured label files, and overlay paint.
    ignore: values in label files that do not count: ids, or colours. Black does not count in coloured label
        files, unless a class is black.
    Raises InputError where this does not hold, and outside 2 <= C <= 255.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    palette: tuple[Color, ...]
    ignore: tuple[int | Color, ...] = ()

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
        for ignored in self.ignore:
            self._check_ignored(ignored)

    def _check_ignored(self, value: object) -> None:
        classes: tuple[object, ...]
        if _is_int(value, LARGEST_ID):
            what, classes = "id", self.ids
        elif _is_color(value):
            what, classes = "color", self.palette
        else:
            raise InputError(
                f"An ignored value is {value!r}, but must be a whole number from 0 to {LARGEST_ID}, "
                "or a color [R, G, B]."
            )
        if value in classes:
            name = self.names[classes.index(value)]
            raise InputError(
                f"Value {_shown(value)} is both ignored and the {what} of class '{name}'; "
                "keep one of the two."
            )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def code(self) -> LabelCode:
        """What the values in label files mean, in train ids."""
        order = range(len(self))
        ids = dict.fromkeys((v for v in self.ignore if isinstance(v, int)), IGNORE)
        colors = dict.fromkeys([(0, 0, 0), *(v for v in self.ignore if isinstance(v, tuple))], IGNORE)
        return LabelCode(
            ids | dict(zip(self.ids, order, strict=True)),
            colors | dict(zip(self.palette, order, strict=True)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for JSON or YAML, in the layout of a class file."""
        return {
            "ignore": [list(value) if isinstance(value, tuple) else value for value in self.ignore],
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
            palette=tuple(_as_color(entry["color"]) for entry in entries),
            ignore=tuple(map(_as_color, ignore)),
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
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _is_int(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest


def _check_class(name: object, value: object, color: object) -> None:
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"A class name is {name!r}, but must be text; put it in quotes.")
    if not _is_int(value, LARGEST_ID):
        raise InputError(
            f"Class '{name}' has id {value!r}, but ids are whole numbers from 0 to {LARGEST_ID}."
        )
    if not _is_color(color):
        raise InputError(
            f"Class '{name}' has color {_shown(color)!r}, but a color is [R, G, B] with whole numbers "
            "from 0 to 255."
        )


def _check_different(what: str, items: tuple[Any, ...], names: tuple[str, ...]) -> None:
    first: dict[Any, int] = {}
    for train_id, item in enumerate(items):
        if item in first:
            one, other = first[item], train_id
            raise InputError(
                f"Classes {one + 1} ('{names[one]}') and {other + 1} ('{names[other]}') "
                f"have the same {what} {_shown(item)!r}; every class needs its own."
            )
        first[item] = train_id


def _is_color(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(_is_int(part, 255) for part in value)


def _as_color(value: Any) -> Any:
    """YAML's list as a tuple; whatever else people wrote stays, to be complained about."""
    return tuple(value) if isinstance(value, list) else value


def _shown(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def paint(labels: np.ndarray, classes: ClassList) -> np.ndarray:
    """Labels [H, W] in the palette's colours, uint8 [H, W, 3]; pixels that do not count are black."""
    colors = np.zeros((IGNORE + 1, 3), np.uint8)
    colors[: len(classes)] = classes.palette
    painted: np.ndarray = colors[labels]
    return painted
