"""The same picture twice: to train on and to evaluate on, under one name or under two."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from adapt.data.exports.huggingface import is_stored, stored_bytes


class Twice(NamedTuple):
    """Two paths to the same picture."""

    one: Path
    other: Path


def duplicates(ones: Sequence[Path], others: Sequence[Path]) -> list[Twice]:
    """Those of `ones` whose file is also among `others`, byte by byte, in order.

    Only files of equal size are read. A picture that was saved anew is another file. Pictures in rows of a
    file are compared with pictures in rows.
    """
    found: dict[Path, Path] = {}
    for stored in (False, True):
        first = [path for path in ones if is_stored(path) is stored]
        second = [path for path in others if is_stored(path) is stored]
        found |= _same(first, second, _row if stored else _file)
    return [Twice(path, found[path]) for path in ones if path in found]


class _Bytes(NamedTuple):
    size: Callable[[Path], int]
    read: Callable[[Path], bytes]


_file = _Bytes(lambda path: path.stat().st_size if path.is_file() else -1, Path.read_bytes)
_row = _Bytes(lambda path: len(stored_bytes(path)), stored_bytes)


def _same(ones: Sequence[Path], others: Sequence[Path], kind: _Bytes) -> dict[Path, Path]:
    """The first partner of each that has one."""
    if not ones or not others:
        return {}
    sizes = {path: kind.size(path) for path in {*ones, *others}}
    common = ({sizes[path] for path in ones} & {sizes[path] for path in others}) - {-1}
    seen: dict[bytes, Path] = {}
    for path in others:
        if sizes[path] in common:
            seen.setdefault(_digest(kind.read(path)), path)
    partners = {path: seen.get(_digest(kind.read(path))) for path in ones if sizes[path] in common}
    return {path: other for path, other in partners.items() if other is not None}


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
