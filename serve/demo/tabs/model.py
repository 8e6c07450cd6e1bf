"""The demo's Model tab: what a graph file says about itself."""

import html

from serve.demo.tabs.curves import bias_html, curves_html, read_drawn
from serve.inference.segmenter import Segmenter
from serve.info import correction_sentences, facts, verified_sentences

_OLDER = "An older version exported it, without curves to draw; <code>blda export onnx</code> adds them."


def model_html(segmenter: Segmenter) -> str:
    """Card, correction, verification and shift curves of one model."""
    runtime, card = segmenter.runtime, segmenter.card
    parts = [
        _table(facts(runtime)),
        f'<h3>Classes</h3><ul class="classes">{_classes(segmenter)}</ul>',
        "<h3>Correction</h3>" + _list(correction_sentences(segmenter.correction)),
    ]
    drawn = read_drawn(segmenter.metadata, len(card.classes))
    if drawn is not None:
        parts.append("<h3>Bias per class</h3>" + bias_html(drawn.bias, card))
        parts.append("<h3>Shift per class</h3>" + curves_html(drawn.curves, card))
    elif segmenter.correction is not None:
        parts.append(f'<p class="hint">{_OLDER}</p>')
    parts.append("<h3>Verification</h3>" + _list(verified_sentences(runtime.info)))
    return f'<div class="card">{"".join(parts)}</div>'


def _classes(segmenter: Segmenter) -> str:
    pairs = zip(segmenter.card.classes, segmenter.card.palette, strict=True)
    return "".join(
        f'<li><i style="background:rgb{color}"></i>{html.escape(name)}</li>' for name, color in pairs
    )


def _table(named: dict[str, str]) -> str:
    rows = (
        f'<tr><th scope="row">{html.escape(k)}</th><td>{html.escape(v)}</td></tr>' for k, v in named.items()
    )
    return f'<table class="facts">{"".join(rows)}</table>'


def _list(sentences: list[str]) -> str:
    return f'<ul class="sentences">{"".join(f"<li>{html.escape(each)}</li>" for each in sentences)}</ul>'
