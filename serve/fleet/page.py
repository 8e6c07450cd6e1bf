"""One HTML page about a drift, which fetches nothing: a table, and a small chart of every class over time."""

from datetime import UTC, datetime
from html import escape

import numpy as np

from serve.fleet.drift import Drift
from serve.fleet.measures import Array
from serve.fleet.told import table

_WIDTH, _HEIGHT = 240, 70
_STYLE = """
:root{color-scheme:light dark;--ink:#1c1e21;--soft:#5d6470;--line:#d9dde3;--paper:#fff;--a:#0072b2;
--b:#d55e00}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#9aa3af;--line:#343a43;--paper:#15181c;--a:#56b4e9;
--b:#f0954d}}
body{margin:auto;max-width:70rem;padding:1rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
pre{overflow-x:auto;font-size:.8rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(16rem,1fr));gap:1rem}
figure{margin:0}figcaption{color:var(--soft);font-size:.85rem}h3{font-size:1rem;margin:0}
.drifted h3{color:var(--b)}svg{width:100%;height:auto}
path{fill:none;stroke-width:1.6;stroke:var(--a)}path.share{stroke:var(--b)}
line{stroke:var(--line)}text{fill:var(--soft);font-size:9px}
"""


def page(found: Drift) -> str:
    """The whole page."""
    title = f"Drift of {found.now.words}"
    figures = "".join(_figure(found, c) for c in range(len(found.classes)))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(found.verdict)}</h1><pre>{escape(table(found))}</pre>"
        "<h2>Over time</h2><p>Each point is a block of time: how far the positive logits of a class lie from "
        "the reference (blue, in logits), and the share of its pixels (orange, up to its own largest).</p>"
        f'<div class="grid">{figures}</div></body></html>\n'
    )


def _figure(found: Drift, c: int) -> str:
    begins, moved, share = found.now.begins, found.over_time[:, c], found.share_over_time[:, c]
    top = float(np.nanmax(found.over_time, initial=0.0)) or 1.0
    most = float(share.max(initial=0.0))
    first, last = (datetime.fromtimestamp(t, UTC).strftime("%m-%d %H:%M") for t in (begins[0], begins[-1]))
    lines = _path(begins, moved / top, "moved") + _path(begins, share / most if most else share, "share")
    chart = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 14}" role="img" aria-label="{escape(found.classes[c])}">'
        f'<line x1="0" y1="{_HEIGHT}" x2="{_WIDTH}" y2="{_HEIGHT}"/>{lines}'
        f'<text x="0" y="{_HEIGHT + 11}">{first}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 11}" text-anchor="end">{last}</text></svg>'
    )
    name = "drifted" if found.alarm.drifted[c] else "steady"
    caption = f"logits up to {top:.2f}; share up to {100 * most:.2f} %"
    return (
        f'<figure class="{name}"><h3>{escape(found.classes[c])}</h3>{chart}'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _path(begins: tuple[int, ...], heights: Array, kind: str) -> str:
    """A line through the heights in [0, 1] that are known; a gap where one is not."""
    span = max(begins[-1] - begins[0], 1)
    words, drawing = [], False
    for begin, height in zip(begins, heights, strict=True):
        if not np.isfinite(height):
            drawing = False
            continue
        x, y = _WIDTH * (begin - begins[0]) / span, _HEIGHT * (1 - 0.95 * height)
        words.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
        if not drawing:
            words.append("h0.01")  # a lone point shows with a round cap
        drawing = True
    return f'<path class="{kind}" stroke-linecap="round" d="{" ".join(words)}"/>' if words else ""
