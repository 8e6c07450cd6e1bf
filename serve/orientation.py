"""How stored pictures are turned upright."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Orientation(NamedTuple):
    """How to turn a stored picture upright: transpose first, then flip."""

    transpose: bool
    flip_x: bool
    flip_y: bool

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        return np.ascontiguousarray(pixels[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


def orientation_of(decoded: Any) -> Orientation:
    """Of a frame that libav decoded.

    From the display matrix [[a, b, u], [c, d, v], ...]: shown x = a x + c y, shown y = b x + d y.
    """
    side_data = decoded.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return Orientation(False, False, False)
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(side_data), np.int32)[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(False, flip_x=a < 0, flip_y=d < 0)
