"""The file that devices gather into: a record of counts for every stretch of time (slot) and device.

Safetensors; `blda.gathered` holds JSON: `format`, what the counts are of (`Subject`), the length of a slot,
and a list of records. The counts of record n are the tensor `counts.n`, packed (serve/gathering/packing.py).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.gathering.counts import Counts, size_of
from serve.gathering.packing import unpack
from serve.gathering.rule import Rule, Subject, rule_of
from serve.gathering.tensors import TensorFile, in_pieces, write_streamed
from serve.media.whole import replacing

FORMAT = 1
_KEY = "blda.gathered"

Packed = NDArray[np.uint8]


@dataclass(frozen=True)
class Record:
    """What the counts of one slot are of."""

    slot: int
    """Its begin, in seconds since 1970 (UTC)."""
    device: str
    """Who gathered it; of several that were added, the name of their group, or empty."""
    first: float
    """When its first and its last frame were counted, in seconds since 1970."""
    last: float
    frames: int
    outside: int
    """Logits that lay beyond the bins and were counted in the first or last one."""

    def joined(self, other: "Record") -> "Record":
        """Of the counts of both together, under this one's slot and name."""
        return replace(
            self,
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            frames=self.frames + other.frames,
            outside=self.outside + other.outside,
        )


@dataclass(frozen=True)
class Head:
    """What a file says of its counts."""

    subject: Subject
    slot: int
    """Length of a slot, in seconds."""
    records: tuple[Record, ...]
    by: str = "device"
    """What `Record.device` names: device, slot (nothing), or a column of a person's table."""


class Gathered:
    """A file that was gathered or merged: its head at once, its counts record by record."""

    def __init__(self, path: Path) -> None:
        """Read the head.

        Raises:
            InputError: no such file, not one of these, altered, or of a newer version.
        """
        self._file = TensorFile(path)
        self.path = path
        text = self._file.metadata.get(_KEY)
        if text is None:
            raise InputError(f"{path} holds nothing gathered; give a file that `serve --gather` wrote.")
        try:
            fields = json.loads(text)
            if fields["format"] > FORMAT:
                raise InputError(
                    f"{path} has format {fields['format']}, this version reads up to {FORMAT}; upgrade blda."
                )
            self.head = _head(fields)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} was altered ({error}); gather it again.") from error

    def packed(self, number: int) -> Packed:
        """The counts of a record as they are stored."""
        return self._file[f"counts.{number}"]

    def counts(self, number: int) -> Counts:
        """The counts of a record. Raises InputError if they were altered."""
        C = len(self.head.subject.classes)
        try:
            return Counts(unpack(self.packed(number), size_of(C)), C)
        except ValueError as error:
            raise InputError(f"{self.path} was altered ({error}); gather it again.") from error

    def total(self, numbers: Iterable[int] | None = None) -> Counts:
        """The sum of some records, or of all."""
        total = Counts.none(len(self.head.subject.classes))
        for number in range(len(self.head.records)) if numbers is None else numbers:
            total.values[:] += self.counts(number).values
        return total


def is_gathered(path: Path) -> bool:
    """Whether a file is one of these, as far as its head says."""
    try:
        return _KEY in TensorFile(path).metadata
    except InputError:
        return False


def write_gathered(path: Path, head: Head, packed: Iterable[Packed], *, overwrite: bool = True) -> None:
    """Write a file in one step; the counts of the records come in their order and are not kept in memory.

    Raises:
        OSError: it can't be written.
    """
    sizes = []
    with replacing(path, overwrite=overwrite) as temporary, TemporaryFile(dir=path.parent) as held:
        for each in packed:
            sizes.append(len(each))
            held.write(each.tobytes())
        assert len(sizes) == len(head.records), "every record has counts"
        held.seek(0)
        shapes = {f"counts.{n}": (np.dtype("u1"), (size,)) for n, size in enumerate(sizes)}
        with temporary.open("wb") as file:
            write_streamed(file, {_KEY: _text(head)}, shapes, in_pieces(held))


def check_same(head: Head, path: Path, wanted: Subject, of: str) -> None:
    """Raise InputError unless the counts in the file at `path` add up with those of `of`."""
    found = head.subject
    if found.network != wanted.network:
        raise InputError(
            f"{path} is of another network (fingerprint {found.network[:12]}, not {wanted.network[:12]} as "
            f"{of}); counts of different networks don't add up, so leave it out."
        )
    if found.profile != wanted.profile:
        ran, other = (f"profile {each}" if each else "no profile" for each in (found.profile, wanted.profile))
        raise InputError(
            f"{path} was gathered under {ran}, not under {other} as {of}; what profiles correct is looked at "
            "apart, so give each a file of its own."
        )
    if found != replace(wanted, rule=replace(wanted.rule, pixels=found.rule.pixels)):
        raise InputError(
            f"{path} is of the network of {of}, but counted in other bins or by other classes; leave it out, "
            "or gather with one file from `export onnx --gather` on all devices."
        )


def chosen(head: Head, wanted: Callable[[Record], bool]) -> list[int]:
    """Numbers of the records that are wanted, in order of time."""
    found = [n for n, record in enumerate(head.records) if wanted(record)]
    return sorted(found, key=lambda n: (head.records[n].slot, head.records[n].device))


def _text(head: Head) -> str:
    fields = {"format": FORMAT, **asdict(head)}
    if not head.subject.profile:
        del fields["subject"]["profile"]
    fields["records"] = [list(asdict(record).values()) for record in head.records]
    return json.dumps(fields, separators=(",", ":"))


def _head(fields: dict[str, Any]) -> Head:
    of = fields["subject"]
    classes = tuple(map(str, of["classes"]))
    rule: Rule = rule_of(json.dumps(of["rule"]), len(classes))
    profile = str(of.get("profile", ""))
    subject = Subject(str(of["network"]), classes, int(of["stride"]), rule, profile)
    slot = int(fields["slot"])
    if slot < 1 or not classes:
        raise ValueError("a slot of no length, or no classes")
    return Head(subject, slot, tuple(map(_record, fields["records"])), str(fields["by"]))


def _record(values: Sequence[Any]) -> Record:
    slot, device, first, last, frames, outside = values
    return Record(int(slot), str(device), float(first), float(last), int(frames), int(outside))
