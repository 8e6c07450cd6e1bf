"""Label files read exactly; pictures and labels resized and written.

Pictures are read by `serve.media.images`. A label file is none: decoders paint palettes and stretch few bits,
but here the palette index, or the sample, is the value.
"""

import zlib
from pathlib import Path

import cv2
import numpy as np

from adapt.errors import InputError
from serve.media.images import encode, imdecode, read_whole
from serve.media.structure import PNG_SIGNATURE, png_chunks

LABEL_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})
"""Of files that can hold labels, since they lose nothing."""
# PNG colour types
_GREY, _PALETTE, _GREY_ALPHA = 0, 3, 4


def read_labels(path: Path) -> np.ndarray:
    """The values in a label PNG: uint8 or uint16 [H, W] ids, or uint8 [H, W, 3] RGB colours.

    Grey samples and palette indices are ids, at any bit depth; alpha is dropped. TIFF and BMP files are read
    too; of these, palettes are taken as their colours.
    Raises InputError if the file is truncated, of a lossy kind, or has colours of 16 bits.
    """
    if path.suffix.lower() in LABEL_SUFFIXES - {".png"}:
        return _checked(_other_lossless(path), path)
    return decode_labels(read_whole(path), path)


def decode_labels(data: bytes, path: Path) -> np.ndarray:
    """The same of a PNG file's contents; `path` is what it is called in errors."""
    return _checked(_decode_png(_of_png(data, path), path), path)


def _checked(decoded: np.ndarray, path: Path) -> np.ndarray:
    if decoded.ndim == 2:
        return decoded
    if decoded.dtype != np.uint8:
        raise InputError(
            f"{path} has colours of 16 bits; labels are ids of 8 or 16 bits, or colours of 8 bits "
            "(SYNTHIA's are read where they lie in its own layout, RGB/ and GT/LABELS/)."
        )
    return _to_rgb(decoded)


def read_first_channel(path: Path) -> np.ndarray:
    """uint8 or uint16 [H, W]: the first channel of a PNG, in which SYNTHIA keeps its class ids.

    The others, if there are any, tell the instances apart. OpenCV reverses the order of three channels.
    Raises InputError if the file is truncated or not a PNG.
    """
    decoded = _read_png(path)
    return decoded if decoded.ndim == 2 else np.ascontiguousarray(decoded[..., 2])


def read_palette(path: Path) -> tuple[tuple[int, int, int], ...] | None:
    """The RGB colours of a palette PNG, by index; None for any other PNG.

    Raises InputError if the file is truncated or not a PNG.
    """
    data = _read_complete_png(path)
    if data[25] != _PALETTE:
        return None
    colors = next(content for kind, content in png_chunks(data) if kind == b"PLTE")
    return tuple((r, g, b) for r, g, b in zip(colors[::3], colors[1::3], colors[2::3], strict=True))


def write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 [H, W] or RGB [H, W, 3], lossless, lightly compressed (speed matters more than size)."""
    path.write_bytes(encode(image, ".png", compression=3))


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write uint8 RGB [H, W, 3], quality 95."""
    path.write_bytes(encode(image, ".jpg", quality=95))


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] to size = (height, width): averaging when it shrinks, bilinear when it grows."""
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method))


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W] to size = (height, width): the value at the nearest pixel centre."""
    height, width = size
    if labels.shape == size:
        return labels
    return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def _read_png(path: Path) -> np.ndarray:
    """[H, W] of grey samples or palette indices, or BGR or BGRA [H, W, 3 or 4]; uint8 or uint16."""
    return _decode_png(_read_complete_png(path), path)


def _decode_png(data: bytes, path: Path) -> np.ndarray:
    bits, color_type = data[24], data[25]
    if color_type == _PALETTE:
        data = _palette_indices_as_grey(data)
    decoded = imdecode(data, cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise InputError(f"{path} is no PNG that can be decoded; replace or remove it.")
    if color_type not in (_GREY, _PALETTE, _GREY_ALPHA):
        return decoded
    grey = decoded if decoded.ndim == 2 else decoded[..., 0]
    # decoders stretch 1, 2 and 4 bits to the full 8
    return np.ascontiguousarray(grey if bits >= 8 else grey // (255 // (2**bits - 1)))


def _other_lossless(path: Path) -> np.ndarray:
    """As _read_png, of TIFF and BMP files, which keep what was written as well."""
    decoded = imdecode(read_whole(path), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path} holds no labels that can be decoded; save it as PNG of 8 or 16 bits.")
    return decoded if decoded.ndim == 2 else decoded[..., :3]


def _read_complete_png(path: Path) -> bytes:
    return _of_png(read_whole(path), path)


def _of_png(data: bytes, path: Path) -> bytes:
    if not data.startswith(PNG_SIGNATURE):
        raise InputError(
            f"{path} is not a PNG file; labels must be PNG, since lossy formats change their values (of "
            "colours, --repair-labels nearest takes those that are near known ones)."
        )
    return data


def _palette_indices_as_grey(data: bytes) -> bytes:
    """The same PNG declared as grey and without its palette, so that a decoder returns the indices."""
    kept = []
    for kind, content in png_chunks(data):
        if kind == b"IHDR":
            kept.append((kind, content[:9] + bytes([_GREY]) + content[10:]))
        elif kind in (b"IDAT", b"IEND"):
            kept.append((kind, content))
    return PNG_SIGNATURE + b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in kept
    )


def _to_rgb(decoded: np.ndarray) -> np.ndarray:
    """OpenCV's BGR or BGRA to RGB."""
    return np.ascontiguousarray(decoded[..., 2::-1])
