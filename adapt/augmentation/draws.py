"""Which picture is drawn: all alike, or each data set as often as its weight says."""

from collections.abc import Sequence

import numpy as np


def part_shares(weights: Sequence[float | None], sizes: Sequence[int]) -> np.ndarray:
    """Share of the draws that each data set gets, float64 [parts] with sum 1.

    weights: of each, above 0. If all have one, they are relative; else they are shares, and those without one
    have the rest by their numbers of pictures. Empty: all by their numbers of pictures.
    sizes: pictures of each.
    """
    pictures = np.array(sizes, np.float64)
    if not weights:
        return np.asarray(pictures / pictures.sum())
    given = np.array([0.0 if weight is None else weight for weight in weights])
    open_ = np.array([weight is None for weight in weights])
    if not open_.any():
        return np.asarray(given / given.sum())
    return np.asarray(given + open_ * pictures * (1 - given.sum()) / pictures[open_].sum())


class Draws:
    """Draws of one of some pictures.

    indices: of the pictures, [n]; of none, nothing can be drawn.
    part_of: int [all pictures], the data set of every picture.
    shares: of the draws, by data set; None draws all alike, with the very numbers of a single data set.
    """

    def __init__(self, indices: np.ndarray, part_of: np.ndarray, shares: np.ndarray | None) -> None:
        self.indices = indices
        self.steps: np.ndarray | None = None
        if shares is not None and len(indices):
            parts = part_of[indices]
            held = np.bincount(parts, minlength=len(shares))
            steps = np.cumsum(shares[parts] / held[parts])
            self.steps = steps / steps[-1]

    def draw(self, generator: np.random.Generator) -> int:
        """The index of one picture."""
        if self.steps is None:
            return int(generator.choice(self.indices))
        return int(self.indices[np.searchsorted(self.steps, generator.random(), "right")])


def weighted_totals(class_pixels: np.ndarray, part_of: np.ndarray, shares: np.ndarray | None) -> np.ndarray:
    """Pixels of each class [C] as the draws see them: of each data set its share of all labelled pixels.

    class_pixels: [images, C].  shares: None counts every picture as it is.
    """
    if shares is None:
        return np.asarray(class_pixels.sum(0))
    parts = [class_pixels[part_of == part].sum(0) for part in range(len(shares))]
    seen = [share * pixels / max(pixels.sum(), 1) for share, pixels in zip(shares, parts, strict=True)]
    return np.asarray(np.sum(seen, axis=0))
