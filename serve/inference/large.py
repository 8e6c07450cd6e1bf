"""How a large picture is run: in one piece where memory allows, else in tiles as large as memory allows."""

import math
import threading
from typing import NamedTuple

from serve.card import Card
from serve.errors import InputError
from serve.inference.memory import Need, open_frugal
from serve.inference.mosaic import aligned, least_tile
from serve.inference.runtime import Runtime
from serve.inference.tiling import OVERLAP
from serve.media.memory import available

_SMALL = 8192
"""Bytes per pixel below which no known network needs looking at: attention over 2.5 megapixels needs them."""
_AROUND = 16
"""Bytes per pixel for the picture itself, its labels and what is drawn."""
_SHARE = 0.9
"""Of the available memory."""
_STOCK, _KEPT = 1.5, 0.25
"""What ONNX Runtime's own stock takes of a run's need, at worst, and the share of memory that it may keep:
runs from it are a fifth faster."""


class Way(NamedTuple):
    """How frames of one size are run."""

    runtime: Runtime
    tile: tuple[int, int] | None = None
    """Height and width of the tiles; None is one piece."""
    frames: int | None = None
    """How many frames at once; None is all."""


class Ways:
    """Finds the way for every size, once, so that all frames of a video are treated alike. Thread-safe."""

    def __init__(self, runtime: Runtime, threads: int | None, callers: int) -> None:
        self._runtime = runtime
        self._threads, self._callers = threads, callers
        self._state = runtime.path.stat().st_mtime_ns
        self._lock = threading.Lock()
        self._frugal: tuple[Runtime, Need] | None = None
        self._found: dict[tuple[int, int, int], Way] = {}
        self._tiled: dict[tuple[int, int], str] = {}

    @property
    def notice(self) -> str:
        """Which pictures were cut for want of memory, and why, in one sentence; empty for none."""
        if not self._tiled:
            return ""
        (height, width), why = next(iter(self._tiled.items()))
        others = len(self._tiled) - 1
        more = f" (and {others} more size{'s' * (others > 1)})" if others else ""
        return (
            f"Pictures of {width}x{height}{more} were segmented in overlapping tiles, because {why}; near "
            "the seams labels may differ from those in one piece, which --tile with a larger size insists on."
        )

    def of(self, frames: int, height: int, width: int) -> Way:
        """The way for a batch of frames of any size.

        Raises:
            InputError: not even the smallest tile fits into memory.
        """
        key = frames, height, width
        with self._lock:
            if key not in self._found:
                self._found[key] = self._find(*key)
            return self._found[key]

    def smaller(self, way: Way, height: int, width: int) -> Way | None:
        """The way after memory ran out on `way`: tiles of half the size. None if they would be too small."""
        tile = _tile_below(self._runtime.info.card, way.tile or (height, width))
        if tile is None:
            return None
        smaller = way._replace(tile=tile)
        with self._lock:
            self._found[1, height, width] = smaller
            self._tiled[height, width] = f"{self._runtime.provider} ran out of memory on larger pieces"
        return smaller

    def _find(self, frames: int, height: int, width: int) -> Way:
        pixels, free = height * width, available()
        known = self._runtime.provider == "cpu" and self._runtime.info.card.size is None and free is not None
        if not known or free is None or frames * pixels * self._callers * _SMALL <= free:
            return Way(self._runtime)
        runtime, need = self._open()
        if _STOCK * frames * self._callers * need.of(pixels) <= _KEPT * free:
            return Way(self._runtime)
        room = (_SHARE * free - _AROUND * pixels) / self._callers
        together = int(room // need.of(pixels))
        if together >= 1:
            return Way(runtime, frames=together)
        tile = _fitting(self._runtime.info.card, need, room, height, width)
        if tile is None:
            raise InputError(
                f"{self._runtime.path} can't segment a {width}x{height} picture here: even in small tiles it "
                f"needs more than the {_gigabytes(free)} of memory that are free; free some or shrink it."
            )
        self._tiled[height, width] = (
            f"in one piece they need about {_gigabytes(self._callers * need.of(pixels) + _AROUND * pixels)} "
            f"of memory, of which {_gigabytes(free)} were free"
        )
        return Way(runtime, tile, 1)

    def _open(self) -> tuple[Runtime, Need]:
        if self._frugal is None:
            if self._runtime.path.stat().st_mtime_ns != self._state:
                raise InputError(f"{self._runtime.path} was replaced while it was in use; start again.")
            self._frugal = open_frugal(self._runtime, self._threads, self._callers)
        return self._frugal


def _fitting(card: Card, need: Need, room: float, height: int, width: int) -> tuple[int, int] | None:
    """Height and width of the tiles: as few as the memory allows, and then no larger than they must be."""
    align = aligned(card)
    sides = range(least_tile(card), max(height, width) + align, align)
    fitting = [side for side in sides if need.of(side * side) <= room]
    if not fitting:
        return None
    least, most = fitting[0], fitting[-1]
    return _even(height, least, most, align), _even(width, least, most, align)


def _even(length: int, least: int, most: int, align: int) -> int:
    """The side of as few tiles as `most` pixels allow, made equal: n tiles that overlap cover `length`."""
    if length <= most:
        return length
    count = math.ceil((length - most * OVERLAP) / (most * (1 - OVERLAP)))
    side = math.ceil(length / (count - (count - 1) * OVERLAP))
    return min(max(-(-side // align) * align + align, least), most)


def _tile_below(card: Card, tile: tuple[int, int]) -> tuple[int, int] | None:
    """Half the larger side."""
    align, least = aligned(card), least_tile(card)
    side = max(tile) // 2 // align * align
    if card.size is not None or side < least:
        return None
    return min(tile[0], side), min(tile[1], side)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
