"""Class lists: which classes there are, what label files call them and how they are painted.

A class file is YAML:

    ignore: 11                 # one value or a list (ids, or [R, G, B] colours); may be left out
    classes:
      - {id: 0, name: sky, color: [128, 128, 128]}
      - {id: 1, name: building, color: [128, 0, 0]}

Ids or colours may be left out, and a class may have several (adapt/data/values/entries.py). The lists of
well-known data sets are in adapt/data/known_classes.py.
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
from adapt.data.values.entries import as_value, parse_entries
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
    also: (value, train id), further values in label files that mean a class: ids, or colours.
    Raises InputError where this does not hold, and outside 2 <= C <= 255.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    palette: tuple[Color, ...]
    ignore: tuple[int | Color, ...] = ()
    also: tuple[tuple[int | Color, int], ...] = ()

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
        for other, train_id in self.also:
            number, color = (other, (0, 0, 0)) if isinstance(other, int) else (0, other)
            _check_class(self.names[train_id], number, color)
        more = [(value, self.names[train_id]) for value, train_id in self.also]
        for what, items in (("name", self.names), ("id", self.ids), ("color", self.palette)):
            further = [pair for pair in more if what != "name" and isinstance(pair[0], int) == (what == "id")]
            owners = (*self.names, *(name for _, name in further))
            _check_different(what, (*items, *(value for value, _ in further)), owners)
        for ignored in self.ignore:
            self._check_ignored(ignored)

    def _check_ignored(self, value: object) -> None:
        classes: tuple[object, ...]
        if _is_int(value, LARGEST_ID):
            what, classes = "id", (*self.ids, *(value for value, _ in self.also))
        elif _is_color(value):
            what, classes = "color", (*self.palette, *(value for value, _ in self.also))
        else:
            raise InputError(
                f"An ignored value is {value!r}, but must be a whole number from 0 to {LARGEST_ID}, "
                "or a color [R, G, B]."
            )
        if value in classes:
            of_more = [train_id for other, train_id in self.also if other == value]
            name = self.names[of_more[0] if of_more else classes.index(value)]
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
        ids |= {value: train_id for value, train_id in self.also if isinstance(value, int)}
        colors |= {value: train_id for value, train_id in self.also if isinstance(value, tuple)}
        return LabelCode(
            ids | dict(zip(self.ids, order, strict=True)),
            colors | dict(zip(self.palette, order, strict=True)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for JSON or YAML, in the layout of a class file."""
        return {
            "ignore": [list(value) if isinstance(value, tuple) else value for value in self.ignore],
            "classes": [
                {
                    "id": self._with_more(value, train_id),
                    "name": name,
                    "color": self._with_more(color, train_id),
                }
                for train_id, (name, value, color) in enumerate(
                    zip(self.names, self.ids, self.palette, strict=True)
                )
            ],
        }

    def _with_more(self, value: int | Color, train_id: int) -> Any:
        """A class's id or colour as plain numbers, in a list with the others of its kind if there are any."""
        more = [
            v for v, owner in self.also if owner == train_id and isinstance(v, int) == isinstance(value, int)
        ]
        plain = [v if isinstance(v, int) else list(v) for v in (value, *more)]
        return plain if more else plain[0]

    @classmethod
    def from_dict(cls, content: object, complete: bool = False) -> "ClassList":
        """The inverse of to_dict, for content that people wrote. Raises InputError for anything malformed.

        complete: every class must have id, name and color, as to_dict gives them.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("classes"), list):
            raise InputError("A class file needs a list 'classes' whose items have id, name and color.")
        if unexpected := sorted(map(str, set(content) - {"classes", "ignore"})):
            raise InputError(f"A class file has the keys 'classes' and 'ignore', but not '{unexpected[0]}'.")
        ignore = content.get("ignore")
        ignore = [] if ignore is None else ignore if isinstance(ignore, list) else [ignore]
        for position, entry in enumerate(content["classes"] if complete else ()):
            given = entry if isinstance(entry, Mapping) else {}
            if set(given) != {"id", "name", "color"} or None in given.values():
                raise InputError(f"Class {position + 1} must have id, name and color, but is {entry!r}.")
        ignored = tuple(map(as_value, ignore))
        entries = parse_entries(content["classes"], ignored)
        return cls(entries.names, entries.ids, entries.palette, ignored, entries.also)


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
        return ClassList.from_dict(_with_background(content))
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from error


def _with_background(content: Any) -> Any:
    """One class alone has a background: 0, or black, in its label files."""
    entries = content.get("classes") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], Mapping | str):
        return content
    only = entries[0] if isinstance(entries[0], Mapping) else {"name": entries[0], "id": 1}
    if only.get("id") == 0 or only.get("color") == [0, 0, 0]:
        return content
    return {**content, "classes": [{"id": 0, "name": "background", "color": [0, 0, 0]}, only]}


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


def _shown(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def numbered_palette(number: int) -> tuple[Color, ...]:
    """Colours [number], far apart for near numbers: their bits, spread over the high bits of R, G and B."""

    def channel(c: int, first: int) -> int:
        return sum((c >> (3 * bit + first) & 1) << (7 - bit) for bit in range(8))

    return tuple((channel(c, 0), channel(c, 1), channel(c, 2)) for c in range(number))


def paint(labels: np.ndarray, classes: ClassList) -> np.ndarray:
    """Labels [H, W] in the palette's colours, uint8 [H, W, 3]; pixels that do not count are black."""
    colors = np.zeros((IGNORE + 1, 3), np.uint8)
    colors[: len(classes)] = classes.palette
    painted: np.ndarray = colors[labels]
    return painted
