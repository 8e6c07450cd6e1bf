"""Pictures of any size for a graph that takes some sizes only, and labels back to the pictures' size."""

import cv2
import numpy as np
from numpy.typing import NDArray

from serve.card import Card

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint8 | np.uint16]

_STRIP = 1 << 20  # pixels whose scores are upsampled at a time


def fit(card: Card, images_NHWC: Pixels) -> Pixels:
    """Bring pictures to a size that the graph takes: the fixed one, or at least the least one."""
    height, width = images_NHWC.shape[1:3]
    if card.size == (height, width):
        return np.ascontiguousarray(images_NHWC)
    if card.size is not None:
        return np.stack([_resize(image, *card.size) for image in images_NHWC])
    least = card.minimum_size
    return np.ascontiguousarray(pad(images_NHWC, max(height, least), max(width, least)))


def unfit(card: Card, labels_NHW: Labels, height: int, width: int) -> Labels:
    """Bring labels back to the size of the pictures they belong to."""
    if card.size not in (None, (height, width)):
        nearest = cv2.INTER_NEAREST_EXACT
        return np.stack([cv2.resize(each, (width, height), interpolation=nearest) for each in labels_NHW])
    return labels_NHW[:, :height, :width]


def pad(images_NHWC: Pixels, height: int, width: int) -> Pixels:
    """Repeat the border pixels at the bottom and right up to this size."""
    missing = height - images_NHWC.shape[1], width - images_NHWC.shape[2]
    if not any(missing):
        return images_NHWC
    return np.pad(images_NHWC, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def chunks(images_NHWC: Pixels, size: int) -> list[Pixels]:
    """Batches of exactly `size`; the last one is filled up by repeating its last picture."""
    filler = np.repeat(images_NHWC[-1:], -len(images_NHWC) % size, axis=0)
    return list(np.concatenate([images_NHWC, filler]).reshape(-1, size, *images_NHWC.shape[1:]))


def best_labels(scores_Chw: NDArray[np.float32], scale: int) -> Labels:
    """Labels [scale * h, scale * w]: scores upsampled bilinearly, then the best class, as the graph does it.

    A strip of rows at a time, each with a row of scores more above and below, so that it needs little memory.
    """
    classes, height, width = scores_Chw.shape
    labels: Labels = np.empty((scale * height, scale * width), np.uint8 if classes <= 256 else np.uint16)
    rows = max(_STRIP // (scale * scale * width), 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        above, below = max(top - 1, 0), min(bottom + 1, height)
        strip = _best_labels(scores_Chw[:, above:below], scale, labels.dtype)
        labels[scale * top : scale * bottom] = strip[scale * (top - above) :][: scale * (bottom - top)]
    return labels


def _best_labels(scores_Chw: NDArray[np.float32], scale: int, dtype: np.dtype[np.generic]) -> Labels:
    size = (scores_Chw.shape[2] * scale, scores_Chw.shape[1] * scale)
    best = cv2.resize(scores_Chw[0], size, interpolation=cv2.INTER_LINEAR)
    labels: Labels = np.zeros(best.shape, dtype)
    for label, channel in enumerate(scores_Chw[1:], start=1):  # one at a time: C full maps are large
        candidate = cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR)
        labels[candidate > best] = label
        np.maximum(best, candidate, out=best)
    return labels


def _resize(image: Pixels, height: int, width: int) -> Pixels:
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(image, (width, height), interpolation=method)
    return resized
