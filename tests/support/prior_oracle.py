"""Slow, obvious float64 twins of the losses that know shares of classes only (Menon et al., Cui et al.).

Written from the formulas, never from the fast code; numpy only. C classes, P pixels.
"""

import math

import numpy as np


def running_shares(batches: list[list[int]], momentum: float) -> list[float]:
    """Shares of the classes after batches of so many pixels of each, a list of C numbers per batch.

    A plain mean of the batches' shares until its newest part would be smaller than 1 - momentum.
    """
    shares = [0.0] * len(batches[0])
    done = 0
    for counts in batches:
        total = sum(counts)
        if total == 0:
            continue
        keep = min(done / (done + 1), momentum)
        shares = [keep * old + (1 - keep) * new / total for old, new in zip(shares, counts, strict=True)]
        done += 1
    return shares


def adjusted_loss(logits: np.ndarray, label: int, shares: list[float], pixels: int, strength: float) -> float:
    """Cross-entropy of one pixel, logits [C], on f[l] + t * log(pi[l]); pi is at least a pixel of a crop."""
    moved = [
        float(value) + strength * math.log(max(share, 1 / pixels))
        for value, share in zip(logits, shares, strict=True)
    ]
    top = max(moved)
    return top + math.log(sum(math.exp(value - top) for value in moved)) - moved[label]


def effective_number(number: float, beta: float) -> float:
    """(1 - beta^n) / (1 - beta) samples that differ, of n."""
    return (1 - beta**number) / (1 - beta)


def class_weight(index: int, shares: list[float], pixels: int, beta: float) -> float:
    """Inverse effective number of class `index` in a crop, scaled to a mean of 1 over all pixels."""
    inverse = [1 / effective_number(max(share * pixels, 1), beta) for share in shares]
    return inverse[index] / sum(share * weight for share, weight in zip(shares, inverse, strict=True))


def softmax_shares(pixels: np.ndarray) -> list[float]:
    """Mean softmax of each class over pixels of logits [P, C]."""
    total = [0.0] * pixels.shape[1]
    for logits in pixels.astype(np.float64):
        powers = [math.exp(value - max(logits)) for value in logits]
        total = [old + power / sum(powers) for old, power in zip(total, powers, strict=True)]
    return [value / len(pixels) for value in total]


def adjusted_bias(bias: list[float], shares: list[float], strength: float, least: float) -> list[float]:
    """b[l] - t * log pi[l] (Menon et al. 2021, post hoc); pi is at least `least`."""
    return [b - strength * math.log(max(share, least)) for b, share in zip(bias, shares, strict=True)]


def blended(old: float, batches: list[list[float]], share: float, of: str) -> float:
    """Of one channel: the old running mean (or variance), and the mean over batches of theirs."""
    found = []
    for values in batches:
        mean = math.fsum(values) / len(values)
        spread = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
        found.append(mean if of == "mean" else spread)
    return (1 - share) * old + share * math.fsum(found) / len(found)
