"""Distances of distributions and bias of histograms, number by number in float64."""

import math

import numpy as np


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Of two distributions [B]."""

    def divergence(a: np.ndarray, b: np.ndarray) -> float:
        return sum(x * math.log2(x / y) for x, y in zip(a.tolist(), b.tolist(), strict=True) if x > 0)

    middle = (p + q) / 2
    return math.sqrt(max((divergence(p, middle) + divergence(q, middle)) / 2, 0.0))


def wasserstein(p: np.ndarray, q: np.ndarray, step: float) -> float:
    """The work of moving heaps: what is too much in a bin is carried to the next one."""
    work = carried = 0.0
    for x, y in zip(p.tolist(), q.tolist(), strict=True):
        carried += x - y
        work += abs(carried) * step
    return work


def bias(joint: np.ndarray, least: int) -> np.ndarray:
    """Bias [C] of counts [C, C, B]: channels independent; ties between channels shared out at half a bin."""
    C, _, B = joint.shape
    rows = [c for c in range(C) if joint[c, 0].sum() >= least]
    found = np.zeros(C)
    for c in rows:
        p = joint[c] / joint[c].sum(1, keepdims=True)
        won = np.zeros(C)
        for l in range(C):
            for k in range(B):
                others = [p[j, :k].sum() + p[j, k] / 2 for j in range(C) if j != l]
                won[l] += p[l, k] * math.prod(others)
        found += won / won.sum()
    return (found - np.isin(np.arange(C), rows)) / len(rows)
