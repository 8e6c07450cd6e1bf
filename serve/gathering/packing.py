"""Counts as few bytes: nearly all of a joint histogram is zero or small.

The narrowest integers that hold them, their bytes sorted by significance (the high ones are nearly all zero),
then zlib. The first byte says how wide the integers are. Nothing is lost.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

_WIDTHS = (1, 2, 4, 8)
_LEVEL = 6


def pack(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Bytes [N] of non-negative whole numbers."""
    most = int(values.max(initial=0))
    width = next(w for w in _WIDTHS if most < 256**w)
    planes = values.astype(f"<u{width}").view(np.uint8).reshape(-1, width).T
    data = bytes([width]) + zlib.compress(planes.tobytes(), _LEVEL)
    return np.frombuffer(data, np.uint8)


def unpack(packed: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    """Inverse of `pack`, of so many numbers. Raises ValueError if it is not of that."""
    data = packed.tobytes()
    width = data[0] if data else 0
    if width not in _WIDTHS:
        raise ValueError("counts of an unknown width")
    opened = zlib.decompressobj()
    try:
        plain = opened.decompress(data[1:], size * width + 1)  # no more, whatever it claims to be
    except zlib.error as error:
        raise ValueError("counts that can't be unpacked") from error
    if len(plain) != size * width:
        raise ValueError("counts of another number")
    planes = np.frombuffer(plain, np.uint8).reshape(width, size)
    return np.ascontiguousarray(planes.T).view(f"<u{width}").ravel().astype(np.int64)
