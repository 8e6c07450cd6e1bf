"""Pictures of any size for a graph that takes some sizes only, and labels back to the pictures' size.

Labels are the best class of what is upsampled: the scores x, or probabilities of them. Log-odds become

    q[c] = 1 / (1 + exp -(x[c] - m + min(max(m, -6), 10))),    m = max_c x[c],

the paper's own probabilities (Li et al. 2025, Eq. 15), but for pixels whose best class has more than 0.99995
or less than 0.0025. There, where each class is judged under its own hypothesis, several may be as good as
certain, and float32 would have 1 for them all: odds are moved together, so that the best class stays the best
one. At strength 0, where only one class can be that certain, q is the softmax of the logits, their sigmoid or
their exponential, whatever the network's own user would upsample.

Excluded classes v, whose scores lie g[v] from the best of the others, take their share of a pixel from these:

    L = log max_c q[c] + log sum_v exp g[v],    s = 1 / (1 + exp -L),
    q[c] <- q[c] * (1 - s),    q[v] = s * exp g[v] / sum_v exp g[v],

so that v is the best class exactly where g[v] > 0; uncorrected, this would be the softmax over all classes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from serve.card import Card, Upsampling

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint8 | np.uint16]

_STRIP = 1 << 20  # pixels whose scores are upsampled at a time

LEAST_ODDS, MOST_ODDS = -6.0, 10.0
"""Log-odds between which those of a pixel's best class are held."""


class Behind(NamedTuple):
    """What stands behind the scores in a graph, as it is run."""

    upsampling: Upsampling = Upsampling()
    corrected: bool = True
    """Whether scores are log-odds; else they are the logits."""
    excluded: tuple[int, ...] = ()
    """Classes that take no part in the correction."""


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


def best_labels(scores_Chw: NDArray[np.float32], scale: int, behind: Behind | None = None) -> Labels:
    """Labels [scale * h, scale * w]: scores upsampled bilinearly, then the best class, as the graph does it.

    A strip of rows at a time, each with a row of scores more above and below, so that it needs little memory.
    """
    behind = behind or Behind()
    if behind.upsampling.of == "probabilities" and scale > 1:
        scores_Chw = probabilities(scores_Chw, behind)
    if behind.upsampling.coordinates != "half_pixel":
        return _best_labels_elsewhere(scores_Chw, scale, behind.upsampling.coordinates)
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


def _best_labels_elsewhere(scores_Chw: NDArray[np.float32], scale: int, coordinates: str) -> Labels:
    """The same, of pixels that lie otherwise than OpenCV has them."""
    classes, height, width = scores_Chw.shape
    dtype = np.uint8 if classes <= 256 else np.uint16
    rows, columns = (between(size, scale * size, coordinates) for size in (height, width))
    strips: list[Labels] = []
    for part in rows.parts(max(_STRIP // (scale * width), 1)):
        best = columns.of(part.of(scores_Chw[0]).T).T
        labels: Labels = np.zeros(best.shape, dtype)
        for label, channel in enumerate(scores_Chw[1:], start=1):
            candidate = columns.of(part.of(channel).T).T
            labels[candidate > best] = label
            np.maximum(best, candidate, out=best)
        strips.append(labels)
    return np.concatenate(strips)


class Lines(NamedTuple):
    """Where lines of an upsampled map lie among those that it is made of."""

    below: NDArray[np.int64]
    above: NDArray[np.int64]
    share: NDArray[np.float32]
    """Of the line above."""

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """The lines, along the first axis."""
        share = self.share.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(values[self.below] * (1 - share) + values[self.above] * share)

    def parts(self, most: int) -> "Iterator[Lines]":
        """At most so many at a time."""
        for start in range(0, len(self.share), most):
            part = slice(start, start + most)
            yield Lines(self.below[part], self.above[part], self.share[part])


def between(size: int, full: int, coordinates: str) -> Lines:
    """How `size` lines become `full` ones, in the coordinates of `serve.card.Upsampling`."""
    at: NDArray[np.float64] = np.arange(full, dtype=np.float64)
    if coordinates == "half_pixel":
        at = (at + 0.5) * size / full - 0.5
    elif coordinates == "align_corners":
        at *= (size - 1) / max(full - 1, 1)
    else:
        at *= size / full
    at = at.clip(0, size - 1)
    below = np.floor(at).astype(np.int64)
    return Lines(below, np.minimum(below + 1, size - 1), (at - below).astype(np.float32))


def probabilities(scores_Chw: NDArray[np.float32], behind: Behind) -> NDArray[np.float32]:
    """Probabilities [C, h, w] of scores, see above."""
    if not behind.corrected:
        return _of_logits(scores_Chw, behind.upsampling.uncorrected)
    out = np.isin(np.arange(len(scores_Chw)), behind.excluded)
    top = scores_Chw[~out].max(0)
    held = top.clip(LEAST_ODDS, MOST_ODDS)
    found = _sigmoid(scores_Chw - (top - held))
    if out.any():
        beside = scores_Chw[out] - top
        greatest = beside.max(0)
        each = np.exp(beside - greatest)
        total = each.sum(0)
        odds = np.log(_sigmoid(held)) + greatest + np.log(total)
        found[~out] *= _sigmoid(-odds)
        found[out] = each / total * _sigmoid(odds)
    return found


def _of_logits(logits_Chw: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    if kind == "sigmoid":
        return _sigmoid(logits_Chw)
    if kind == "exp":
        return np.asarray(np.exp(logits_Chw))
    each = np.exp(logits_Chw - logits_Chw.max(0))
    return np.asarray(each / each.sum(0))


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # 1 / infinity is right
        return np.asarray(1 / (1 + np.exp(-x)))


def _resize(image: Pixels, height: int, width: int) -> Pixels:
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(image, (width, height), interpolation=method)
    return resized
