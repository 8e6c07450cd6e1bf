"""Reading pictures of any sort as 8-bit RGB, and writing label maps and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.media.files import PICTURE_SUFFIXES, find_files
from serve.media.heif import count_heif, is_avif, is_heif, read_heif, upright
from serve.media.structure import is_complete
from serve.media.whole import replacing

_HEAD = 1024  # bytes that say what a file is


def find_images(inputs: Sequence[str]) -> list[Path]:
    """Pictures as `serve.media.files.find_files` finds them, with its errors; equal stems are taken."""
    return find_files(inputs, PICTURE_SUFFIXES, "picture", same_stems=True)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode a picture to uint8 [H, W, 3] RGB, turned upright as its file says (by Exif, or by HEIF's boxes).

    Grey becomes three equal channels, 16 bits are scaled to 8, alpha is dropped (the colours below it count).
    Of several pictures, such as the pages of a TIFF, the first one is taken.

    Raises:
        InputError: unreadable, empty, truncated, not a picture, floating-point pixels (of unknown range), or
            HEIF without the extra `heif`.
    """
    return decode_image(read_whole(path), path)


def decode_image(data: bytes, path: Path) -> NDArray[np.uint8]:
    """The same of a file's contents; `path` is what it is called in errors."""
    if is_heif(data):
        return read_heif(path, data)
    own_turn = is_avif(data)
    # These flags keep 16 bits and apply the EXIF orientation; IMREAD_UNCHANGED would ignore the latter.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_IGNORE_ORIENTATION if own_turn else 0)
    decoded = imdecode(data, flags)
    if decoded is None:
        raise InputError(
            f"{path} is not a picture that can be decoded: another format, truncated, or with pixels of "
            "other than 8 or 16 bits per channel."
        )
    if decoded.dtype == np.uint16:
        decoded = cv2.convertScaleAbs(decoded, alpha=255 / 65535)
    if decoded.dtype != np.uint8:
        raise InputError(f"{path} has {decoded.dtype} pixels; convert it to 8 or 16 bits per channel.")
    rgb: NDArray[np.uint8] = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return upright(data, rgb) if own_turn else rgb


def count_pictures(path: Path) -> int:
    """How many pictures a file holds: frames of an animation, pages of a TIFF; 0 if it can't be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if is_heif(head):
            return count_heif(path, _read(path))
        return int(cv2.imcount(str(path)))
    except (OSError, InputError, cv2.error):  # `read_image` says why
        return 0


def imdecode(data: bytes, flags: int) -> NDArray[Any] | None:
    """What OpenCV makes of a picture's bytes: [H, W] or BGR or BGRA [H, W, 3 or 4]; None if it can't."""
    # It would print its reasons to stderr; whoever asks says it in one sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        decoded: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return decoded


def read_whole(path: Path) -> bytes:
    """The contents of a picture file.

    Raises:
        InputError: it can't be read, is empty or cut off, as far as its structure says.
    """
    data = _read(path)
    if not data:
        raise InputError(f"{path} is empty; replace or remove it.")
    if not is_complete(data):
        raise InputError(f"{path} is truncated or damaged; replace or remove it.")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error


def encode(image: NDArray[Any], suffix: str, *, quality: int = 92, compression: int | None = None) -> bytes:
    """uint8 RGB [H, W, 3] or labels, uint8 or uint16 [H, W], in the format that the suffix names.

    quality: of JPEG, up to 100.  compression: of PNG, up to 9; None is OpenCV's own.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    if compression is not None:
        options = [cv2.IMWRITE_PNG_COMPRESSION, compression]
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    encoded, data = cv2.imencode(suffix, pixels, options)
    if not encoded:
        raise ValueError(f"cannot encode {image.dtype} {list(image.shape)} as {suffix}")
    return bytes(data.tobytes())


def write_image(path: Path, image: NDArray[Any], *, overwrite: bool = True) -> None:
    """Write uint8 RGB [H, W, 3] or labels, uint8 or uint16 [H, W], in the format that the suffix names.

    What is there already is replaced, or with `overwrite` off, kept: see `serve.media.whole.unfinished`.
    """
    encoded = encode(image, path.suffix)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(encoded)


Image = NDArray[np.uint8]
