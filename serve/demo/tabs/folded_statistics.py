"""What the statistics in a graph's metadata say: the shift of each class, and the bias that it mends.

They are Gaussian mixtures of logits (Li et al. 2025, sections 3.1 and 3.2), written by `export`: rows
F[c, l], c the class that a pixel has and l the logit channel, and the anchors F_p and F_n of all positive
and all negative logits. numpy only, as this room has no torch.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serve.card import PREFIX

Array = NDArray[np.float64]

_DTYPES = {"F64": np.float64, "F32": np.float32, "BOOL": np.bool_}
_POINTS = 768
_REACH = 5.0  # standard deviations beyond which a component holds nothing to see


class Mixture(NamedTuple):
    """Gaussian mixtures with K components, each [..., K]."""

    weights: Array
    means: Array
    variances: Array


class Statistics(NamedTuple):
    """The statistics that were folded."""

    rows: Mixture
    """[C, C, K]: F[c, l]."""
    positive: Mixture
    """[K]: the anchor F_p."""
    seen: NDArray[np.bool_]
    """[C]: classes that have statistics."""
    eps: float
    """The shift is constant outside the quantiles [eps, 1 - eps] of F[c, l]."""


class Curve(NamedTuple):
    """Delta[c, c](z): what the correction adds to a class's own logit, at strength 1."""

    logits: Array
    """[G] z, between the quantiles eps and 1 - eps."""
    shift: Array
    """[G] Delta."""


def read_statistics(metadata: Mapping[str, str], classes: int) -> Statistics | None:
    """The statistics in a graph's metadata; None if it has none that this version knows.

    A page is no place to refuse a graph for altered statistics: `export` does that.
    """
    text = metadata.get(PREFIX + "statistics")
    if text is None:
        return None
    try:
        tensors = read_safetensors(base64.b64decode(text, validate=True))
        rows, anchors = (
            Mixture(*(tensors[f"{kind}.{name}"].astype(np.float64) for name in Mixture._fields))
            for kind in ("rows", "anchors")
        )
        seen, eps = tensors["seen"].astype(np.bool_), float(tensors["eps"])
    except (KeyError, ValueError, binascii.Error):
        return None
    components = rows.means.shape[-1]
    if rows.means.shape != (classes, classes, components) or anchors.means.shape != (2, components):
        return None
    return Statistics(rows, Mixture(*(each[0] for each in anchors)), seen, eps)


def read_safetensors(data: bytes) -> dict[str, NDArray[Any]]:
    """Tensors of a safetensors file: eight bytes of header length, a JSON header, then the numbers.

    Raises:
        KeyError, ValueError: not such a file, or a type of number that no statistics have.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            numbers: NDArray[Any] = np.frombuffer(body[begin:end], _DTYPES[entry["dtype"]])
            tensors[name] = numbers.reshape(entry["shape"])
    return tensors


def own_shifts(statistics: Statistics) -> list[Curve | None]:
    """Delta[c, c](z) = F_p^-1(F[c, c](z)) - z of every class; None for a class without statistics."""
    anchor_grid = _grid(statistics.positive)
    anchor = cdf(statistics.positive, anchor_grid)
    curves: list[Curve | None] = []
    for c, seen in enumerate(statistics.seen):
        if not seen:
            curves.append(None)
            continue
        row = Mixture(*(each[c, c] for each in statistics.rows))
        grid = _grid(row)
        level = cdf(row, grid)
        inside = (level >= statistics.eps) & (level <= 1 - statistics.eps)
        curves.append(Curve(grid[inside], np.interp(level[inside], anchor, anchor_grid) - grid[inside]))
    return curves


def estimated_bias(statistics: Statistics) -> Array:
    """Bias [C] of the uncorrected network: (1/S) sum_c Pr(argmax = l | c) - 1/S, over the S classes seen.

    Positive: predicted too often. No labels are needed, but the channels of a pixel are taken as independent:

        Pr(l | c) = integral of prod_{k != l} F[c, k](z) dF[c, l](z)
    """
    known = np.flatnonzero(statistics.seen)
    bias = np.zeros(len(statistics.seen))
    for c in known:
        row = Mixture(*(each[c] for each in statistics.rows))
        levels = cdf(row, _grid(row))  # [C, G]
        logs = np.log(np.maximum((levels[:, 1:] + levels[:, :-1]) / 2, 1e-300))
        share = (np.diff(levels) * np.exp(logs.sum(0) - logs)).sum(1)
        bias += share / share.sum()
    bias[known] -= 1
    return bias / max(len(known), 1)


def cdf(mixture: Mixture, z: Array) -> Array:
    """[..., G] of mixtures [..., K] at z [G]."""
    total: Array = np.zeros(())
    for k in range(mixture.means.shape[-1]):
        weight, mean, variance = (each[..., k, None] for each in mixture)
        total = total + weight * _normal_cdf((z - mean) / np.sqrt(variance))
    return total


def _normal_cdf(x: Array) -> Array:
    """Of the standard normal distribution, to 1e-7 (Abramowitz and Stegun 1964, formula 26.2.17)."""
    t = 1 / (1 + 0.2316419 * np.abs(x))
    coefficients = (1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530)
    polynomial = np.zeros_like(t)
    for coefficient in coefficients:
        polynomial = (polynomial + coefficient) * t
    upper = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * polynomial
    return np.asarray(np.where(x >= 0, 1 - upper, upper), np.float64)


def _grid(mixture: Mixture) -> Array:
    """Points [G] over everything that the mixtures reach."""
    spread = _REACH * np.sqrt(mixture.variances)
    return np.linspace((mixture.means - spread).min(), (mixture.means + spread).max(), _POINTS)
