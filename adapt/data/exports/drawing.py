"""Shapes as labelling tools store them, filled: a pixel belongs to a shape if its centre lies inside."""

import base64
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from adapt.data.classes import ClassList, Color
from adapt.data.known_classes import distinct_colors
from adapt.errors import InputError
from serve.media.images import imdecode

BACKGROUND = "background"


def fill(size: tuple[int, int], rings: Sequence[Any]) -> np.ndarray:
    """bool [H, W]: inside an odd number of the rings, so that a ring in a ring is a hole.

    size: (height, width).  rings: each [n, 2] of x, y in pixels from the corner; n of at least 3.
    """
    height, width = size
    crossed = np.zeros((height, width + 1), np.int32)
    for ring in rings:
        points = np.asarray(ring, np.float64).reshape(-1, 2)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y1 == y2:
                continue
            top, bottom = min(y1, y2), max(y1, y2)
            rows = np.arange(max(0, int(np.ceil(top - 0.5))), min(height, int(np.ceil(bottom - 0.5))))
            at = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
            crossed[rows, np.ceil(at - 0.5).clip(0, width).astype(int)] += 1
    return np.asarray(np.cumsum(crossed, axis=1)[:, :width] % 2 == 1)


def disc(size: tuple[int, int], center: Sequence[float], radius: float) -> np.ndarray:
    """bool [H, W]: not farther than the radius from the center (x, y)."""
    y, x = np.ogrid[: size[0], : size[1]]
    return np.asarray((x + 0.5 - center[0]) ** 2 + (y + 0.5 - center[1]) ** 2 <= radius**2)


def strokes(size: tuple[int, int], points: Sequence[Any], width: int) -> np.ndarray:
    """bool [H, W]: a line through the points, so many pixels wide."""
    mask = np.zeros(size, np.uint8)
    cv2.polylines(mask, [np.asarray(points, np.float64).round().astype(np.int32)], False, 1, width)
    return mask.astype(bool)


def box(points: Sequence[Any]) -> list[list[float]]:
    """The ring of a rectangle given by two opposite corners."""
    (x1, y1), (x2, y2) = points
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def decoded_mask(text: str, where: Path, packed: bool) -> np.ndarray:
    """bool [h, w] of a PNG in base64, which may be packed by zlib: where it is not transparent, or not 0.

    Raises InputError, naming the file, if it is none.
    """
    try:
        data = base64.b64decode(text)
        data = zlib.decompress(data) if packed else data
    except (ValueError, zlib.error) as error:
        raise InputError(f"{where} holds a mask that can't be decoded ({error}); export it again.") from error
    pixels = imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise InputError(f"{where} holds a mask that is no PNG; export it again.")
    return np.asarray((pixels if pixels.ndim == 2 else pixels[..., -1]) > 0)


def place(mask: np.ndarray, size: tuple[int, int], left: int, top: int) -> np.ndarray:
    """bool [H, W]: a small mask at its place; what sticks out is cut off."""
    whole = np.zeros(size, bool)
    rows, columns = max(0, top), max(0, left)
    part = mask[rows - top : size[0] - top, columns - left : size[1] - left]
    whole[rows : rows + part.shape[0], columns : columns + part.shape[1]] = part
    return whole


def drawn_classes(names: Iterable[str], colors: Sequence[Color] = ()) -> ClassList:
    """The classes of shapes: background is 0, and the names follow in their order.

    colors: of the names; those that repeat, and black, are replaced by others.
    """
    own = [name for name in dict.fromkeys(names) if name.strip("_").casefold() != BACKGROUND]
    palette: list[Color] = [(0, 0, 0)]
    spare = [color for color in distinct_colors(512) if color not in colors][1:]
    for number, _ in enumerate(own):
        color = colors[number] if number < len(colors) else None
        palette.append(color if color is not None and color not in palette else spare.pop(0))
    return ClassList((BACKGROUND, *own), tuple(range(len(own) + 1)), tuple(palette))
