"""Safetensors files in numpy alone: serving needs neither torch nor another package for them.

    8 bytes: length n of the header, little-endian; n bytes: JSON; then the tensors, one after the other

The JSON names every tensor with its type, shape and place, and holds texts under `__metadata__`. Tensors are
read one at a time, so that files larger than the memory can be.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError

_MOST_HEADER = 10**8
"""Bytes of a header; the format allows no more."""
_KINDS = {"U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "I32": "<i4", "I64": "<i8", "F32": "<f4"}
_KINDS |= {"F64": "<f8", "BOOL": "?"}
_TYPES = {name: np.dtype(kind) for name, kind in _KINDS.items()}

Array = NDArray[Any]


class TensorFile:
    """A safetensors file: its texts at once, its tensors when they are asked for."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            InputError: there is no such file, or it is no whole safetensors file.
        """
        self.path = path
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= _MOST_HEADER:
                    raise ValueError("no header")
                header = json.loads(file.read(length))
                size = file.seek(0, 2)
            self.metadata: dict[str, str] = header.pop("__metadata__", {})
            self._start = 8 + length
            self._entries: dict[str, Any] = header
            ends = [entry["data_offsets"][1] for entry in header.values()]
            if size != self._start + max(ends, default=0):
                raise ValueError("cut off")
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist; give a file that `serve --gather` wrote.") from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
            raise self._broken() from error

    def __getitem__(self, name: str) -> Array:
        """The tensor of this name. Raises InputError if there is none, or it can't be read."""
        try:
            entry = self._entries[name]
            start, end = entry["data_offsets"]
            with self.path.open("rb") as file:
                file.seek(self._start + start)
                data = file.read(end - start)
            return np.frombuffer(data, _TYPES[entry["dtype"]]).reshape(entry["shape"])
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise self._broken() from error

    def _broken(self) -> InputError:
        return InputError(f"{self.path} is no whole safetensors file: it was cut off, altered or is another.")


def read_tensors(data: bytes) -> dict[str, Array]:
    """The tensors of a whole file in memory. Raises ValueError, KeyError or TypeError if it is none."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        start, end = (8 + length + place for place in entry["data_offsets"])
        found[name] = np.frombuffer(data[start:end], _TYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


def write_tensors(file: BinaryIO, metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> None:
    """Write a file of these texts and tensors."""
    shapes = {name: (array.dtype, array.shape) for name, array in tensors.items()}
    write_streamed(file, metadata, shapes, (array.tobytes() for array in tensors.values()))


def write_streamed(
    file: BinaryIO,
    metadata: Mapping[str, str],
    shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    parts: Iterable[bytes],
) -> None:
    """The same of tensors whose bytes come one after the other, in any pieces, in the order of `shapes`."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    names, place = {kind: name for name, kind in _TYPES.items()}, 0
    for name, (kind, shape) in shapes.items():
        size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": names[kind], "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of eight
    file.write(len(text).to_bytes(8, "little") + text)
    for part in parts:
        file.write(part)


def in_pieces(file: BinaryIO, size: int = 2**20) -> Iterable[bytes]:
    """What is left in an open file."""
    read: Callable[[], bytes] = lambda: file.read(size)  # noqa: E731 (as iter wants it)
    return iter(read, b"")
