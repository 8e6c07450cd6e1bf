"""Line charts as inline SVG: small enough for a phone, in the page's own colours by day and by night.

A chart is a text of a few kilobytes. Colours are the page's classes `s0`, `s1`, … (adapt/reporting/page.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 8, 22
MOST_POINTS = 300
"""A longer line is thinned to about this many points."""


@dataclass(frozen=True)
class Line:
    """One curve."""

    title: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    """Of the same length; NaN breaks the line."""
    color: int = 0
    """Which of the page's series colours."""
    dashed: bool = False
    strength: float = 1.0
    """Opacity, for what lies further back in time."""


def line_chart(
    lines: Sequence[Line],
    meaning: str,
    *,
    zero: bool = True,
    scale: bool = True,
    height: int = HEIGHT,
    highest: float = math.inf,
) -> str:
    """A chart with axes.

    Args:
        lines: at least one with at least one number.
        meaning: what is shown, for those who can't see it.
        zero: whether the vertical axis starts at 0.
        scale: whether it has numbers.
        height: of the chart, in its own units (its width is WIDTH).
        highest: values above it are drawn at it.
    """
    lines = [replace(line, y=np.minimum(line.y, highest)) for line in lines]
    x = np.concatenate([np.asarray(line.x, float) for line in lines])
    y = np.concatenate([np.asarray(line.y, float) for line in lines])
    x_ticks, y_ticks = ticks(x, zero=False), ticks(y, zero=zero)
    x_range = (float(np.nanmin(x)), float(np.nanmax(x)))
    y_range = (min(y_ticks[0], float(np.nanmin(y))), max(y_ticks[-1], float(np.nanmax(y))))
    left = LEFT if scale else RIGHT
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(meaning)}" class="chart">']
    for value in y_ticks if scale else ():
        at = _place(value, y_range, height - BOTTOM, TOP)
        parts.append(f'<path class="grid" d="M{left} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{left - 5}" y="{at + 3.5:.1f}" text-anchor="end">{_number(value)}</text>')
    base = height - BOTTOM
    parts.append(f'<path class="axis" d="M{left} {base}H{WIDTH - RIGHT}"/>')
    for value in x_ticks:
        at = _place(value, x_range, left, WIDTH - RIGHT)
        anchor = "end" if at > WIDTH - 25 else "middle"
        parts.append(f'<text x="{at:.1f}" y="{height - 7}" text-anchor="{anchor}">{_number(value)}</text>')
    for line in lines:
        parts.append(_path(line, x_range, y_range, (left, WIDTH - RIGHT), (base, TOP)))
    return "".join(parts) + "</svg>"


def ticks(values: np.ndarray, *, zero: bool) -> list[float]:
    """Round numbers that span the values: three to six of them."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-12 * max(1.0, abs(high)):
        high = low + (abs(low) or 1.0)
    magnitude = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next(m * magnitude for m in (10, 5, 2, 1) if (high - low) / (m * magnitude) >= 2)
    first = math.ceil(low / step - 1e-9)
    found = [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return found


def _path(
    line: Line,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    columns: tuple[float, float],
    rows: tuple[float, float],
) -> str:
    x, y = _thin(np.asarray(line.x, float)), _thin(np.asarray(line.y, float))
    points, pen = [], "M"
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if math.isnan(b):
            pen = "M"
            continue
        points.append(f"{pen}{_place(a, x_range, *columns):.1f} {_place(b, y_range, *rows):.1f}")
        pen = "L"
    dash = ' stroke-dasharray="4 3"' if line.dashed else ""
    faint = f' opacity="{line.strength:.2f}"' if line.strength < 1 else ""
    marks = ""
    if len(points) <= 12 and not line.dashed and line.strength == 1:
        spots = (point[1:].split() for point in points)
        marks = "".join(f'<circle class="s{line.color}" cx="{cx}" cy="{cy}" r="2.2"/>' for cx, cy in spots)
    return (
        f'<path class="line s{line.color}" d="{"".join(points)}"{dash}{faint}>'
        f"<title>{escape(line.title)}</title></path>{marks}"
    )


def _thin(values: np.ndarray) -> np.ndarray:
    if len(values) <= MOST_POINTS:
        return values
    kept: np.ndarray = values[np.linspace(0, len(values) - 1, MOST_POINTS).round().astype(int)]
    return kept


def _place(value: float, domain: tuple[float, float], start: float, end: float) -> float:
    low, high = domain
    share = 0.5 if high == low else (value - low) / (high - low)
    return start + share * (end - start)


def _number(value: float) -> str:
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:.0e}".replace("e-0", "e-") if 0 < size < 1e-3 else f"{value:g}"
