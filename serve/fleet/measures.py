"""How unlike two distributions of logits are, and what joint histograms say of a network's bias.

Jensen-Shannon distance   sqrt( H((p + q) / 2) - (H(p) + H(q)) / 2 ),  H in bits: 0 alike, 1 without overlap
Wasserstein distance      integral of |P(z) - Q(z)| dz: how far logits have moved on the whole, in logits
bias (METHOD, section 2)  mean over known c of Pr(argmax = l | c), less 1 / their number for a known l
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.gathering.counts import LEVELS

Array = NDArray[np.float64]


def shared_out(counts: NDArray[Any]) -> Array:
    """Counts [..., B] as shares of their sum; all 0 where there are none."""
    total = counts.sum(-1, keepdims=True)
    return np.asarray(np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0))


def jensen_shannon(p: Array, q: Array) -> Array:
    """Distance [...] in [0, 1] of distributions [..., B]."""
    return np.sqrt(np.maximum(_entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2, 0.0))


def wasserstein(p: Array, q: Array, step: float) -> Array:
    """Distance [...] in logits of distributions [..., B] over bins of this width."""
    return np.asarray(np.abs(np.cumsum(p - q, -1)).sum(-1) * step)


def bias_of_joint(joint: NDArray[np.int64], least: int) -> Array:
    """Bias [C] estimated without labels, from counts [C, C, B].

    Classes with fewer than `least` pixels are no rows.

    The channels of a pixel are taken as independent, and its class as it was gathered: digits mean little.
    Pr(l | c) = sum_k p[c,l,k] prod_{j != l} F[c,j,k], with F at the middle of a bin.
    """
    known = joint[:, 0].sum(-1) >= least
    C = len(joint)
    if not known.any():
        return np.zeros(C)
    mean = np.zeros(C)
    for row in np.flatnonzero(known):
        p = shared_out(joint[row])
        logs = np.log(np.maximum(np.cumsum(p, -1) - p / 2, 1e-300))
        won = (p * np.exp(logs.sum(0) - logs)).sum(-1)
        mean += won / won.sum()
    return np.asarray((mean - known) / known.sum())


def mean_confidence(counts: NDArray[np.int64]) -> Array:
    """Mean [C] of the softmax of the best logit, of counts [C, LEVELS]; NaN where there are none."""
    middles = (np.arange(LEVELS) + 0.5) / LEVELS
    with np.errstate(invalid="ignore"):
        return np.asarray((counts * middles).sum(-1) / counts.sum(-1))


def _entropy(p: Array) -> Array:
    """In bits, over the last axis."""
    logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
    return np.asarray(-(p * logs).sum(-1))
