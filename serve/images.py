"""Reading pictures of any sort as 8-bit RGB, and writing label maps and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.files import find_files, replacing

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif", ".gif"}
)
_JPEG_QUALITY = 92


def find_images(inputs: Sequence[str]) -> list[Path]:
    """Pictures as `serve.files.find_files` finds them, with its errors."""
    return find_files(inputs, SUFFIXES, "picture")


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode a picture to uint8 [H, W, 3] RGB, turned upright by its EXIF orientation.

    Grey becomes three equal channels, 16 bits are scaled to 8, alpha is dropped (the colours below it count).

    Raises:
        InputError: unreadable, truncated, not a picture, or floating-point pixels (of unknown range).
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error
    # OpenCV would print its reasons for a failed decode to stderr; we say it in one sentence.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        # These flags keep 16 bits and apply the EXIF orientation; IMREAD_UNCHANGED would ignore the latter.
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) if data.size else None
    except cv2.error:
        decoded = None
    if decoded is None:
        raise InputError(f"{path} is not a picture that can be decoded: another format or truncated.")
    if decoded.dtype == np.uint16:
        decoded = cv2.convertScaleAbs(decoded, alpha=255 / 65535)
    if decoded.dtype != np.uint8:
        raise InputError(f"{path} has {decoded.dtype} pixels; convert it to 8 or 16 bits per channel.")
    rgb: NDArray[np.uint8] = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return rgb


def write_image(path: Path, image: NDArray[Any], *, overwrite: bool = True) -> None:
    """Write uint8 RGB [H, W, 3] or labels, uint8 or uint16 [H, W], in the format that the suffix names.

    What is there already is replaced, or with `overwrite` off, kept: see `serve.files.unfinished`.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
    _, encoded = cv2.imencode(path.suffix, bgr, options)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(encoded.tobytes())
