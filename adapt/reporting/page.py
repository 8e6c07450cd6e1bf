"""One HTML page that needs nothing else: no network, no scripts, pictures inside, light and dark.

Functions return pieces of HTML; whatever text they are given is escaped.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from adapt.data.images import resize_image, resize_labels
from serve.media.images import encode

LONGEST = 480
"""Pictures are made to have no side longer than this, in pixels."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c1e21;--soft:#5d6470;--line:#d9dde3;--paper:#fff;--card:#f6f7f9;
--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#b4548c;--s4:#7a6a00}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#9aa3af;--line:#343a43;--paper:#15181c;
--card:#1e2227;--s0:#56b4e9;--s1:#f0954d;--s2:#2fc79a;--s3:#e39ac2;--s4:#e3cf57}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main,body>header,body>footer{max-width:70rem;margin:auto;padding:0 1rem}
body>header{padding-top:1.5rem}
h1{font-size:1.6rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.5rem 0 .5rem;padding-top:.5rem;border-top:1px solid var(--line)}
p{margin:.4rem 0;max-width:46rem}
a{color:var(--s0)}
.soft,figcaption,caption{color:var(--soft);font-size:.875rem}
caption{text-align:left;caption-side:top;padding-bottom:.4rem}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1rem;padding:0;margin:.8rem 0 0;list-style:none;font-size:.9rem}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem;margin:1rem 0}
.cards div{background:var(--card);border-radius:.5rem;padding:.6rem .8rem}
.cards dt{color:var(--soft);font-size:.85rem}
.cards dd{margin:0;font-size:1.35rem;font-variant-numeric:tabular-nums}
.cards dd small{display:block;font-size:.85rem;color:var(--soft)}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.6rem 0;font-size:.95rem}
.facts dt{color:var(--soft)}.facts dd{margin:0;overflow-wrap:anywhere}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem;margin:1rem 0}
.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,max(10rem,18%)),1fr));gap:.8rem}
.four{grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.4rem;margin:.3rem 0 1rem}
figure{margin:0;min-width:0}
figure h3{font-size:.95rem;margin:0 0 .2rem}
figcaption{margin-top:.2rem}
img{max-width:100%;height:auto;display:block;border-radius:.25rem}
img.wide{width:100%}
.chart{width:100%;height:auto;display:block;overflow:visible}
.chart text{fill:var(--soft);font:10px system-ui,sans-serif}
.chart .grid{stroke:var(--line);stroke-width:1}
.chart .axis{stroke:var(--soft);stroke-width:1;fill:none}
.chart .line{fill:none;stroke-width:1.6;stroke-linejoin:round}
path.s0{stroke:var(--s0)}path.s1{stroke:var(--s1)}path.s2{stroke:var(--s2)}
path.s3{stroke:var(--s3)}path.s4{stroke:var(--s4)}
circle.s0,.key.s0{fill:var(--s0);background:var(--s0)}circle.s1,.key.s1{fill:var(--s1);background:var(--s1)}
circle.s2,.key.s2{fill:var(--s2);background:var(--s2)}circle.s3,.key.s3{fill:var(--s3);background:var(--s3)}
circle.s4,.key.s4{fill:var(--s4);background:var(--s4)}
.key{display:inline-block;width:.8em;height:.8em;border-radius:.15em;margin:0 .3em 0 0;vertical-align:-.05em}
.keys{display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.85rem;color:var(--soft);margin:.4rem 0;padding:0;
list-style:none}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.15rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th{font-weight:600}
thead th{white-space:normal;min-width:4.5rem;max-width:7rem;vertical-align:bottom}
th:first-child{text-align:left;position:sticky;left:0;background:var(--paper)}
tbody th{font-weight:400}tfoot th,tfoot td{font-weight:600;border-bottom:0}
.up{color:var(--s2)}.down{color:var(--s1)}
.confusion td{padding:.1rem;width:2rem;min-width:2rem;text-align:center;border:1px solid var(--paper);
font-size:.75rem;background:color-mix(in srgb,var(--s0) calc(var(--p,0)*1%),var(--card))}
.confusion td.much{color:var(--paper)}
.confusion thead th{padding:.2rem;border:0;min-width:0}
.pair{display:flex;flex-wrap:wrap;gap:0 2.5rem}.pair>*{max-width:100%}
.confusion thead th span{writing-mode:vertical-rl;transform:rotate(180deg);font-weight:400;font-size:.8rem}
.confusion tbody th{border:0}
pre{background:var(--card);border-radius:.5rem;padding:.7rem .9rem;overflow-x:auto;font-size:.85rem;
margin:.5rem 0}
summary{cursor:pointer;color:var(--soft)}
body>footer{padding:2rem 1rem;color:var(--soft);font-size:.85rem}
@media print{nav,summary{display:none}}
"""


class Section(NamedTuple):
    """A part of the page with a heading and a place in the contents."""

    name: str
    """The anchor: letters and hyphens."""
    title: str
    body: str
    """HTML."""


def document(title: str, introduction: str, sections: Sequence[Section], footer: str) -> str:
    """The whole page; `introduction` and the sections' bodies are HTML, the rest is text."""
    contents = "".join(
        f'<li><a href="#{section.name}">{escape(section.title)}</a></li>' for section in sections
    )
    parts = "".join(
        f'<section id="{section.name}" aria-labelledby="{section.name}-title">'
        f'<h2 id="{section.name}-title">{escape(section.title)}</h2>{section.body}</section>\n'
        for section in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1>{introduction}"
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav></header>\n'
        f"<main>\n{parts}</main>\n<footer>{escape(footer)}</footer>\n</body>\n</html>\n"
    )


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def cards(entries: Mapping[str, tuple[str, str]]) -> str:
    """Headline numbers: {title: (number, what to compare it with)}."""
    parts = (
        f"<div><dt>{escape(title)}</dt><dd>{escape(number)} <small>{escape(beside)}</small></dd></div>"
        for title, (number, beside) in entries.items()
    )
    return f'<dl class="cards">{"".join(parts)}</dl>'


def facts(entries: Mapping[str, str]) -> str:
    """Names and values."""
    parts = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries.items())
    return f'<dl class="facts">{"".join(parts)}</dl>'


def details(summary: str, text: str) -> str:
    """Text as it is written, folded away."""
    return f"<details><summary>{escape(summary)}</summary>{code(text)}</details>"


def code(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def grid(pieces: Iterable[str], kind: str = "") -> str:
    """Pieces beside one another, as many as there is room for. kind: "", "small" or "four"."""
    return f'<div class="{f"grid {kind}".strip()}">{"".join(pieces)}</div>'


def pair(pieces: Iterable[str]) -> str:
    """Pieces of sizes of their own, beside one another where there is room."""
    return f'<div class="pair">{"".join(pieces)}</div>'


def figure(content: str, caption: str, title: str = "") -> str:
    """Content with a caption, and a heading if it has a title; `content` is HTML."""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{head}{content}{below}</figure>"


def keys(entries: Sequence[tuple[str, int | tuple[int, int, int]]]) -> str:
    """A legend: names, each with the number of a series colour or an RGB colour."""
    parts = []
    for name, color in entries:
        swatch = (
            f'class="key s{color}"'
            if isinstance(color, int)
            else f'class="key" style="background:rgb{color}"'
        )
        parts.append(f"<li><span {swatch}></span>{escape(name)}</li>")
    return f'<ul class="keys">{"".join(parts)}</ul>'


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[Sequence[str]] = ()
) -> str:
    """A table whose first column names the rows; cells are text."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body, below = ("".join(_row(row) for row in part) for part in (rows, foot))
    below = f"<tfoot>{below}</tfoot>" if foot else ""
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table>{named}<thead><tr>{top}</tr>'
        f"</thead><tbody>{body}</tbody>{below}</table></div>"
    )


def confusion_table(caption: str, names: Sequence[str], shares: np.ndarray) -> str:
    """Shares [C, C] of every true class's pixels, shaded; rows of NaN have no ground truth."""
    top = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    rows = []
    for name, row in zip(names, np.nan_to_num(100 * shares).round().astype(int).tolist(), strict=True):
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(map(_shade, row))}</tr>')
    return (
        f'<div class="scroll" tabindex="0"><table class="confusion"><caption>{escape(caption)}</caption>'
        f'<thead><tr><th scope="col">true \\ predicted</th>{top}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


def photograph(image: np.ndarray, alt: str, kind: str = "") -> str:
    """A picture, uint8 [H, W, 3] RGB, as JPEG inside the page. kind: "" or "wide"."""
    small = resize_image(image, _small(image.shape, LONGEST * 2 if kind == "wide" else LONGEST))
    return _image(small, encode(small, ".jpg", quality=82), "jpeg", alt, kind)


def label_map(painted: np.ndarray, alt: str) -> str:
    """Painted labels, uint8 [H, W, 3] RGB, as PNG inside the page: no colour is mixed with another."""
    size = _small(painted.shape, LONGEST)
    small = np.dstack(
        [resize_labels(np.ascontiguousarray(channel), size) for channel in np.dsplit(painted, 3)]
    )
    return _image(small, encode(small, ".png", compression=6), "png", alt, "")


def _row(row: Sequence[str]) -> str:
    first, *rest = row
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
    return f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'


def _shade(per_cent: int) -> str:
    if per_cent == 0:
        return "<td></td>"
    much = ' class="much"' if per_cent > 55 else ""
    return f'<td{much} style="--p:{per_cent}">{per_cent}</td>'


def _small(shape: tuple[int, ...], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(shape[:2]))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _image(image: np.ndarray, encoded: bytes, format_name: str, alt: str, kind: str) -> str:
    text = base64.b64encode(encoded).decode()
    height, width = image.shape[:2]
    css = f' class="{kind}"' if kind else ""
    return (
        f'<img{css} src="data:image/{format_name};base64,{text}" '
        f'width="{width}" height="{height}" alt="{escape(alt)}">'
    )
