"""One-dimensional Gaussian mixtures, many at once: density, CDF, quantiles, and EM on histograms.

Leading dimensions are batch dimensions throughout, the last axis of a parameter is the component (K), the
last axis of an argument is the point (G or B). A histogram is a sufficient summary of one-dimensional data
up to its bin width, so EM runs on bin centres weighted by counts and never sees a pixel (METHOD: Li et al.
2025, section 3.3, made cheap).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from serve.media.progress import Bar


class Mixture(NamedTuple):
    """Parameters of Gaussian mixtures, each of shape [..., K], in logits (variances in logits squared)."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def to(self, target: torch.device | torch.dtype) -> "Mixture":
        return Mixture(*(parameter.to(target) for parameter in self))

    def select(self, index: Tensor | int | tuple[Tensor | slice | int, ...]) -> "Mixture":
        """Index the batch dimensions of all three parameters alike."""
        return Mixture(*(parameter[index] for parameter in self))


_SMALL = 2**20
"""Numbers up to which a GPU computes all components at once: of so few, calls cost more than arithmetic.
Beyond, and on a CPU, a loop over the few components keeps the largest intermediate at the points' size."""


def cdf(mixture: Mixture, z: Tensor) -> Tensor:
    """Cumulative distribution F(z): mixture [..., K] and points [..., G] give [..., G]."""
    if z.device.type != "cpu" and z.numel() * mixture.means.shape[-1] <= _SMALL:
        return _cdf_at_once(mixture, z)
    total = torch.zeros_like(z)
    for weight, mean, variance in zip(*(p.unbind(-1) for p in mixture), strict=True):
        scale = (2 * variance).rsqrt().unsqueeze(-1)
        total += weight.unsqueeze(-1) * torch.erf((z - mean.unsqueeze(-1)) * scale)
    return 0.5 * (1 + total)  # the weights sum to one


def _cdf_at_once(mixture: Mixture, z: Tensor) -> Tensor:
    """`cdf` without its loop over components."""
    weights, means, variances = (parameter.unsqueeze(-2) for parameter in mixture)  # [..., 1, K]
    parts = torch.erf((z.unsqueeze(-1) - means) * (2 * variances).rsqrt())
    return 0.5 * (1 + (weights * parts).sum(-1))


def pdf(mixture: Mixture, z: Tensor) -> Tensor:
    """Density of F at z, per logit: mixture [..., K] and points [..., G] give [..., G]."""
    total = torch.zeros_like(z)
    for weight, mean, variance in zip(*(p.unbind(-1) for p in mixture), strict=True):
        height = (weight * (2 * torch.pi * variance).rsqrt()).unsqueeze(-1)
        total += height * torch.exp(-0.5 * (z - mean.unsqueeze(-1)) ** 2 / variance.unsqueeze(-1))
    return total


def cdf_and_pdf(mixture: Mixture, z: Tensor) -> tuple[Tensor, Tensor]:
    """Both at once, of one mixture [K] at points [P]."""
    level, density = torch.zeros_like(z), torch.zeros_like(z)
    for weight, mean, variance in zip(*mixture, strict=True):
        scale = (2 * variance).rsqrt()
        offset = (z - mean).mul_(scale)
        level.addcmul_(torch.erf(offset), weight)
        density.addcmul_(offset.square_().neg_().exp_(), weight * scale)
    return level.add_(1).mul_(0.5), density.mul_(torch.pi**-0.5)


def quantile(mixture: Mixture, probability: Tensor, sections: int | None = None) -> Tensor:
    """Inverse CDF: mixture [..., K] and probabilities [..., G] in (0, 1) give [..., G].

    Section search, as exact as the dtype allows: every round looks at that many sections at once and keeps
    one. Many sections make few calls, which is what costs on the small tensors of a training step, on a GPU
    above all; two (bisection) need the least memory and arithmetic, for many points. None is 32, or 256 where
    arithmetic costs next to nothing.
    """
    if sections is None:
        sections = 32 if probability.device.type == "cpu" else 256
    reach = 12 * mixture.variances.sqrt()  # no quantile that a float can tell from 0 or 1 lies beyond
    low = (mixture.means - reach).amin(-1, keepdim=True).expand_as(probability)
    width = (mixture.means + reach).amax(-1, keepdim=True) - low
    cut = torch.arange(sections, dtype=low.dtype, device=low.device) / sections
    bits = 55 if low.dtype == torch.float64 else 30  # more than the mantissa holds
    rounds = math.ceil(bits / math.log2(sections))
    for _ in range(rounds):
        z = low.unsqueeze(-1) + width.unsqueeze(-1) * cut  # [..., G, sections] left ends
        below = cdf(mixture, z.flatten(-2)).view_as(z) < probability.unsqueeze(-1)
        chosen = (below.sum(-1, keepdim=True) - 1).clamp_min(0)
        low = z.gather(-1, chosen).squeeze(-1)
        width = width / sections
    return low + 0.5 * width


class Inverse(NamedTuple):
    """The inverse CDF of one mixture on a grid: any quantile that is wanted lies between two points."""

    mixture: Mixture
    """[K]"""
    grid: Tensor
    """[G] rising and even, in logits."""
    levels: Tensor
    """[G] F at the grid points."""
    slopes: Tensor | None = None
    """[G] 1 / density there, of one to begin with where quantiles are to be exact."""


_CELLS, _FINE_CELLS = 2**11, 2**13
"""Cells of an inverse that is interpolated in, and of one that exact quantiles begin from."""


def inverse(mixture: Mixture, tail: float, exact: bool = False) -> Inverse:
    """Tabulate the inverse CDF of one mixture [K] for probabilities in [tail, 1 - tail]."""
    dtype, device = mixture.means.dtype, mixture.means.device
    low, high = quantile(mixture, torch.linspace(tail, 1 - tail, 2, dtype=dtype, device=device))
    cells = _FINE_CELLS if exact else _CELLS
    grid = torch.lerp(low, high, torch.linspace(0, 1, cells + 1, dtype=dtype, device=device))
    found = Inverse(mixture, grid, cdf(mixture, grid))
    if not exact:
        return found
    return found._replace(slopes=pdf(mixture, grid).clamp_min(torch.finfo(grid.dtype).tiny).reciprocal())


def spread(counts: Tensor, centres: Tensor, components: int) -> Mixture:
    """A starting mixture for EM from histograms: equal weights, means at evenly spaced quantiles.

    Args:
        counts: [..., B] pixels per bin.
        centres: [B] bin centres, in logits.
        components: K.
    """
    total = counts.sum(-1, keepdim=True).clamp_min(1)
    share = counts.cumsum(-1) / total
    middle = (torch.arange(components, device=counts.device, dtype=share.dtype) + 0.5) / components
    index = torch.searchsorted(share.contiguous(), middle.expand(*share.shape[:-1], components).contiguous())
    means = centres[index.clamp_max(len(centres) - 1)]
    mean = (counts * centres).sum(-1, keepdim=True) / total
    variance = (counts * (centres - mean) ** 2).sum(-1, keepdim=True) / total
    # Each component starts with its part of the whole width, and overlaps its neighbours.
    variances = (variance / components).clamp_min(_floor(centres)).expand_as(means)
    return Mixture(torch.full_like(means, 1 / components), means, variances.clone())


def em(counts: Tensor, centres: Tensor, start: Mixture, steps: int) -> Mixture:
    """Expectation maximisation on histograms.

    Args:
        counts: [..., B] pixels per bin; a histogram without pixels returns its start unchanged.
        centres: [B] bin centres, in logits.
        start: [..., K] parameters to start from.
        steps: T, the number of iterations.

    Returns:
        The mixtures after `steps` iterations. Variances are at least what the bin width alone explains.
    """
    floor = _floor(centres)
    total = counts.sum(-1, keepdim=True)
    weights, means, variances = start
    for _ in range(steps):
        # Moments are taken about the old means: differences stay small, so float32 does not cancel.
        offset = centres.unsqueeze(-1) - means.unsqueeze(-2)  # [..., B, K]
        exponent = -0.5 * offset**2 / variances.unsqueeze(-2)
        scale = weights.clamp_min(torch.finfo(weights.dtype).tiny).log() - 0.5 * variances.log()
        responsibility = torch.softmax(exponent + scale.unsqueeze(-2), dim=-1) * counts.unsqueeze(-1)
        mass = responsibility.sum(-2)
        responsibility *= offset
        first = responsibility.sum(-2) / mass.clamp_min(1e-6)
        responsibility *= offset
        second = responsibility.sum(-2) / mass.clamp_min(1e-6)
        # A component that explains nothing keeps its place, ready for when the logits move there.
        alive = mass > 1e-6
        means = torch.where(alive, means + first, means)
        variances = torch.where(alive, (second - first**2).clamp_min(floor), variances)
        weights = torch.where(total > 0, mass / total.clamp_min(1e-6), weights)
    return Mixture(weights, means, variances)


_BLOCK = 2**17
"""Numbers of a block, which stay in a core's cache from one step to the next."""


def em_in_blocks(counts: Tensor, centres: Tensor, start: Mixture, steps: int) -> Mixture:
    """The same as `em`, for many histograms and many steps, in time and memory of the bins that are filled.

    Of 150 classes, a histogram fills a fifth of its bins, and the empty ones add nothing to any sum. Those
    with as many filled bins are taken together, a block at a time, so that C * C * B * K numbers never exist
    at once. The sums are the same up to their order. Shows its progress when it takes long.
    """
    if counts.device.type != "cpu":  # there, one large step costs less than many small ones
        return em(counts, centres, start, steps)
    K, B = start.means.shape[-1], len(centres)
    rows = counts.reshape(-1, B)
    before = [parameter.reshape(-1, K) for parameter in start]
    after = [parameter.clone() for parameter in before]
    filled = (rows > 0).sum(1)
    order = filled.argsort(descending=True)
    order = order[: int((filled > 0).sum())]  # a histogram without pixels keeps its start
    floor = _floor(centres)
    with Bar(total=len(order), desc="fitting mixtures", unit="mixture", delay=5, leave=False) as progress:
        position = 0
        while position < len(order):
            width = int(filled[order[position]])
            block = order[position : position + max(1, _BLOCK // (width * K))]
            places = (rows[block] > 0).byte().argsort(dim=1, descending=True, stable=True)[:, :width]
            packed = rows[block].gather(1, places)
            fitted = _em_packed(packed, centres[places], [p[block].T for p in before], steps, floor)
            for parameter, values in zip(after, fitted, strict=True):
                parameter[block] = values.T
            position += len(block)
            progress.update(len(block))
    return Mixture(*(parameter.view(start.means.shape) for parameter in after))


def _em_packed(
    counts: Tensor, centres: Tensor, start: list[Tensor], steps: int, floor: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`em` with bins of each histogram's own, counts and centres [R, B], and components first, [K, R]."""
    weights, means, variances = start
    total = counts.sum(-1)
    tiny = torch.finfo(weights.dtype).tiny
    for _ in range(steps):
        offset = centres - means.unsqueeze(-1)  # [K, R, B]
        exponent = offset.square().mul_((-0.5 / variances).unsqueeze(-1))
        exponent += (weights.clamp_min(tiny).log() - 0.5 * variances.log()).unsqueeze(-1)
        responsibility = torch.softmax(exponent, 0).mul_(counts)
        mass = responsibility.sum(-1)
        first = responsibility.mul_(offset).sum(-1) / mass.clamp_min(1e-6)
        second = responsibility.mul_(offset).sum(-1) / mass.clamp_min(1e-6)
        alive = mass > 1e-6
        means = torch.where(alive, means + first, means)
        variances = torch.where(alive, (second - first**2).clamp_min(floor), variances)
        weights = mass / total
    return weights, means, variances


def _floor(centres: Tensor) -> Tensor:
    """Variance of a uniform distribution over one bin: a histogram cannot tell anything narrower.

    It stays a tensor: to read it would make a GPU wait.
    """
    return (centres[1] - centres[0]) ** 2 / 12


@dataclass(frozen=True)
class UpdateRule:
    """How running mixtures follow the network (METHOD: Li et al. 2025, section 3.3)."""

    em_steps: int = 3
    """T, EM iterations per batch."""
    momentum: float = 0.99
    """mom, the largest weight of the stored parameters."""
    warmup: int = 1500
    """Iterations over which the momentum rises from 0."""
    min_pixels: int = 100
    """N_min, fewest pixels of a class in a batch that update its row, counted at the labels' full size."""
