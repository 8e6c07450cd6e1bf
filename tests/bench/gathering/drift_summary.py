"""Rank correlations of what drift says with what was lost, and a picture of them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MEASURES = ("unlikeness", "moved", "most moved", "shares", "confidence")
DRAWS = 2000
COLOURS = {"streets": "#1f77b4", "dusk": "#d62728", "weeds": "#2ca02c", "shares": "#9467bd"}

Points = Sequence[dict[str, Any]]


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's: Pearson's of the ranks, ties share the mean of theirs; NaN where one side is all alike."""
    if not len(x):
        return float("nan")
    a, b = (_ranks(np.asarray(values, np.float64)) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def summary(points: Points) -> str:
    """Tables in markdown: correlations by pair, and alarms by how much was lost."""
    lines = ["| measure | " + " | ".join(COLOURS) + " | all pairs |", "| --- " * (len(COLOURS) + 2) + "|"]
    for measure in MEASURES:
        cells = [_spread(points, measure, pair) for pair in [*COLOURS, None]]
        lines.append(f"| {measure} | " + " | ".join(cells) + " |")
    cells = [_of_classes(points, pair) for pair in [*COLOURS, None]]
    lines.append("| a class's logits with its own loss | " + " | ".join(cells) + " |")
    lines += ["", "| lost mIoU | points | alarmed |", "| --- | --- | --- |"]
    for low, high in ((-np.inf, 0.5), (0.5, 2.0), (2.0, 5.0), (5.0, 10.0), (10.0, np.inf)):
        inside = [p for p in points if low <= p["lost"] < high]
        alarmed = sum(p["alarm"] for p in inside)
        words = f"below {high:g}" if low < 0 else f"from {low:g}"
        lines.append(f"| {words} | {len(inside)} | {alarmed} |")
    return "\n".join(lines)


def _spread(points: Points, measure: str, pair: str | None) -> str:
    """Correlation, and the least and largest of runs (one pair), or an interval of draws of runs (all)."""

    def of(chosen: Points) -> float:
        return rank_correlation([p[measure] for p in chosen], [p["lost"] for p in chosen])

    return _with_interval(points, pair, of)


def _of_classes(points: Points, pair: str | None) -> str:
    def of(chosen: Points) -> float:
        pairs = [(m, l) for p in chosen for _, l, m, _ in p["classes"] if l is not None and m is not None]
        return rank_correlation([m for m, _ in pairs], [l for _, l in pairs])

    return _with_interval(points, pair, of)


def _with_interval(points: Points, pair: str | None, of: Callable[[Points], float]) -> str:
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for point in points:
        if pair in (None, point["pair"]):
            runs.setdefault((point["pair"], point["seed"]), []).append(point)
    if not runs:
        return "-"
    whole = of([point for run in runs.values() for point in run])
    if pair is not None:
        each = [of(run) for run in runs.values()]
        return f"{whole:.2f} ({min(each):.2f} to {max(each):.2f})"
    rng, listed = np.random.default_rng(0), list(runs.values())
    draws = [
        of([point for n in rng.integers(len(listed), size=len(listed)) for point in listed[n]])
        for _ in range(DRAWS if len(listed) > 1 else 1)
    ]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return f"**{whole:.2f}** ({low:.2f} to {high:.2f})"


def scatter(points: Points, measure: str = "unlikeness") -> str:
    """An SVG: what drift says to the right, what was lost upwards; alarms are filled."""
    width, height, left, bottom = 640, 400, 56, 44
    most = max(p[measure] for p in points) * 1.05
    low, high = min(p["lost"] for p in points) - 1, max(p["lost"] for p in points) + 1

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (width - left - 12) * x / most
        return across, 12 + (height - bottom - 12) * (high - y) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for y in range(int(np.ceil(low / 10)) * 10, int(high) + 1, 10):
        across, up = at(0, y)
        parts.append(f'<path d="M{across:.0f} {up:.1f}H{width - 12}" stroke="#dddddd"/>')
        parts.append(f'<text x="{across - 6:.0f}" y="{up + 4:.1f}" text-anchor="end">{y}</text>')
    for x in np.arange(0, most, 0.1):
        across, up = at(float(x), low)
        parts.append(f'<text x="{across:.0f}" y="{up + 16:.0f}" text-anchor="middle">{x:.1f}</text>')
    for point in points:
        across, up = at(point[measure], point["lost"])
        colour = COLOURS[point["pair"]]
        fill = colour if point["alarm"] else "none"
        parts.append(
            f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" stroke="{colour}" fill="{fill}" '
            f'fill-opacity="0.6">'
            f"<title>{point['pair']}, seed {point['seed']}, {point['name']}</title></circle>"
        )
    for row, (name, colour) in enumerate(COLOURS.items()):
        parts.append(f'<text x="{left + 10}" y="{28 + 16 * row}" fill="{colour}">{name}</text>')
    parts.append(
        f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle">{measure} of the logits</text>'
    )
    parts.append(
        f'<text x="14" y="{height / 2}" text-anchor="middle" transform="rotate(-90 14 {height / 2})">'
        "mIoU lost</text></svg>"
    )
    return "\n".join(parts) + "\n"
