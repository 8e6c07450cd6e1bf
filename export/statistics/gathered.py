"""What was gathered in the field, as statistics for the fold.

A gathered file holds the very histogram that calibration fits its mixtures to (serve/gathering/counts.py), so
the same fit makes the same statistics of it. The anchors stay those of the model, since they say where logits
should lie and not where they have gone; or they are pooled from what was gathered.

Nothing in what was gathered says which strength is best, so the one stays that the model corrects with, or
that somebody chose for its run. Where there is none it is the default; and none at all where a little
correction hardly lowers the bias that is estimated of the counts, as for any run (adapt/balance/bias.py).
What speaks against a strength that stays is said, as `blda export calibrate` and `balance` say it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from adapt.balance.bias import doubt
from adapt.balance.bins import Bins
from adapt.balance.histogram import Histogram
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics
from adapt.errors import InputError
from adapt.run.cards import default_words
from export.sources.calibrated import is_ours
from export.sources.given import Given
from export.sources.source import Source, open_source
from export.statistics.checks import warnings_of
from export.statistics.gather import EM_STEPS, MIN_PIXELS
from serve.gathering.counts import Counts
from serve.gathering.rule import Rule
from serve.gathering.store import Gathered, Record, chosen, is_gathered
from serve.gathering.times import span_words

Anchors = Literal["model", "target"]

__all__ = ["Anchors", "is_gathered", "open_gathered"]


def open_gathered(
    path: Path,
    file: Path,
    anchors: Anchors = "model",
    wanted: Callable[[Record], bool] = lambda _: True,
    opened: Source | None = None,
) -> tuple[Source, Given]:
    """A run or a graph of ours, and the statistics of what was gathered with it.

    Args:
        file: gathered, or merged of such.
        anchors: those folded into the model, or pooled from what was gathered.
        wanted: which records to take.
        opened: the source, where it was opened before.

    Raises:
        InputError: a model that is not ours or has other classes, no record that is wanted, or no class with
            enough pixels.
    """
    gathered = Gathered(file)
    head = gathered.head
    if not path.is_dir() and not is_ours(path):
        raise InputError(f"{path} is not the model that {file} was gathered with; give that, or its run.")
    source = opened or open_source(path)
    if source.card.classes != head.subject.classes:
        raise InputError(f"{file} was gathered with other classes than {path} has; give the model of it.")
    numbers = chosen(head, wanted)
    if not numbers:
        raise InputError(f"{file} holds nothing of the wanted slots; it is of {_all(head.records)}.")
    records = [head.records[n] for n in numbers]
    counts = gathered.total(numbers)
    histogram = histogram_of(counts, head.subject.rule, sum(record.outside for record in records))
    if not bool((histogram.row_pixels >= MIN_PIXELS).any()):
        raise InputError(f"{file} gives no class {MIN_PIXELS} logit pixels; gather for longer.")
    statistics = fit_shift_statistics(
        histogram, histogram.anchors("classes", MIN_PIXELS), min_pixels=MIN_PIXELS, steps=EM_STEPS
    )
    of = "the same"
    if anchors == "model":
        named = source.profiles()
        before = (named.get(head.subject.profile) or source.statistics()).statistics
        statistics = replace(statistics, anchors=before.anchors, eps=before.eps)
        of = f"those in {path.resolve().name}"
    frames = sum(record.frames for record in records)
    words = f"{frames} frames gathered from {span_words(records)}; anchors: {of}"
    pixels = tuple(int(n) for n in counts.pixels)
    rule = head.subject.rule
    tau, why = _strength(source, statistics)
    return source, Given(
        statistics,
        words,
        head.subject.network,
        "",
        rule.offset,
        pixels,
        tau,
        why,
        tuple(_warnings(source, statistics)),
    )


def histogram_of(counts: Counts, rule: Rule, outside: int) -> Histogram:
    """The counts as mixtures are fitted to them; a class's pixels are logit pixels."""
    bins = Bins(torch.tensor(rule.low), torch.tensor(rule.step))
    return Histogram(torch.from_numpy(counts.joint.copy()), torch.tensor(outside), 1, bins)


def _strength(source: Source, statistics: ShiftStatistics) -> tuple[float, str]:
    """The strength to fold, and why it is that one, in words."""
    chosen = source.chosen_tau
    if chosen is not None:
        return chosen, f"tau {chosen:g}, which {source.path.name} has"
    if said := doubt(statistics, source.evened):
        return 0.0, f"tau 0, so labels are the uncorrected ones, and --tau folds another: {said}"
    return source.default_tau, f"{default_words(source.default_tau)}, as nothing speaks against it"


def _warnings(source: Source, statistics: ShiftStatistics) -> list[str]:
    """What `blda export calibrate` would say of the same statistics."""
    names = source.card.classes
    rare = [name for name, known in zip(names, statistics.seen.tolist(), strict=True) if not known]
    found = [f"uncorrected, with fewer than {MIN_PIXELS} pixels: {', '.join(rare)}"] if rare else []
    return found + warnings_of(statistics)


def _all(records: tuple[Record, ...]) -> str:
    return span_words(records) if records else "no frame at all"
