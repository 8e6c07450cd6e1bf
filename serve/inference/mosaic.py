"""One picture, put together from the outputs of its tiles; the geometry is in serve/inference/tiling.py."""

from collections.abc import Callable, Sequence
from math import lcm
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serve.card import Card
from serve.errors import InputError
from serve.inference.sizes import Behind, Labels, Pixels, best_labels, fit, pad
from serve.inference.tiling import Blend, Tile, tiles

Arrays = dict[str, NDArray[Any]]
Run = Callable[[list[str], Pixels], Arrays]
"""Outputs of these names for a batch of pictures of a size that the graph takes."""


def aligned(card: Card) -> int:
    """Pixels between places where a tile may start."""
    return lcm(card.stride, card.output_stride)


def least_tile(card: Card) -> int:
    """The smallest side of a tile: the last one of a row may be smaller by `aligned`."""
    return max(card.minimum_size, 4 * aligned(card)) + aligned(card)


def check_tile(card: Card, name: str, tile: int | Literal["auto"] | None) -> tuple[int, int] | None:
    """Height and width of the tiles that somebody asks for; `name` is the graph's, for the errors.

    Raises:
        InputError: a tile that the graph can't take, or "auto" for one that takes any size.
    """
    size = card.size
    if tile is None:
        return None
    if size is not None:
        if tile != "auto" and size != (tile, tile):
            raise InputError(
                f"tile is {tile}, but {name} takes {size[0]}x{size[1]} (height x width) only; give auto."
            )
        return size
    if tile == "auto":
        raise InputError(
            f"{name} takes pictures of any size, so there is no size to tile by; give the side of a tile in "
            "pixels, such as 1024."
        )
    if tile < (least := least_tile(card)):
        raise InputError(f"tile is {tile} pixels, but must be {least} or more.")
    return tile, tile


def run_tiled(
    run: Run,
    card: Card,
    frame_HWC: Pixels,
    tile: tuple[int, int],
    wanted: Sequence[str],
    scored: bool,
    behind: Behind,
) -> Arrays:
    """Labels and the outputs `wanted` of one frame, from tiles of (height, width) = `tile`.

    Args:
        scored: whether the graph has scores, by which tiles are blended.
        behind: what makes labels of them.
    """
    size, least = frame_HWC.shape[:2], card.minimum_size
    height, width = max(size[0], least), max(size[1], least)
    frame_HWC = pad(frame_HWC[None], height, width)[0]
    names = ["labels", *dict.fromkeys([*wanted, *(["scores"] if scored else [])])]
    unit, align = card.output_stride, aligned(card)
    outputs: Arrays = {}
    blend: Blend | None = None
    agreed: Agreed | None = None
    for part in tiles(height, width, tile, align):
        rows, columns = part
        crop = frame_HWC[None, rows.start : rows.stop, columns.start : columns.stop]
        if card.size is not None:
            crop = pad(crop, *card.size)
        results = run(names, fit(card, crop))
        if "scores" in results:
            scores, own = results.pop("scores")[0], results.pop("labels")[0]
            if blend is None or agreed is None:
                rows_of_cells, columns_of_cells = (
                    -(-side // align) * align // unit for side in (height, width)
                )
                blend = Blend(len(scores), rows_of_cells, columns_of_cells, unit)
                agreed = Agreed(height, width, own.dtype)
            blend.add(part, scores)
            agreed.add(part, own)
        (top, bottom), (left, right) = rows.kept, columns.kept
        for name, labels in results.items():
            whole = outputs.setdefault(name, np.empty((height, width), labels.dtype))
            inside = labels[0, top - rows.start :, left - columns.start :]
            whole[top:bottom, left:right] = inside[: bottom - top, : right - left]
    if blend is not None and agreed is not None:
        outputs["scores"] = blend.scores()
        outputs["labels"] = agreed.labels(outputs["scores"], unit, behind)
    for name in outputs.keys() - {"scores"}:
        outputs[name] = outputs[name][: size[0], : size[1]]
    return {name: outputs[name] for name in ("labels", *wanted)}


class Agreed:
    """The labels of tiles where they agree, and note of where they don't. Takes 3 or 4 bytes per pixel."""

    def __init__(self, height: int, width: int, dtype: np.dtype[Any]) -> None:
        self._labels: Labels = np.empty((height, width), dtype)
        self._known = np.zeros((height, width), bool)
        self._disputed = np.zeros((height, width), bool)

    def add(self, tile: Tile, labels_HW: Labels) -> None:
        """Add the labels of one tile, from its top left corner."""
        (top, bottom), (left, right) = tile.rows.trusted, tile.columns.trusted
        place = np.s_[top:bottom, left:right]
        own = labels_HW[top - tile.rows.start :, left - tile.columns.start :][: bottom - top, : right - left]
        self._disputed[place] |= self._known[place] & (self._labels[place] != own)
        self._labels[place] = own
        self._known[place] = True

    def labels(self, scores_Chw: NDArray[np.float32], unit: int, behind: Behind) -> Labels:
        """[H, W], where tiles disagree by the best of their blended scores."""
        if self._disputed.any():
            height, width = self._labels.shape
            blended = best_labels(scores_Chw, unit, behind)[:height, :width]
            np.copyto(self._labels, blended, where=self._disputed)
        return self._labels
