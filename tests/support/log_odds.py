"""Post-hoc scores as log-odds: the slow float64 twin, beside those of `oracle`.

Written from the formula alone (Li et al. 2025, Eq. 15 as odds), never from the fast code. Shapes as in
`oracle`: C classes, P pixels.
"""

import numpy as np
import oracle
from scipy.special import logsumexp


def of_corrected(a: np.ndarray) -> np.ndarray:
    """[P, C] log-odds of each class under its own hypothesis, of corrected logits a[p, c, l] = a_c[l].

    x_c = a_c[c] - log sum_{l != c} exp a_c[l].
    """
    P, C, _ = a.shape
    result = np.zeros((P, C))
    for c in range(C):
        others = [l for l in range(C) if l != c]
        result[:, c] = a[:, c, c] - logsumexp(a[:, c, others], axis=1)
    return result


def scores(
    rows: oracle.Mixture,
    anchors: oracle.Mixture,
    seen: np.ndarray,
    logits: np.ndarray,
    tau: float,
    eps: float = 0.01,
) -> np.ndarray:
    """Post-hoc scores [P, C] of logits [P, C], which are upsampled and whose argmax is the prediction.

    At tau == 0 they are the logits themselves: the uncorrected prediction, and no other between pixels.
    """
    if tau == 0:
        return np.asarray(logits, dtype=np.float64)
    return of_corrected(oracle.corrected_logits(rows, anchors, seen, logits, tau, eps))


def upsampled(maps: np.ndarray, scale: int, coordinates: str = "half_pixel") -> np.ndarray:
    """[C, h, w] to [C, scale * h, scale * w], bilinearly: pixel centres at half, edges held."""
    return resized(maps, (scale * maps.shape[1], scale * maps.shape[2]), coordinates)


def resized(maps: np.ndarray, size: tuple[int, int], coordinates: str) -> np.ndarray:
    """[C, h, w] to [C, *size], pixels lying as ONNX's Resize has them in these coordinates."""
    C, h, w = maps.shape
    places = {
        "half_pixel": lambda i, n, full: (i + 0.5) * n / full - 0.5,
        "align_corners": lambda i, n, full: i * (n - 1) / (full - 1),
        "asymmetric": lambda i, n, full: i * n / full,
    }
    full = np.zeros((C, *size))
    for y in range(size[0]):
        for x in range(size[1]):
            at = places[coordinates]
            v, u = (min(max(at(i, n, s), 0), n - 1) for i, n, s in ((y, h, size[0]), (x, w, size[1])))
            top, left = (min(max(int(np.floor(p)), 0), n - 1) for p, n in ((v, h), (u, w)))
            below, right = min(top + 1, h - 1), min(left + 1, w - 1)
            s, t = np.clip(v - top, 0, 1), np.clip(u - left, 0, 1)
            upper = (1 - t) * maps[:, top, left] + t * maps[:, top, right]
            lower = (1 - t) * maps[:, below, left] + t * maps[:, below, right]
            full[:, y, x] = (1 - s) * upper + s * lower
    return full


def scores_excluding(
    rows: oracle.Mixture,
    anchors: oracle.Mixture,
    seen: np.ndarray,
    excluded: np.ndarray,
    logits: np.ndarray,
    tau: float,
) -> np.ndarray:
    """The same [P, C] where classes `excluded`, bool [C], take no part.

    The others are judged among themselves, as if their logits were all there are. An excluded class v has
    the distance to the best of them that it has in the logits: f[v] - max_l f[l] + max_c score[c].
    """
    if tau == 0:
        return np.asarray(logits, dtype=np.float64)
    others = np.flatnonzero(~excluded)
    among = np.ix_(others, others)
    of_others = tuple(part[among] for part in rows)
    result = np.zeros(logits.shape)
    result[:, others] = scores(of_others, anchors, seen[others], logits[:, others], tau)
    for v in np.flatnonzero(excluded):
        result[:, v] = logits[:, v] - logits[:, others].max(1) + result[:, others].max(1)
    return result


def probabilities(odds: np.ndarray, excluded: tuple[int, ...] = ()) -> np.ndarray:
    """Probabilities [P, C] of log-odds [P, C], each class under its own hypothesis.

    q_c = 1 / (1 + exp(-x_c)), the odds of a pixel moved together until those of its best class lie between -6
    and 10. Excluded classes v, e^g_v as likely as the best of the others, whose q is the greatest, are given
    that likelihood beside them, and all are divided by 1 + q sum_v e^g_v.
    """
    P, C = odds.shape
    others = [c for c in range(C) if c not in excluded]
    result = np.zeros((P, C))
    for p in range(P):
        best = max(odds[p, c] for c in others)
        moved = min(max(best, -6.0), 10.0) - best
        for c in others:
            result[p, c] = 1 / (1 + np.exp(-(odds[p, c] + moved)))
        most = max(result[p, c] for c in others)
        for v in excluded:
            result[p, v] = most * np.exp(odds[p, v] - best)
        result[p] /= 1 + sum(result[p, v] for v in excluded)
    return result


def of_logits(logits: np.ndarray, kind: str) -> np.ndarray:
    """What a network's own user upsamples, [P, C] of logits [P, C]: their softmax, sigmoid or exponential."""
    if kind == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    weights = np.exp(logits)
    return weights if kind == "exp" else weights / weights.sum(1, keepdims=True)
