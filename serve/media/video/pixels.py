"""From what a decoder gives to upright 8-bit RGB."""

from typing import Any, NamedTuple

import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from serve.media.video.hdr import is_hdr, to_sdr

RULE = 2
"""Number of the way from a decoder's codes to pixels, here and in hdr.py, that changes with it: for whoever
keeps decoded frames."""
_UNKNOWN_COLORSPACE = 2
_HD_HEIGHT = 720


class Orientation(NamedTuple):
    """How to turn a stored picture upright: transpose first, then flip."""

    transpose: bool
    flip_x: bool
    flip_y: bool

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn uint8 [H, W, 3]."""
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        return np.ascontiguousarray(pixels[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


def orientation(decoded: Any) -> Orientation:
    """From the display matrix [[a, b, u], [c, d, v], ...]: shown x = a x + c y, shown y = b x + d y."""
    side_data = decoded.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return Orientation(False, False, False)
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(side_data), np.int32)[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(False, flip_x=a < 0, flip_y=d < 0)


def to_rgb(decoded: Any, width: int, height: int) -> NDArray[np.uint8]:
    """A decoded av.VideoFrame as uint8 [height, width, 3], as it is stored; HDR is made SDR."""
    shrinks = width * height < decoded.width * decoded.height
    untagged_hd = decoded.colorspace == _UNKNOWN_COLORSPACE and decoded.height >= _HD_HEIGHT
    hdr, deep = is_hdr(decoded), decoded.format.components[0].bits > 8
    rgb: NDArray[Any] = decoded.to_ndarray(
        format="rgb48le" if hdr else "rgb24",
        width=width,
        height=height,
        src_colorspace="ITU709" if untagged_hd else None,  # what players assume, unlike libav
        interpolation=_interpolation(shrinks, precise=not hdr and (shrinks or deep)),
    )
    return to_sdr(rgb, decoded.color_trc) if hdr else rgb


def _interpolation(shrinks: bool, precise: bool) -> Any:
    """How libav computes RGB pixels.

    Its ways from more than 8 bits, and to another size, make 253 of white unless asked for precision.
    (The one from 8 bits is right without, and fast; the one to 16 bits is wrong with.)
    """
    method = Interpolation.AREA if shrinks else Interpolation.BILINEAR
    return method | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT if precise else method
