"""Slow, obvious float64 twins of what an evaluation computes beside the scores: baselines and intervals.

Written from the method's page and the cited sources, not from the code.
"""

import math
from collections.abc import Sequence

import numpy as np


def pixels_inside(logits: np.ndarray, stride: int, height: int, width: int) -> list[np.ndarray]:
    """Logit vectors [C] of the decoder pixels whose centres lie on the picture, from logits [C, h, w]."""
    found = []
    for row in range(logits.shape[1]):
        for column in range(logits.shape[2]):
            if row * stride + stride // 2 < height and column * stride + stride // 2 < width:
                found.append(logits[:, row, column].astype(np.float64))
    return found


def pseudo_label_shares(pixels: Sequence[np.ndarray]) -> list[float]:
    """Share of the pixels that each class wins."""
    wins = [0] * len(pixels[0])
    for pixel in pixels:
        wins[int(np.argmax(pixel))] += 1
    return [count / len(pixels) for count in wins]


def mean_softmax(pixels: Sequence[np.ndarray]) -> list[float]:
    """Mean over the pixels of the probability of each class."""
    total = [0.0] * len(pixels[0])
    for pixel in pixels:
        top = max(pixel)
        weights = [math.exp(value - top) for value in pixel]
        for c, weight in enumerate(weights):
            total[c] += weight / sum(weights)
    return [value / len(pixels) for value in total]


def logit_adjusted(logits: np.ndarray, shares: Sequence[float | None], strength: float) -> np.ndarray:
    """f[l] - t * log(share[l]) of logits [C, h, w] (Menon et al. 2021, post hoc); f[l] where it is None."""
    out = np.empty(logits.shape)
    for c, share in enumerate(shares):
        for row in range(logits.shape[1]):
            for column in range(logits.shape[2]):
                moved = 0.0 if share is None else strength * math.log(share)
                out[c, row, column] = float(logits[c, row, column]) - moved
    return out


def means(confusion: np.ndarray) -> tuple[float, float]:
    """mIoU and mAcc of pixel counts [C, C], row = truth, over the classes that are there."""
    iou, accuracy = [], []
    for c in range(len(confusion)):
        true = sum(int(n) for n in confusion[c])
        predicted = sum(int(n) for n in confusion[:, c])
        if true:
            right = int(confusion[c, c])
            iou.append(right / (true + predicted - right))
            accuracy.append(right / true)
    return sum(iou) / len(iou), sum(accuracy) / len(accuracy)


def bootstrap_intervals(
    plain: Sequence[np.ndarray], other: Sequence[np.ndarray], draws: int, seed: int
) -> list[tuple[float, float]]:
    """95 % percentile intervals of the differences in mIoU and mAcc, from confusion matrices per picture.

    Every draw takes as many pictures as there are, with replacement, the same for both.
    """
    rng = np.random.default_rng(seed)
    found: list[list[float]] = [[], []]
    for _ in range(draws):
        chosen = rng.integers(0, len(plain), len(plain))
        sums = [np.zeros_like(plain[0]), np.zeros_like(plain[0])]
        for index in chosen:
            sums[0] = sums[0] + plain[index]
            sums[1] = sums[1] + other[index]
        for values, before, after in zip(found, means(sums[0]), means(sums[1]), strict=True):
            values.append(after - before)
    return [(percentile(values, 0.025), percentile(values, 0.975)) for values in found]


def percentile(values: Sequence[float], share: float) -> float:
    """Between the two sorted values that the share falls between, linearly."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
