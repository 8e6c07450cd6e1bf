"""Slow, obvious float64 twins of what is said of a prediction: scores, and bias with and without labels.

Written from the formulas alone, as `oracle.py` is, whose shapes and mixtures these are.
"""

import numpy as np
from oracle import Mixture, at, delta


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union per class [C] from counts [true, predicted]; NaN if absent from the truth."""
    C = len(confusion)
    result = np.full(C, np.nan)
    for c in range(C):
        if confusion[c].sum() > 0:
            result[c] = confusion[c, c] / (confusion[c].sum() + confusion[:, c].sum() - confusion[c, c])
    return result


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Recall per class [C] from counts [true, predicted]; NaN if absent from the truth."""
    C = len(confusion)
    result = np.full(C, np.nan)
    for c in range(C):
        if confusion[c].sum() > 0:
            result[c] = confusion[c, c] / confusion[c].sum()
    return result


def bias_of_shares(shares: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Bias [C] from shares[c, l] = Pr(argmax = l | y = c), over the rows that are known (bool [C]).

    With every row known this is (1/C) sum_c Pr(l | c) - 1/C. With S rows known the mean runs over those and
    what an unbiased network would give is taken off: 1/S for a known class, 0 for another. Sums to 0 always.
    """
    C, S = len(shares), int(known.sum())
    result = np.zeros(C)
    for l in range(C):
        result[l] = sum(shares[c, l] for c in range(C) if known[c]) / S - (1 / S if known[l] else 0.0)
    return result


def bias(confusion: np.ndarray) -> np.ndarray:
    """Bias with labels [C] from counts [true, predicted]; rows without ground truth are left out."""
    known = confusion.sum(axis=1) > 0
    shares = np.zeros(confusion.shape)
    for c in range(len(confusion)):
        if known[c]:
            shares[c] = confusion[c] / confusion[c].sum()
    return bias_of_shares(shares, known)


def draw(mixture: Mixture, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` independent draws from one mixture [K]."""
    weights, means, variances = mixture
    k = rng.choice(len(weights), size=count, p=np.asarray(weights) / np.sum(weights))
    return means[k] + np.sqrt(variances[k]) * rng.standard_normal(count)


def argmax_shares(
    rows: Mixture,
    seen: np.ndarray,
    draws: int,
    rng: np.random.Generator,
    anchors: Mixture | None = None,
    tau: float = 0.0,
    eps: float = 0.01,
) -> np.ndarray:
    """Pr(argmax = l | y = c) [C, C] by drawing each channel of a row from its own mixture, independently.

    With `anchors` and tau > 0 every drawn logit z of row c becomes z + tau * Delta[c,l](z) first: the row
    under its own, true, hypothesis. Standard error of an entry: at most 0.5 / sqrt(draws).
    """
    C = len(seen)
    shares = np.zeros((C, C))
    for c in range(C):
        if not seen[c]:
            continue
        f = np.stack([draw(at(rows, c, l), draws, rng) for l in range(C)], axis=1)
        if anchors is not None and tau != 0:
            f = f + tau * np.stack([delta(rows, anchors, seen, c, l, f[:, l], eps) for l in range(C)], axis=1)
        shares[c] = np.bincount(f.argmax(axis=1), minlength=C) / draws
    return shares


def bias_without_labels(rows: Mixture, seen: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Label-free bias [C] by Monte-Carlo, channels taken as independent; rows never seen are left out."""
    return bias_of_shares(argmax_shares(rows, seen, draws, rng), np.asarray(seen))
