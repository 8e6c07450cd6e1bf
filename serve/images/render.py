"""Labels to pictures: colour map, overlay, legend."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from serve.card import Card, Color
from serve.media.images import Image

_BACKGROUND = (24, 24, 27)
_OUTLINE = (90, 90, 96)
_TEXT = (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEAST_TEXT = 15  # pixels of line height below which letters can't be read


@dataclass(frozen=True)
class Entry:
    """One line of a legend."""

    name: str
    color: Color
    share: float | None = None
    """Share of the picture's pixels in [0, 1]; None leaves it out."""

    @property
    def text(self) -> str:
        return self.name if self.share is None else f"{self.name}  {_percent(self.share)}"


def shares(labels_HW: NDArray[np.uint8 | np.uint16], classes: int) -> NDArray[np.float64]:
    """Share of the pixels of each class, float64 [C]."""
    counts = np.bincount(labels_HW.ravel(), minlength=classes)[:classes]
    return np.asarray(counts / labels_HW.size, np.float64)


def present(card: Card, labels_HW: NDArray[np.uint8 | np.uint16]) -> list[Entry]:
    """Legend of the classes that occur in `labels_HW`, with their shares, in the order of the card."""
    share = shares(labels_HW, len(card.classes))
    lines = zip(card.classes, card.palette, share, strict=True)
    return [Entry(name, color, float(part)) for name, color, part in lines if part > 0]


def every_class(card: Card) -> list[Entry]:
    """Legend of all classes, without shares: the same for every frame of a video."""
    return [Entry(name, color) for name, color in zip(card.classes, card.palette, strict=True)]


class Painter:
    """Paints labels in the colours of one palette (RGB, position = label)."""

    def __init__(self, palette: Sequence[Color]) -> None:
        self._colors = np.zeros((max(len(palette), 256), 1, 3), np.uint8)
        self._colors[: len(palette), 0] = palette

    def colors(self, labels_HW: NDArray[np.uint8 | np.uint16]) -> Image:
        """uint8 [H, W, 3]: the colour of each label."""
        if labels_HW.dtype != np.uint8:
            return np.asarray(self._colors[labels_HW, 0])
        painted: Image = cv2.applyColorMap(labels_HW, self._colors[:256])
        return painted

    def overlay(self, image_HWC: Image, labels_HW: NDArray[np.uint8 | np.uint16], opacity: float) -> Image:
        """uint8 [H, W, 3]: the picture with the colours over it; `opacity` in [0, 1], 1 hides the picture."""
        blended: Image = cv2.addWeighted(image_HWC, 1 - opacity, self.colors(labels_HW), opacity, 0)
        return blended


def legend(entries: Sequence[Entry], height: int, width: int) -> Image:
    """A strip of swatches and names, uint8 [h, w, 3] RGB, to go below a picture of `height` x `width`.

    Text grows with the picture. The strip is as wide as the picture, or wider where a single entry needs it.
    """
    line = max(_LEAST_TEXT, round(min(height, width) / 30))
    scale = cv2.getFontScaleFromHeight(_FONT, max(line * 5 // 8, 1))
    widths = [cv2.getTextSize(entry.text, _FONT, scale, 1)[0][0] for entry in entries]
    pad = line // 2
    cell = max(widths, default=0) + line + 3 * pad
    columns = max(1, min(len(entries), (width - pad) // cell))
    rows = -(-len(entries) // columns)
    pitch = line + pad
    strip = np.full((rows * pitch + pad, max(width, cell + pad), 3), _BACKGROUND, np.uint8)
    step = (strip.shape[1] - pad) // columns
    for position, entry in enumerate(entries):
        row, column = divmod(position, columns)
        x, y = pad + column * step, pad + row * pitch
        corners = (x, y), (x + line - 1, y + line - 1)
        cv2.rectangle(strip, *corners, entry.color, cv2.FILLED)
        cv2.rectangle(strip, *corners, _OUTLINE, 1)  # so that a dark colour shows on the dark strip
        baseline = (x + line + pad, y + round(line * 0.78))
        cv2.putText(strip, entry.text, baseline, _FONT, scale, _TEXT, 1, cv2.LINE_AA)
    return strip


def below(image_HWC: Image, strip: Image) -> Image:
    """The picture with a strip (at least as wide) below it."""
    missing = strip.shape[1] - image_HWC.shape[1]
    if missing:
        border = cv2.BORDER_CONSTANT
        image_HWC = cv2.copyMakeBorder(image_HWC, 0, 0, 0, missing, border, value=_BACKGROUND)
    return np.concatenate([image_HWC, strip])


def _percent(share: float) -> str:
    return "<1%" if share < 0.01 else f"{share:.0%}"
