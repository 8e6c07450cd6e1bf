"""Draws docs/architecture.svg from the lines of docs/architecture.md.

    python tests/support/pages/plan_picture.py

A row per room, a column per step of its line; packages of one step stand under one another.
"""

import re
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"
PAGE, PICTURE = DOCS / "architecture.md", DOCS / "architecture.svg"
LINE = re.compile(r"^(adapt|export|serve): (\w+(?:(?: <|,) \w+)*)$", re.M)
WIDE, HIGH, GAP, MARGIN = 92, 26, 16, 14
COLOURS = {"adapt": "#d7e6f5", "export": "#f7e3cd", "serve": "#d9eeda"}


def drawn(page: str) -> str:
    """The picture of the lines that a page has."""
    parts, top, widest = [], MARGIN, 0
    for room, line in LINE.findall(page):
        steps = [step.split(", ") for step in line.split(" < ")]
        height = max(map(len, steps)) * (HIGH + 6) - 6
        middle = top + 24 + height / 2
        parts.append(_text(MARGIN, top + 12, room, 'font-weight="bold" font-size="14"'))
        for column, step in enumerate(steps):
            left = MARGIN + column * (WIDE + GAP)
            first = middle - (len(step) * (HIGH + 6) - 6) / 2
            for row, name in enumerate(step):
                parts += _box(left, first + row * (HIGH + 6), name, COLOURS[room])
            if column:
                parts.append(_arrow(left - 2, left - GAP + 2, middle))
        widest = max(widest, MARGIN + len(steps) * (WIDE + GAP))
        top += 24 + height + 22
    parts.append(
        _text(MARGIN, top, "an arrow is an import; those farther to the left may be imported too", "")
    )
    size = f'viewBox="0 0 {widest} {top + 12}" width="{widest}" height="{top + 12}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>", ""])


def _box(left: float, top: float, name: str, colour: str) -> list[str]:
    place = f'x="{left:g}" y="{top:g}" width="{WIDE}" height="{HIGH}" rx="4"'
    return [
        f'<rect {place} fill="{colour}" stroke="#667788"/>',
        _text(left + WIDE / 2, top + HIGH / 2 + 4, name, 'text-anchor="middle"'),
    ]


def _arrow(start: float, end: float, y: float) -> str:
    return (
        f'<path d="M{start:g} {y:g} H{end:g} m4 -3.5 l-4 3.5 l4 3.5" fill="none" stroke="#667788" '
        'stroke-width="1.3"/>'
    )


def _text(x: float, y: float, words: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="#223344" {style}>{words}</text>'


if __name__ == "__main__":
    PICTURE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
