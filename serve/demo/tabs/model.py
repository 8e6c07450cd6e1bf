"""The demo's Model tab: what a graph file says about itself."""

import html

from serve.demo.tabs.curves import bias_html, curves_html
from serve.demo.tabs.folded_statistics import estimated_bias, own_shifts, read_statistics
from serve.demo.tabs.words import verification_sentences
from serve.inference.segmenter import Segmenter


def model_html(segmenter: Segmenter) -> str:
    """Card, correction, verification and shift curves of one model."""
    runtime, card = segmenter.runtime, segmenter.card
    size = "any" if card.size is None else f"{card.size[1]} × {card.size[0]}; others are resized"
    if runtime.largest is not None and card.size is None:
        size = f"up to {runtime.largest[1]} × {runtime.largest[0]}; larger ones are made smaller"
    facts = {
        "file": f"{runtime.path.name} ({runtime.path.stat().st_size / 1e6:.1f} MB)",
        "model": card.model or "not named",
        "licence": card.license_note or "not stated",
        "picture size": size,
        "runs on": segmenter.provider,
    }
    parts = [
        _table(facts),
        f'<h3>Classes</h3><ul class="classes">{_classes(segmenter)}</ul>',
        "<h3>Correction</h3>" + _correction(segmenter),
    ]
    statistics = read_statistics(runtime.metadata, len(card.classes))
    if statistics is not None and statistics.seen.any():
        parts.append("<h3>Bias per class</h3>" + bias_html(estimated_bias(statistics), card))
        parts.append("<h3>Shift per class</h3>" + curves_html(own_shifts(statistics), card))
    sentences = verification_sentences(runtime.info.verification)
    never = '<p class="hint">Never verified; <code>export verify</code> does it.</p>'
    parts.append("<h3>Verification</h3>" + (_list(sentences) if sentences else never))
    return f'<div class="card">{"".join(parts)}</div>'


def _classes(segmenter: Segmenter) -> str:
    pairs = zip(segmenter.card.classes, segmenter.card.palette, strict=True)
    return "".join(
        f'<li><i style="background:rgb{color}"></i>{html.escape(name)}</li>' for name, color in pairs
    )


def _correction(segmenter: Segmenter) -> str:
    correction = segmenter.correction
    if correction is None:
        return '<p class="hint">None: this file was exported without one.</p>'
    begin = "Its strength τ is a slider, which begins at" if correction.runtime_tau else "Folded in is τ ="
    sentences = [
        f"{begin} {correction.tau:g}.",
        f"Its statistics come from {correction.statistics}.",
        f"Its curves have {correction.knots_total} knots in all, at most {correction.knots} for a class, and "
        f"are exact to {correction.error_bound:.2g} logits.",
    ]
    if correction.uncorrected:
        sentences.append(f"Left as they are, for want of statistics: {', '.join(correction.uncorrected)}.")
    return _list(sentences)


def _table(facts: dict[str, str]) -> str:
    rows = (
        f'<tr><th scope="row">{html.escape(k)}</th><td>{html.escape(v)}</td></tr>' for k, v in facts.items()
    )
    return f'<table class="facts">{"".join(rows)}</table>'


def _list(sentences: list[str]) -> str:
    return f'<ul class="sentences">{"".join(f"<li>{html.escape(each)}</li>" for each in sentences)}</ul>'
