"""The rows of a picture that the check at writing looks at: of many classes, all pixels would take minutes.

An exact score takes C terms for each of C classes, so C^2 a decoder pixel. Bands lie at the pictures' bottom
first, where padding and cropping are, and further up from picture to picture.
"""

from typing import NamedTuple

MOST = 2**22
"""Terms C^2 P of the P decoder pixels that are looked at in a picture: 11,600 pixels of 19 classes."""
LEAST = 4
"""Decoder rows that are looked at, however many classes there are."""


class Band(NamedTuple):
    """Some decoder rows of a picture."""

    rows: slice
    height: int
    """Decoder rows of the picture."""

    @property
    def whole(self) -> bool:
        """Whether that is all of the picture."""
        return (self.rows.start, self.rows.stop) == (0, self.height)

    def margins(self, scale: int) -> tuple[int, int]:
        """First and last rows of the upsampled band that depend on decoder rows beyond it."""
        return tuple(scale // 2 * cut for cut in (self.rows.start > 0, self.rows.stop < self.height))

    def pixels(self, scale: int) -> slice:
        """Rows of the labels that depend on rows of the band alone."""
        first, last = self.margins(scale)
        return slice(self.rows.start * scale + first, self.rows.stop * scale - last)


def band_of(position: int, pictures: int, shape: tuple[int, ...], most: int | None) -> Band:
    """The band of one of so many pictures, logits [N, C, h, w]; all of it if `most` terms allow or None."""
    _, C, h, w = shape
    count = h if most is None else min(h, max(LEAST, most // (C * C * w)))
    start = round((h - count) * (1 - position / max(1, pictures - 1)))
    return Band(slice(start, start + count), h)
