"""Frames of an output video: overlay, colours, or three panels side by side."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from serve.card import Card
from serve.images.render import Entry, Painter, below, every_class, legend
from serve.inference.segmenter import Labels
from serve.media.images import Image
from serve.media.video.reader import Frame
from serve.video.settings import Settings


class Labelled(NamedTuple):
    """A frame with its labels [H, W]."""

    frame: Frame
    labels: Labels
    uncorrected: Labels | None = None
    """Labels without the correction, where they are wanted."""


Draw = Callable[[Labelled], Image]
"""A labelled frame -> the frame of the output, uint8 [h, w, 3] RGB, always of one size."""

_PANELS = ("input", "uncorrected", "corrected")
_GAP = 4  # pixels between panels


def drawing(card: Card, settings: Settings, height: int, width: int) -> Draw:
    """How frames of `height` x `width` pixels are drawn for an output that is a picture."""
    painter = Painter(card.palette)
    return DRAWINGS[settings.output](card, painter, settings.opacity, height, width)


def _colors(card: Card, painter: Painter, opacity: float, height: int, width: int) -> Draw:
    return lambda item: painter.colors(item.labels)


def _overlay(card: Card, painter: Painter, opacity: float, height: int, width: int) -> Draw:
    strip = legend(every_class(card), height, width)
    return lambda item: below(painter.overlay(item.frame.pixels, item.labels, opacity), strip)


def _side_by_side(card: Card, painter: Painter, opacity: float, height: int, width: int) -> Draw:
    """Titles above, a legend below; narrow pictures get as much room as their titles need."""
    titles = [legend([Entry(name, (0, 0, 0))], height, width) for name in _PANELS]
    column = max(title.shape[1] for title in titles)
    titles = [_wider(title, column) for title in titles]
    strip = legend(every_class(card), height, 3 * column + 2 * _GAP)

    def draw(item: Labelled) -> Image:
        assert item.uncorrected is not None, "the model stage was not asked for uncorrected labels"
        panels = [
            item.frame.pixels,
            painter.overlay(item.frame.pixels, item.uncorrected, opacity),
            painter.overlay(item.frame.pixels, item.labels, opacity),
        ]
        columns = [np.concatenate([t, _wider(p, column)]) for t, p in zip(titles, panels, strict=True)]
        gap = np.zeros((columns[0].shape[0], _GAP, 3), np.uint8)
        return below(np.concatenate([columns[0], gap, columns[1], gap, columns[2]], axis=1), strip)

    return draw


def _wider(image: Image, width: int) -> Image:
    return np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0)))


DRAWINGS: dict[str, Callable[[Card, Painter, float, int, int], Draw]] = {
    "overlay": _overlay,
    "colors": _colors,
    "side-by-side": _side_by_side,
}
"""By the output's name in `serve.video.outputs.OUTPUTS`: those that are pictures."""
