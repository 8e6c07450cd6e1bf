"""The lines of a class file: names with ids, colours, or both; several values of one class; hex colours.

- {id: 0, name: sky, color: [128, 128, 128]}
- {id: [1, 4], name: building, color: "#800000"}     # several ids, a hex colour
- {name: car, color: [[0, 0, 142], [0, 0, 143]]}     # colours alone; the first one is painted
- {id: 7, name: road}                                # an id alone
- tree                                               # a name alone: the next free id
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from adapt.data.label_codes import Color
from adapt.errors import InputError

_KEYS = {"id", "name", "color"}
_SPELLINGS = {"ids": "id", "colors": "color", "colour": "color", "colours": "color"}


class Entries(NamedTuple):
    """Columns of a class list; what people wrote stays where it is wrong, to be complained about."""

    names: tuple[Any, ...]
    ids: tuple[Any, ...]
    palette: tuple[Any, ...]
    also: tuple[tuple[Any, int], ...]
    """(value, position): further values of a class."""


def parse_entries(entries: Sequence[Any], ignored: Sequence[Any]) -> Entries:
    """Read the items of `classes`; missing ids and colours are chosen among those that nobody has.

    ignored: the ignored values, which are not chosen.
    Raises InputError for an item that is no class.
    """
    rows = [_row(position, entry) for position, entry in enumerate(entries)]
    ids = [_values(row.get("id"), is_color=False) for row in rows]
    colors = [_values(row.get("color"), is_color=True) for row in rows]
    taken = [value for values in (*ids, *colors, ignored) for value in values]
    free_ids = (value for value in count() if value not in taken)
    free_colors = (color for color in _colors() if color not in taken)
    also = []
    for position, values in enumerate([*zip(ids, colors, strict=True)]):
        also += [(value, position) for kind in values for value in kind[1:]]
    return Entries(
        tuple(row["name"] for row in rows),
        tuple(values[0] if values else next(free_ids) for values in ids),
        tuple(values[0] if values else next(free_colors) for values in colors),
        tuple(also),
    )


def _row(position: int, entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        return {"name": entry}
    given = entry if isinstance(entry, Mapping) else {}
    row = {_SPELLINGS.get(str(key), str(key)): value for key, value in given.items()}
    if "name" not in row or not set(row) <= _KEYS:
        raise InputError(
            f"Class {position + 1} must have the key name, and id or color or both, but is {entry!r}."
        )
    return row


def _values(given: Any, is_color: bool) -> list[Any]:
    """The ids or colours of one class: none, one, or several."""
    if given is None:
        return []
    several = isinstance(given, list) and (
        any(isinstance(g, list | str) for g in given) if is_color else True
    )
    return [as_value(value) for value in (given if several else [given])]


def as_value(given: Any) -> Any:
    """YAML's list, or a hex colour (#rrggbb, #rgb), as a tuple; whatever else people wrote stays."""
    if isinstance(given, list):
        return tuple(given)
    if isinstance(given, str):
        digits = given.removeprefix("#")
        digits = "".join(d + d for d in digits) if len(digits) == 3 and given != digits else digits
        if len(digits) == 6 and all(d in "0123456789abcdefABCDEF" for d in digits):
            return tuple(bytes.fromhex(digits))
    return given


def _colors() -> Iterator[Color]:
    """Colours that are far apart, never black: 1, 2, 3, ... with their bits spread over red, green, blue."""
    for number in count(1):
        parts = [
            sum((number >> (start + 3 * bit) & 1) << (7 - bit) for bit in range(8)) for start in range(3)
        ]
        yield parts[0], parts[1], parts[2]
