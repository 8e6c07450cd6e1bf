"""Exact probabilities of scores, and how far from them those of a right graph may lie.

Of corrected scores x, known up to what is allowed, with m = max_c x[c] over classes that take part,

    q[c] = sigmoid(x[c] - m + min(max(m, -6), 10));

of logits f their softmax, written with the odds f[c] - log sum_{l != c} exp f[l], their sigmoid or their
exponential. All of these rise with a class's own score and fall, if they move, with the others', so the ends
of what scores may be give the ends of what probabilities may be. Excluded classes are as in
serve/inference/sizes.py, whose code this does not share.
"""

import torch
from torch import Tensor

from export.verification.exact import Exact

HELD = (-6.0, 10.0)
"""Log-odds between which those of a pixel's best class are held."""
ROUNDING = 1e-6
"""Of probabilities in float32, and what is upsampled of them."""


def probable(right: Exact, uncorrected: str) -> tuple[Tensor, Tensor]:
    """Probabilities of scores [N, C, h, w], float64, and most that a right graph's may differ.

    Args:
        uncorrected: what makes them of logits: softmax, sigmoid or exp.
    """
    x, off = right.scores.double(), right.allowed.double()
    out = torch.zeros(x.shape[1], dtype=torch.bool)
    out[list(right.excluded)] = True

    def of(own: Tensor, others: Tensor) -> Tensor:
        return _of_logits(own, others, uncorrected) if right.plain else _of_odds(own, others, out)

    exact, low, high = of(x, x), of(x - off, x + off), of(x + off, x - off)
    return exact, torch.maximum(high - exact, exact - low) + ROUNDING * exact.clamp_min(1)


def _of_logits(own: Tensor, others: Tensor, kind: str) -> Tensor:
    """Of logits: a class's own in `own`, those that it is compared with in `others`."""
    if kind == "sigmoid":
        return own.sigmoid()
    if kind == "exp":
        return own.exp()
    return (own - _sum_of_others(others)).sigmoid()


def _sum_of_others(f: Tensor) -> Tensor:
    """log sum_{l != c} exp f[l] for every c, in which nothing is subtracted."""
    top = f.amax(1, keepdim=True)
    apart = 1 - torch.eye(f.shape[1], dtype=f.dtype)
    return torch.einsum("cl,nlhw->nchw", apart, (f - top).exp()).log() + top


def _of_odds(own: Tensor, others: Tensor, out: Tensor) -> Tensor:
    """Of log-odds, likewise; classes `out` take no part in them."""
    best = others[:, ~out].amax(1, keepdim=True)
    found = (own - (best - best.clamp(*HELD))).sigmoid()
    if not out.any():
        return found
    ours = own[:, ~out].amax(1, keepdim=True)
    beside, against = own[:, out] - best, others[:, out] - ours
    found[:, ~out] *= (-_odds_of_share(best, against)).sigmoid()
    part = (beside - _sum_of_others(against)).sigmoid() * _odds_of_share(ours, beside).sigmoid()
    found[:, out] = part
    return found


def _odds_of_share(best: Tensor, beside: Tensor) -> Tensor:
    """L = log max_c q[c] + log sum_v exp g[v], of g = `beside`."""
    return best.clamp(*HELD).sigmoid().log() + beside.logsumexp(1, keepdim=True)
