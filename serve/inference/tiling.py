"""Pictures beyond a graph's size: overlapping tiles whose seams don't show.

Tiles start at multiples of the graph's stride, so every tile's score grid lies on the whole picture's. Where
tiles overlap, their scores are blended with weights that fall linearly to zero at a tile's inner border,
where its pixels know least of their surroundings. Labels are the graph's own where the tiles agree, and
decided on the blended scores where they don't; in the outer third of an overlap, the farther tile is not
asked. A graph without scores can't be blended: its labels change over in the middle of the overlap.

So a network whose pixels look no farther than a third of the overlap (half, without scores) gives the labels
of the picture in one piece. Attention over the whole picture looks farther than any tile.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OVERLAP = 1 / 4
"""Share of a tile's side that it shares with each neighbour, at least."""


class Span(NamedTuple):
    """A stretch of one axis, in pixels."""

    start: int
    stop: int
    after: int
    """Pixels shared with the span before; 0 for the first."""
    before: int
    """Pixels shared with the span after; 0 for the last."""

    @property
    def kept(self) -> tuple[int, int]:
        """Start and stop up to the middle of the overlaps: kept parts cover the axis once."""
        return self.start + self.after // 2, self.stop - (self.before - self.before // 2)

    @property
    def trusted(self) -> tuple[int, int]:
        """Start and stop without the outer third of the overlaps: neighbours' trusted parts overlap."""
        return self.start + self.after // 3, self.stop - self.before // 3

    def ramp(self, unit: int) -> NDArray[np.float32]:
        """Weight in (0, 1] of each cell of `unit` pixels, falling into the overlaps."""
        cells = -(-(self.stop - self.start) // unit)
        position = np.arange(cells, dtype=np.float32) + 0.5
        weight = np.ones(cells, np.float32)
        if self.after:
            weight = np.minimum(weight, position / (self.after / unit))
        if self.before:
            weight = np.minimum(weight, (cells - position) / (self.before / unit))
        return weight


class Tile(NamedTuple):
    """A rectangle of a picture."""

    rows: Span
    columns: Span


def spans(length: int, tile: int, align: int) -> list[Span]:
    """Cover `length` pixels with spans of at most `tile` pixels that start at multiples of `align`.

    Neighbours share OVERLAP of `tile` or more, less at most `align`; the last span may be shorter than `tile`
    by less than `align`.
    """
    if length <= tile:
        return [Span(0, length, 0, 0)]
    last = -(-(length - tile) // align) * align
    step = max(int(tile * (1 - OVERLAP)) // align * align, align)
    count = -(-last // step) + 1
    starts = [round(i * last / (count - 1) / align) * align for i in range(count)]
    stops = [min(start + tile, length) for start in starts]
    shared = [0, *(stop - start for stop, start in zip(stops, starts[1:], strict=False)), 0]
    return [Span(*s) for s in zip(starts, stops, shared, shared[1:], strict=False)]


def tiles(height: int, width: int, tile: tuple[int, int], align: int) -> Iterator[Tile]:
    """Cover a picture with tiles of at most `tile` = (height, width), row by row."""
    for rows in spans(height, tile[0], align):
        for columns in spans(width, tile[1], align):
            yield Tile(rows, columns)


class Blend:
    """Weighted mean of the scores of tiles, on the grid of the whole picture."""

    def __init__(self, channels: int, height: int, width: int, unit: int) -> None:
        """For `channels` scores on a grid of `height` x `width` cells of `unit` pixels.

        Holds (channels + 1) float32 numbers per cell: for 19 classes at unit 4, 5 bytes per pixel.
        """
        self._sum = np.zeros((channels, height, width), np.float32)
        self._weight = np.zeros((height, width), np.float32)
        self._unit = unit

    def add(self, tile: Tile, scores_Chw: NDArray[np.float32]) -> None:
        """Add the scores of one tile, [C, h, w] from its top left corner."""
        top, left = tile.rows.start // self._unit, tile.columns.start // self._unit
        weight = np.outer(tile.rows.ramp(self._unit), tile.columns.ramp(self._unit))
        height = min(weight.shape[0], scores_Chw.shape[1], self._weight.shape[0] - top)
        width = min(weight.shape[1], scores_Chw.shape[2], self._weight.shape[1] - left)
        weight = weight[:height, :width]
        place = np.s_[top : top + height, left : left + width]
        self._weight[place] += weight
        self._sum[:, *place] += scores_Chw[:, :height, :width] * weight

    def scores(self) -> NDArray[np.float32]:
        """[C, h, w]"""
        return np.divide(self._sum, self._weight, out=self._sum, where=self._weight > 0)
