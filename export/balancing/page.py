"""The page about a balanced file: one HTML file that fetches nothing (adapt/reporting/page.py)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from adapt.evaluation.scores import Scores
from adapt.reporting.charts import Line, line_chart
from adapt.reporting.page import (
    Section,
    cards,
    code,
    document,
    facts,
    figure,
    grid,
    keys,
    label_map,
    paragraph,
    photograph,
    table,
)
from export.balancing.seen import Change, Pair
from export.balancing.strength import Chosen
from serve.card import Card, Correction
from serve.images.render import Painter
from serve.info import correction_sentences


@dataclass(frozen=True, eq=False)
class Told:
    """All that the page says."""

    title: str
    found: Mapping[str, str]
    """What the model is, in words, by what the words are about."""
    card: Card
    correction: Correction
    curves: str
    """What the file has to be drawn: JSON, see `export.fold.drawn.drawn`."""
    chosen: Chosen
    change: Change
    uncorrected: Mapping[str, str]
    """Why, by class."""
    pairs: Sequence[Pair]
    checked: str
    """What the check found, in words."""
    commands: Sequence[str]
    """That come next."""


def page(told: Told) -> str:
    """The whole page."""
    sections = [
        Section("model", "What was found", facts(told.found)),
        _shares(told),
        *_scores(told),
        *_shifts(told),
        _pictures(told),
        _left(told),
        Section(
            "check",
            "The check",
            paragraph("The file against the model it was made from.") + code(told.checked),
        ),
        Section("next", "What to do next", code("\n".join(told.commands))),
    ]
    made = f"Written by blda export balance on {datetime.now(UTC):%d %B %Y}. Nothing on this page is fetched."
    return document(told.title, _introduction(told), sections, made)


def _introduction(told: Told) -> str:
    C, left = len(told.card.classes), sum(name in told.card.classes for name in told.uncorrected)
    corrected = 0 if told.chosen.tau == 0 else C - left
    entries = {
        "strength": (f"{told.chosen.tau:g}", "tau, 0 to 2"),
        "corrected": (f"{corrected}", f"of {C} classes"),
        "labels that change": (f"{100 * told.change.changed:.2g} %", f"of {told.change.pixels:,} pixels"),
    }
    said = "".join(map(paragraph, correction_sentences(told.correction)))
    return paragraph(f"The strength: {told.chosen.why}.") + cards(entries) + said


def _shares(told: Told) -> Section:
    change = told.change
    rows = [
        [name, _percent(a), _percent(b), f"{100 * (b - a):+.2f}", f"{b / a:.2f}" if a > 0 else "-"]
        for name, a, b in zip(told.card.classes, change.before, change.after, strict=True)
    ]
    caption = (
        "Shares of the classes on the footage, at the pixels that the logits are of. A class that the model "
        "predicts too rarely should grow; what is right, only labels tell."
    )
    head = ["class", "before, %", "after, %", "points", "times"]
    return Section("shares", "Class shares", table(caption, head, rows))


def _scores(told: Told) -> Iterator[Section]:
    scores = told.chosen.scores
    if not scores:
        return
    columns = list(scores.values())
    titles = ["before" if tau == 0 else f"tau {tau:g}" for tau in scores]
    head = ["class", *(f"{what}, {title}" for what in ("IoU %", "accuracy %") for title in titles)]
    rows = [
        [name, *(_score(s.iou[c]) for s in columns), *(_score(s.accuracy[c]) for s in columns)]
        for c, name in enumerate(told.chosen.classes)
    ]
    foot = [["mean", *_means(columns, "mean_iou"), *_means(columns, "mean_accuracy")]]
    said = told.chosen.harm
    advice = paragraph(f"{said[0].upper()}{said[1:]}") if said else ""
    yield Section("labels", "On labelled pictures", advice + table("", head, rows, foot))


def _shifts(told: Told) -> Iterator[Section]:
    drawn = json.loads(told.curves)["shifts"]
    charts = []
    for name, curve in zip(told.card.classes, drawn, strict=True):
        if curve is None:
            continue
        shift = told.chosen.tau * np.array(curve["shift"])
        logits = curve["lower"] + curve["step"] * np.arange(len(shift))
        meaning = f"What is added to the logit of {name}, over that logit"
        charts.append(figure(line_chart([Line(name, logits, shift)], meaning, height=130), "", name))
    if charts and told.chosen.tau > 0:
        words = (
            "What a class's own logit is raised by (lowered, below 0) where it is judged, over that logit, "
            "at this strength; beyond the ends it stays as it is there."
        )
        yield Section("shifts", "Shifts", paragraph(words) + grid(charts, "small"))


def _pictures(told: Told) -> Section:
    card, painter = told.card, Painter(told.card.palette)
    present = sorted(
        {int(c) for pair in told.pairs for part in (pair.before, pair.after) for c in np.unique(part)}
    )
    rows = []
    for pair in told.pairs:
        changed = f"{100 * float((pair.before != pair.after).mean()):.2g} %"
        columns = [figure(photograph(pair.image, f"{pair.name}, picture"), pair.name)]
        for title, labels in (
            ("before", pair.before),
            (f"after: {changed} of the labels change", pair.after),
        ):
            painted = painter.colors(np.ascontiguousarray(labels))
            columns.append(figure(label_map(painted, f"{pair.name}, {title}"), title))
        rows.append(f"<article>{grid(columns, 'four')}</article>")
    legend = keys([(card.classes[c], card.palette[c]) for c in present])
    return Section("pictures", "Pictures of the footage", legend + "".join(rows))


def _left(told: Told) -> Section:
    if not told.uncorrected:
        body = paragraph("Every class was seen often enough to be corrected.")
    else:
        body = table("", ["what", "why"], [[name, why] for name, why in told.uncorrected.items()])
    words = (
        "The correction moves labels between classes whose logits are near each other. What the model gives "
        "a low logit everywhere stays lost: that takes training (adapt train)."
    )
    return Section("left", "What is not corrected, and why", body + paragraph(words))


def _means(columns: Sequence[Scores], name: str) -> list[str]:
    return [_score(getattr(scores, name)) for scores in columns]


def _score(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
