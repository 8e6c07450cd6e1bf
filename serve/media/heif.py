"""HEIF pictures (HEIC, as phones take them) and AVIF ones.

Both formats say in boxes of their own (`irot`, `imir`) how a picture is turned; where Exif says it as well,
that repeats it and does not count.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError

_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_DAMAGE = (ValueError, EOFError, OSError, RuntimeError)
"""What pillow-heif raises, by what libheif says of a file."""


def is_avif(data: bytes) -> bool:
    """Whether a file begins as AVIF ones do."""
    return bool(_AVIF & _brands(data))


def is_heif(data: bytes) -> bool:
    """Whether a file begins as HEIF ones do, AVIF left aside."""
    brands = _brands(data)
    return bool(_HEIF & brands) and not _AVIF & brands


def _brands(data: bytes) -> set[bytes]:
    """What a file says it may be read as: box `ftyp` of size, name, major brand, version, other brands."""
    if data[4:8] != b"ftyp":
        return set()
    size = min(int.from_bytes(data[:4], "big"), 1024)
    return {data[8:12], *(data[start : start + 4] for start in range(16, size, 4))}


def read_heif(path: Path, data: bytes) -> NDArray[np.uint8]:
    """Decode the contents of a HEIF file: uint8 [H, W, 3] RGB, upright.

    The primary picture is taken, if there are several. More than 8 bits are scaled to 8, grey becomes three
    equal channels, alpha is dropped.

    Raises:
        InputError: pillow-heif is not installed, or the file is damaged.
    """
    try:
        pixels = np.asarray(_open(path, data))  # turned by libheif
    except _DAMAGE as error:
        raise InputError(f"{path} is a HEIF picture that can't be decoded, damaged or truncated.") from error
    if pixels.ndim == 2 or pixels.shape[2] < 3:  # grey, with or without alpha
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], -1)[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def count_heif(path: Path, data: bytes) -> int:
    """How many pictures a HEIF file holds, beside small ones, depths and the like; 0 if it can't be read."""
    try:
        return len(_open(path, data))
    except _DAMAGE:
        return 0


def _open(path: Path, data: bytes) -> Any:
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError(
            f"{path} is a HEIF picture, for which the extra `heif` is missing; run "
            "`pip install 'blda[heif]'`, or convert it to JPEG."
        ) from error
    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)


def upright(data: bytes, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn what was decoded of an AVIF file as its boxes say, which OpenCV leaves undone."""
    for kind, value in _turns(data):
        if kind == b"irot":
            pixels = np.rot90(pixels, value & 3)  # in quarters, anticlockwise
        else:
            pixels = pixels[:, ::-1] if value & 1 else pixels[::-1]
    return np.ascontiguousarray(pixels)


def _turns(data: bytes) -> list[tuple[bytes, int]]:
    """The boxes `irot` and `imir` of the primary picture with their values, in the order to apply them in.

    `ipma` lists each picture's properties: numbers, from 1, of the boxes in `ipco` (ISO/IEC 23008-12).
    """
    meta = dict(_boxes(dict(_boxes(data)).get(b"meta", b"")[4:]))
    properties = dict(_boxes(meta.get(b"iprp", b"")))
    primary, listed = meta.get(b"pitm", b""), properties.get(b"ipma", b"")
    if not primary or not listed:
        return []
    boxes = list(_boxes(properties.get(b"ipco", b"")))
    item = int.from_bytes(primary[4 : 8 if primary[0] else 6], "big")
    numbers = _associated(listed).get(item, [])
    found = [boxes[number - 1] for number in numbers if 0 < number <= len(boxes)]
    return [(kind, content[0]) for kind, content in found if kind in (b"irot", b"imir") and content]


def _associated(ipma: bytes) -> dict[int, list[int]]:
    """Numbers of the properties of each item."""
    read = io.BytesIO(ipma)

    def number(size: int) -> int:
        return int.from_bytes(read.read(size), "big")

    wide_items, wide_numbers = number(1) > 0, number(3) & 1
    return {
        number(4 if wide_items else 2): [
            number(2) & 0x7FFF if wide_numbers else number(1) & 0x7F for _ in range(number(1))
        ]
        for _ in range(min(number(4), len(ipma)))
    }


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the boxes that follow one another in `data`."""
    start = 0
    while start + 8 <= len(data):
        size, name, head = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        stop = start + size if size else len(data)  # 0: up to the end
        if stop < start + head:
            return
        yield name, data[start + head : stop]
        start = stop
