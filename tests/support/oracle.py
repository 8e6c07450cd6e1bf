"""Slow, obvious float64 twins of the method's formulas. The fast code is tested against them.

Written from the formulas alone (Li et al. 2025), never from the fast code. Loops instead of tricks; numpy
and scipy only. One departure from the paper, in `delta`: its argument is clipped, not F, so that logits in
the tails keep their order. What is said of a prediction, its scores and its bias, is in `oracle_scores.py`.

A mixture is a tuple (weights, means, variances) of arrays whose last axis is K, the components.
Shapes: C classes, P pixels, K components; `rows` is a mixture [C, C, K] (row = hypothesised true class c,
column = logit channel l), `anchors` a mixture [2, K] (0 positive, 1 negative), `seen` bool [C].
"""

import numpy as np
from scipy.special import logsumexp, ndtr

Mixture = tuple[np.ndarray, np.ndarray, np.ndarray]
POSITIVE, NEGATIVE = 0, 1


# ---- one-dimensional Gaussian mixtures --------------------------------------------------------------------


def pdf(mixture: Mixture, z: np.ndarray) -> np.ndarray:
    """Density of one mixture [K] at z, any shape."""
    z = np.asarray(z, dtype=np.float64)
    total = np.zeros_like(z)
    for weight, mean, variance in zip(*mixture, strict=True):
        total = total + weight * np.exp(-0.5 * (z - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
    return total


def cdf(mixture: Mixture, z: np.ndarray) -> np.ndarray:
    """Cumulative distribution F of one mixture [K] at z, any shape."""
    z = np.asarray(z, dtype=np.float64)
    total = np.zeros_like(z)
    for weight, mean, variance in zip(*mixture, strict=True):
        total = total + weight * ndtr((z - mean) / np.sqrt(variance))
    return total


def inverse_cdf(mixture: Mixture, p: np.ndarray) -> np.ndarray:
    """F^-1(p) of one mixture [K] by bisection until float64 can halve no further; 0 < p < 1, any shape.

    Where F is flat to the last bit (between far-apart components) any point of the plateau is right.
    """
    p = np.asarray(p, dtype=np.float64)
    _, means, variances = (np.asarray(part, dtype=np.float64) for part in mixture)
    low = np.full(p.shape, np.min(means - 40 * np.sqrt(variances)))
    high = np.full(p.shape, np.max(means + 40 * np.sqrt(variances)))
    for _ in range(100):
        middle = 0.5 * (low + high)
        below = cdf(mixture, middle) < p
        low = np.where(below, middle, low)
        high = np.where(below, high, middle)
    return 0.5 * (low + high)


def at(mixture: Mixture, *index: int) -> Mixture:
    """The mixture at a position of a bank of mixtures, e.g. at(rows, c, l) or at(anchors, 0)."""
    weights, means, variances = mixture
    return weights[index], means[index], variances[index]


def em_step(values: np.ndarray, counts: np.ndarray | None, mixture: Mixture, floor: float = 0.0) -> Mixture:
    """One step of expectation-maximisation on points `values` [N] that each count `counts` [N] times.

    `floor` is the least variance. A component that owns nothing keeps mean and variance and gets weight 0.
    """
    values = np.asarray(values, dtype=np.float64)
    counts = np.ones_like(values) if counts is None else np.asarray(counts, dtype=np.float64)
    weights, means, variances = (np.array(part, dtype=np.float64) for part in mixture)
    K = len(weights)
    log_joint = np.full((len(values), K), -np.inf)
    for k in range(K):
        if weights[k] > 0:
            gauss = -0.5 * (values - means[k]) ** 2 / variances[k] - 0.5 * np.log(2 * np.pi * variances[k])
            log_joint[:, k] = np.log(weights[k]) + gauss
    responsibility = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
    for k in range(K):
        owned = counts * responsibility[:, k]
        weights[k] = owned.sum() / counts.sum()
        if owned.sum() > 0:
            means[k] = (owned * values).sum() / owned.sum()
            variances[k] = max((owned * (values - means[k]) ** 2).sum() / owned.sum(), floor)
    return weights, means, variances


def log_likelihood(values: np.ndarray, counts: np.ndarray | None, mixture: Mixture) -> float:
    """Sum over the points of count * log density: never falls from one EM step to the next."""
    counts = np.ones(len(values)) if counts is None else np.asarray(counts, dtype=np.float64)
    return float((counts * np.log(pdf(mixture, values))).sum())


def momentum(iteration: int, unseen_for: int, base: float = 0.99, warmup: int = 1500) -> float:
    """m = (mom * min(i / warmup, 1)) ** n: the weight of the stored parameters."""
    return (base * min(iteration / warmup, 1.0)) ** unseen_for


def blend(stored: Mixture, fresh: Mixture, m: float) -> Mixture:
    """phi <- m * phi + (1 - m) * phi_hat, for weights, means and variances alike."""
    weights, means, variances = (
        m * np.asarray(a) + (1 - m) * np.asarray(b) for a, b in zip(stored, fresh, strict=True)
    )
    return weights, means, variances


# ---- shift and corrected logits ---------------------------------------------------------------------------


def delta(
    rows: Mixture, anchors: Mixture, seen: np.ndarray, c: int, l: int, z: np.ndarray, eps: float = 0.01
) -> np.ndarray:
    """Delta[c,l](z) = Q(F[c,l](z)) - z with z clipped to [F^-1(eps), F^-1(1-eps)]; 0 if c was never seen."""
    z = np.asarray(z, dtype=np.float64)
    if not seen[c]:
        return np.zeros_like(z)
    row = at(rows, c, l)
    anchor = at(anchors, POSITIVE if l == c else NEGATIVE)
    lower, upper = inverse_cdf(row, np.array([eps, 1 - eps]))
    z = np.clip(z, lower, upper)
    return inverse_cdf(anchor, cdf(row, z)) - z


def delta_all(
    rows: Mixture, anchors: Mixture, seen: np.ndarray, logits: np.ndarray, eps: float = 0.01
) -> np.ndarray:
    """[P, C, C] with entry [p, c, l] = Delta[c,l](logits[p, l]); logits [P, C]."""
    P, C = logits.shape
    shifts = np.zeros((P, C, C))
    for c in range(C):
        for l in range(C):
            shifts[:, c, l] = delta(rows, anchors, seen, c, l, logits[:, l], eps)
    return shifts


def corrected_logits(
    rows: Mixture, anchors: Mixture, seen: np.ndarray, logits: np.ndarray, tau: float, eps: float = 0.01
) -> np.ndarray:
    """[P, C, C] with entry [p, c, l] = a_c[l] = f[l] + tau * Delta[c,l](f[l])."""
    return logits[:, None, :] + tau * delta_all(rows, anchors, seen, logits, eps)


def scores(
    rows: Mixture, anchors: Mixture, seen: np.ndarray, logits: np.ndarray, tau: float, eps: float = 0.01
) -> np.ndarray:
    """Post-hoc scores [P, C]: a_c[c] - logsumexp_l a_c[l]. Their argmax is the corrected prediction."""
    a = corrected_logits(rows, anchors, seen, logits, tau, eps)
    P, C = logits.shape
    result = np.zeros((P, C))
    for c in range(C):
        result[:, c] = a[:, c, c] - logsumexp(a[:, c, :], axis=1)
    return result


# ---- online correction and density ------------------------------------------------------------------------


def online_logits(
    rows: Mixture,
    anchors: Mixture,
    seen: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    tau: float,
    eps: float = 0.01,
) -> np.ndarray:
    """[P, C]: f[l] - tau * Delta[y,l](f[l]) for pixels with label y (minus: the bias is added on purpose)."""
    shifts = delta_all(rows, anchors, seen, logits, eps)
    result = np.array(logits, dtype=np.float64)
    for p, y in enumerate(labels):
        result[p] -= tau * shifts[p, y]
    return result


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, ignore: int = 255
) -> float:
    """Mean over the pixels that count of weight * -log softmax(logits)[label].

    Divided by the number of pixels that count, not by the sum of weights: a low pseudo-label weight is
    meant to make the loss small. 0 if no pixel counts.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    losses = [
        w * (logsumexp(f) - f[y]) for f, y, w in zip(logits, labels, weights, strict=True) if y != ignore
    ]
    return float(np.mean(losses)) if losses else 0.0


def density(rows: Mixture, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """d = F[y,y](f[y]) in [0, 1], shape [P]: how easy a pixel is for its class."""
    return np.array([cdf(at(rows, y, y), f[y]) for f, y in zip(logits, labels, strict=True)])


def teacher_alpha(iteration: int) -> float:
    """EMA weight of the teacher's own parameters: min(1 - 1/(t+1), 0.999)."""
    return min(1 - 1 / (iteration + 1), 0.999)


# ---- hard random statistics for tests ---------------------------------------------------------------------


def random_statistics(
    rng: np.random.Generator, classes: int, components: int = 5
) -> tuple[Mixture, Mixture, np.ndarray]:
    """(rows, anchors, seen) as of a half-trained network: positives above negatives, all multimodal."""
    C, K = classes, components

    def bank(shape: tuple[int, ...], centre: np.ndarray) -> Mixture:
        weights = rng.dirichlet(np.full(K, 2.0), size=shape)
        means = centre[..., None] + 2.0 * rng.standard_normal((*shape, K))
        variances = rng.uniform(0.3, 1.5, size=(*shape, K)) ** 2
        return weights, means, variances

    row_centres = np.where(np.eye(C, dtype=bool), 4.0, -2.0) + rng.standard_normal((C, C))
    anchor_centres = np.array([5.0, -3.0])
    return bank((C, C), row_centres), bank((2,), anchor_centres), np.ones(C, dtype=bool)


# ---- DAFormer --------------------------------------------------------------------------------------------


def feature_distance(
    features: np.ndarray,
    reference: np.ndarray,
    labels: np.ndarray,
    things: tuple[int, ...],
    share: float = 0.75,
) -> float:
    """Mean over thing cells of the Euclidean distance over channels; maps [N, D, h, w], labels [N, H, W].

    A cell is a thing's where one thing class covers at least `share` of its pixels.
    """
    side = labels.shape[2] // features.shape[3]
    distances = []
    for n, row, column in np.ndindex(features.shape[0], *features.shape[2:]):
        cell = labels[n, row * side : (row + 1) * side, column * side : (column + 1) * side]
        if any(np.mean(cell == thing) >= share for thing in things):
            difference = features[n, :, row, column] - reference[n, :, row, column]
            distances.append(np.sqrt(np.sum(difference**2)))
    return float(np.mean(distances)) if distances else 0.0


def brightness(image: np.ndarray) -> float:
    """Mean luma of uint8 [H, W, 3] RGB in [0, 1], with the weights of ITU-R BT.601."""
    total = 0.0
    for red, green, blue in image.reshape(-1, 3).tolist():
        total += (0.299 * red + 0.587 * green + 0.114 * blue) / 255
    return total / (image.shape[0] * image.shape[1])
