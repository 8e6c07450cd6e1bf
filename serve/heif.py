"""HEIF pictures (HEIC, as phones take them) and AVIF ones.

Both formats say in boxes of their own (`irot`, `imir`) how a picture is turned; where Exif says it as well,
that repeats it and does not count.
"""

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.orientation import orientation_of

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


def upright(path: Path, data: bytes, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn what was decoded of an AVIF file, of which OpenCV leaves the turn out.

    Raises:
        InputError: libav can't decode the file.
    """
    try:
        with av.open(io.BytesIO(data), format="mov") as container:
            orientation = orientation_of(next(container.decode(video=0)))
    except (av.error.FFmpegError, StopIteration) as error:
        raise InputError(f"{path} is an AVIF picture that can't be decoded, damaged or truncated.") from error
    return np.ascontiguousarray(orientation.apply(pixels))
