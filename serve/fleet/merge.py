"""Adds up what devices gathered: exactly, in any order, a record at a time.

Two passes: the heads of all files say which records belong together, then every group is added up and
written, one after the other. So the memory holds the counts of one group and a line for every record.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serve.errors import InputError
from serve.gathering.counts import Counts
from serve.gathering.packing import pack
from serve.gathering.store import Gathered, Head, Packed, Record, check_same, write_gathered
from serve.media.files import find_files

SUFFIXES = frozenset({".safetensors"})
"""Of gathered files in a folder; one that is named is taken whatever its name."""
Part = tuple[Path, int]
"""A file and the number of a record in it."""


@dataclass(frozen=True)
class Grouping:
    """Which records are added up: those of one slot and one name."""

    by: str = "slot"
    """slot: all devices of a slot; device: each by itself; else what `names` holds."""
    names: Mapping[str, str] | None = None
    """Group of each device, for a column of a person's table."""
    slot: int | None = None
    """Length of the slots in seconds, a multiple of those of the files; None is that of the files."""

    def name(self, record: Record, head: Head, path: Path) -> str:
        """The group of a record. Raises InputError if that can't be told."""
        if self.by == "slot":
            return ""
        if head.by == self.by:
            return record.device
        if head.by != "device":
            raise InputError(
                f"{path} was merged by {head.by}, so its devices can't be told apart any more; merge the "
                f"files that it was made of, or by {head.by}."
            )
        if self.names is None:
            return record.device
        if record.device not in self.names:
            raise InputError(
                f"{path} is of the device {record.device}, which the table does not name; add a line for it."
            )
        return self.names[record.device]


def grouping_of(by: str, table: Path | None, slot: int | None) -> Grouping:
    """What a person asks for.

    Raises:
        InputError: a column without a table or the reverse, or a table that lacks it.
    """
    if by in ("slot", "device"):
        if table is not None:
            raise InputError(f"--table is for a column of it, but --by says {by}; leave it out.")
        return Grouping(by, None, slot)
    if table is None:
        raise InputError(f"--by {by} is neither slot nor device; give the table with that column as --table.")
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
            names = {row["device"]: row[by] for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--table {table} can't be read as CSV ({error}); give a text file.") from error
    except KeyError as error:
        raise InputError(f"--table {table} has no column {error}; it needs `device` and {by!r}.") from error
    if any(value is None for value in names.values()) or not names:
        raise InputError(f"--table {table} has a line without {by!r}, or none at all; complete it.")
    if any(names[row["device"]] != row[by] for row in rows):
        raise InputError(f"--table {table} names a device twice with different {by!r}; correct it.")
    return Grouping(by, names, slot)


def find_gathered(inputs: Sequence[str]) -> list[Path]:
    """Files, folders (and those of their subfolders) and quoted patterns, each file once.

    Raises:
        InputError: an input that holds none.
    """
    found: list[Path] = []
    for given in inputs:
        path = Path(given)
        below = sorted(path.rglob("*.safetensors")) if path.is_dir() else []
        shown = [each for each in below if not any(p.startswith(".") for p in each.relative_to(path).parts)]
        found += shown or find_files([given], SUFFIXES, "gathered file", same_stems=True)
    return list({path.resolve(): path for path in found}.values())


@dataclass(frozen=True)
class Plan:
    """What is to be written."""

    head: Head
    parts: tuple[tuple[Part, ...], ...]
    """What the counts of each record are added up from."""
    frames: int


def plan_merge(paths: Sequence[Path], grouping: Grouping) -> Plan:
    """Read the heads of all files.

    Raises:
        InputError: a file that can't be read or is of another network, slots that don't fit, or the same
            counts twice.
    """
    first: Head | None = None
    heads: list[tuple[Path, int, tuple[Record, ...]]] = []
    known: dict[tuple[object, ...], Path] = {}
    for path in paths:
        head = Gathered(path).head
        if first is None:
            first = head
        check_same(head, path, first.subject, str(paths[0]))
        for record in head.records if head.by == "device" else ():
            same = (record.slot, record.device, record.first, record.last, record.frames, record.outside)
            other = known.setdefault(same, path)
            if other != path:
                raise InputError(f"{other} and {path} hold the same counts; leave one of them out.")
        named = tuple(replace(each, device=grouping.name(each, head, path)) for each in head.records)
        heads.append((path, head.slot, named))
    if first is None:
        raise InputError("there is no file to merge; give files that `serve --gather` wrote.")
    slot = _slot(heads, grouping.slot)
    groups: dict[tuple[int, str], tuple[Record, list[Part]]] = {}
    for path, _, records in heads:
        for number, record in enumerate(records):
            record = replace(record, slot=record.slot // slot * slot)
            key = record.slot, record.device
            joined, parts = groups.get(key, (None, []))
            parts.append((path, number))
            groups[key] = (record if joined is None else joined.joined(record), parts)
    ordered = [groups[key] for key in sorted(groups)]
    made = tuple(record for record, _ in ordered)
    return Plan(
        Head(first.subject, slot, made, grouping.by),
        tuple(tuple(parts) for _, parts in ordered),
        sum(record.frames for record in made),
    )


def write_merged(plan: Plan, out: Path, *, overwrite: bool = True) -> None:
    """Add up and write. Raises InputError if counts were altered, OSError if it can't be written."""
    write_gathered(out, plan.head, _sums(plan), overwrite=overwrite)


def _sums(plan: Plan) -> Iterator[Packed]:
    total = Counts.none(len(plan.head.subject.classes))
    for parts in plan.parts:
        if len(parts) == 1:
            path, number = parts[0]
            yield Gathered(path).packed(number)
            continue
        total.values[:] = 0
        for path, number in parts:
            total.values[:] += Gathered(path).counts(number).values
        yield pack(total.values)


def _slot(heads: Sequence[tuple[Path, int, tuple[Record, ...]]], wanted: int | None) -> int:
    slot = max(length for _, length, _ in heads) if wanted is None else wanted
    for path, length, _ in heads:
        if slot % length:
            raise InputError(
                f"{path} has slots of {length} s, which do not fit into {slot} s; give a multiple as --slot."
            )
    return slot
