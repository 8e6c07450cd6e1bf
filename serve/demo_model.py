"""The demo's Model tab: what a graph file says about itself."""

import html
from typing import Any

from serve.demo_curves import bias_html, curves_html
from serve.demo_statistics import estimated_bias, own_shifts, read_statistics
from serve.segmenter import Segmenter


def model_html(segmenter: Segmenter) -> str:
    """Card, correction, verification and shift curves of one model."""
    runtime, card = segmenter.runtime, segmenter.card
    size = "any" if card.size is None else f"{card.size[1]} × {card.size[0]}; others are resized"
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
    checked = {name.replace("_", " "): _words(value) for name, value in runtime.info.verification.items()}
    never = '<p class="hint">Never verified; <code>export verify</code> does it.</p>'
    parts.append("<h3>Verification</h3>" + (_table(checked) if checked else never))
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
    how = "a slider; by default" if correction.runtime_tau else "folded in:"
    facts = {
        "strength τ": f"{how} {correction.tau:g}",
        "statistics": correction.statistics,
        "knots": f"{correction.knots_total} in all, at most {correction.knots} per class",
        "error of the fold": f"at most {correction.error_bound:.2g} logits",
        "left as they are": ", ".join(correction.uncorrected) or "no class",
    }
    return _table(facts)


def _table(facts: dict[str, str]) -> str:
    rows = (
        f'<tr><th scope="row">{html.escape(k)}</th><td>{html.escape(v)}</td></tr>' for k, v in facts.items()
    )
    return f'<table class="facts">{"".join(rows)}</table>'


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
