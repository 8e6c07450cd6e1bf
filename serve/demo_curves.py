"""The shift that a graph's correction applies, as curves, from the statistics that travel in its metadata."""

import base64
import binascii
import html
import json
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serve.card import PREFIX, Card

Array = NDArray[np.float64]

_POINTS = 96
_DTYPES = {"F64": np.float64, "F32": np.float32, "BOOL": np.bool_}
_WIDTH, _HEIGHT = 220, 120
_erf = np.frompyfunc(math.erf, 1, 1)


class Curve(NamedTuple):
    """Delta[c, c](z): what the correction adds to a class's own logit, at strength 1."""

    logits: Array
    """[G] z"""
    shift: Array
    """[G] Delta"""


def own_shifts(metadata: dict[str, str], card: Card) -> list[Curve | None]:
    """One curve per class; None for a class without statistics. Empty if the graph holds none that we know.

    Delta(z) = F_p^-1(F[c, c](z)) - z between the quantiles eps and 1 - eps of F[c, c], where F are Gaussian
    mixtures and F_p is the anchor of positive logits (Li et al. 2025, section 3.2).
    """
    text = metadata.get(PREFIX + "statistics")
    if text is None:
        return []
    try:
        tensors = read_safetensors(base64.b64decode(text, validate=True))
        seen, eps = tensors["seen"], float(tensors["eps"])
        rows = [tensors[f"rows.{name}"] for name in ("weights", "means", "variances")]
        anchor = [tensors[f"anchors.{name}"][0] for name in ("weights", "means", "variances")]
        if len(seen) != len(card.classes):
            return []
        return [
            _curve([each[c, c] for each in rows], anchor, eps) if seen[c] else None for c in range(len(seen))
        ]
    except (KeyError, ValueError, IndexError, binascii.Error):
        return []  # curves are an extra; `export` is the place that refuses altered statistics


def read_safetensors(data: bytes) -> dict[str, NDArray[Any]]:
    """Tensors of a safetensors file: eight bytes of header length, a JSON header, then the numbers."""
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


def curves_html(curves: list[Curve | None], card: Card) -> str:
    """A small drawing per class, all on one scale."""
    drawn = [c for c in curves if c is not None]
    if not drawn:
        return '<p class="hint">This file holds no statistics to draw.</p>'
    low, high = (float(f([f(c.logits) for c in drawn])) for f in (np.min, np.max))
    reach = max(float(np.abs(c.shift).max()) for c in drawn) or 1.0
    figures = [
        f"<figure>{_drawing(curve, color, low, high, reach)}"
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
        for name, color, curve in zip(card.classes, card.palette, curves, strict=True)
        if curve is not None
    ]
    axes = (
        f"Across: the class's own logit, {low:.1f} to {high:.1f}. Up: the shift, −{reach:.1f} to {reach:.1f} "
        "logits, at strength 1. Above the line a class is lifted, below it is held back."
    )
    return f'<div class="curves">{"".join(figures)}</div><p class="hint">{axes}</p>'


def _curve(row: list[NDArray[Any]], anchor: list[NDArray[Any]], eps: float) -> Curve:
    grid = _reach(*row)
    density = _cdf(grid, *row)
    inside = (density >= eps) & (density <= 1 - eps)
    logits = grid[inside]
    anchor_grid = _reach(*anchor)
    quantiles = np.interp(density[inside], _cdf(anchor_grid, *anchor), anchor_grid)
    return Curve(logits, quantiles - logits)


def _reach(weights: NDArray[Any], means: NDArray[Any], variances: NDArray[Any]) -> Array:
    """A grid over everything that the mixture reaches."""
    spread = 4 * np.sqrt(variances)
    used = weights > 0
    return np.linspace(np.min((means - spread)[used]), np.max((means + spread)[used]), 8 * _POINTS)


def _cdf(z: Array, weights: NDArray[Any], means: NDArray[Any], variances: NDArray[Any]) -> Array:
    """Of a one-dimensional Gaussian mixture with K components, at z [G]."""
    standard = (z[:, None] - means) / np.sqrt(2 * variances)
    return np.asarray((weights * (1 + _erf(standard).astype(np.float64)) / 2).sum(1))


def _drawing(curve: Curve, color: tuple[int, int, int], low: float, high: float, reach: float) -> str:
    x = (curve.logits - low) / ((high - low) or 1) * _WIDTH
    y = _HEIGHT / 2 - curve.shift / reach * (_HEIGHT / 2 - 4)
    step = max(1, len(x) // _POINTS)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[::step], y[::step], strict=True))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" preserveAspectRatio="none">'
        f'<line x1="0" y1="{_HEIGHT / 2}" x2="{_WIDTH}" y2="{_HEIGHT / 2}"/>'
        f'<polyline class="under" points="{points}"/>'
        f'<polyline points="{points}" style="stroke:rgb{color}"/></svg>'
    )
