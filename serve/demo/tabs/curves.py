"""Drawings of a graph's correction for the Model tab: inline SVG and HTML, nothing to load."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serve.card import Card, Color, Key

_WIDTH, _HEIGHT = 220, 120

Array = NDArray[np.float64]


class Curve(NamedTuple):
    """Delta[c, c](z): what the correction adds to a class's own logit, at strength 1."""

    logits: Array
    """[G] z, between the quantiles eps and 1 - eps of the class's own distribution."""
    shift: Array
    """[G] Delta."""


class Drawn(NamedTuple):
    """What a file shows of its correction; `export` wrote it."""

    bias: Array
    """[C] of the uncorrected network, estimated without labels; positive: predicted too often."""
    curves: list[Curve | None]
    """[C]; None for a class without statistics."""


def read_drawn(metadata: Mapping[str, str], classes: int) -> Drawn | None:
    """Curves and bias in a graph's metadata; None if there are none that this version knows.

    A page is no place to refuse a graph for altered metadata: `export` does that.
    """
    try:
        found = json.loads(metadata[Key.CURVES])
        bias = np.array(found["bias"], np.float64)
        curves = [None if shift is None else _curve(**shift) for shift in found["shifts"]]
    except (KeyError, TypeError, ValueError):
        return None
    whole = bias.shape == (classes,) and len(curves) == classes and any(curves)
    return Drawn(bias, curves) if whole else None


def _curve(lower: float, step: float, shift: list[float]) -> Curve:
    values = np.array(shift, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError("a shift is a list of numbers")
    return Curve(np.asarray(lower + step * np.arange(len(values)), np.float64), values)


def curves_html(curves: Sequence[Curve | None], card: Card) -> str:
    """The shift of each class, all on one scale."""
    drawn = [curve for curve in curves if curve is not None]
    low = min(float(curve.logits.min()) for curve in drawn)
    high = max(float(curve.logits.max()) for curve in drawn)
    reach = max(float(np.abs(curve.shift).max()) for curve in drawn) or 1.0
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


def bias_html(bias: Array, card: Card) -> str:
    """A bar per class, to the right if it is predicted too often."""
    reach = float(np.abs(bias).max()) or 1.0
    rows = []
    for name, color, value in zip(card.classes, card.palette, bias, strict=True):
        width = abs(value) / reach * 50
        left = 50 if value >= 0 else 50 - width
        rows.append(
            f'<tr><th scope="row"><i style="background:rgb{color}"></i>{html.escape(name)}</th>'
            f'<td class="bias"><b style="left:{left:.2f}%;width:{width:.2f}%;background:rgb{color}"></b></td>'
            f"<td>{'+' if value > 0 else '−' if value < 0 else ''}{abs(value):.3f}</td></tr>"
        )
    words = (
        f"Right: predicted too often, left: too rarely, before the correction. Sum of |bias| "
        f"{np.abs(bias).sum():.2f}. Estimated from the statistics, without labels: read ranks, not digits."
    )
    return f'<table class="legend">{"".join(rows)}</table><p class="hint">{words}</p>'


def _drawing(curve: Curve, color: Color, low: float, high: float, reach: float) -> str:
    x = (curve.logits - low) / ((high - low) or 1) * _WIDTH
    y = _HEIGHT / 2 - curve.shift / reach * (_HEIGHT / 2 - 4)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" preserveAspectRatio="none">'
        f'<line x1="0" y1="{_HEIGHT / 2}" x2="{_WIDTH}" y2="{_HEIGHT / 2}"/>'
        f'<polyline class="under" points="{points}"/>'
        f'<polyline points="{points}" style="stroke:rgb{color}"/></svg>'
    )
