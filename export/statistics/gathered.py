"""What was gathered in the field, as statistics for the fold.

A gathered file holds the very histogram that calibration fits its mixtures to (serve/gathering/counts.py), so
the same fit makes the same statistics of it. The anchors stay those of the model, since they say where logits
should lie and not where they have gone; or they are pooled from what was gathered.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from adapt.balance.bins import Bins
from adapt.balance.histogram import Histogram
from adapt.balance.logit_statistics import fit_shift_statistics
from adapt.errors import InputError
from export.fold.folded import graph_info
from export.sources.calibrated import is_ours
from export.sources.given import Given
from export.sources.source import GraphSource, Source, open_source
from export.statistics.gather import EM_STEPS, MIN_PIXELS
from serve.gathering.counts import Counts
from serve.gathering.rule import Rule
from serve.gathering.store import Gathered, Record, chosen, is_gathered
from serve.gathering.times import span_words

Anchors = Literal["model", "target"]

__all__ = ["Anchors", "is_gathered", "open_gathered"]


def open_gathered(
    path: Path, file: Path, anchors: Anchors = "model", wanted: Callable[[Record], bool] = lambda _: True
) -> tuple[Source, Given]:
    """A run or a graph of ours, and the statistics of what was gathered with it.

    Args:
        file: gathered, or merged of such.
        anchors: those folded into the model, or pooled from what was gathered.
        wanted: which records to take.

    Raises:
        InputError: a model that is not ours or has other classes, no record that is wanted, or no class with
            enough pixels.
    """
    gathered = Gathered(file)
    head = gathered.head
    if not path.is_dir() and not is_ours(path):
        raise InputError(f"{path} is not the model that {file} was gathered with; give that, or its run.")
    source = open_source(path)
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
        before = source.statistics().statistics
        statistics = replace(statistics, anchors=before.anchors, eps=before.eps)
        of = f"those in {path.resolve().name}"
    frames = sum(record.frames for record in records)
    words = f"{frames} frames gathered from {span_words(records)}; anchors: {of}"
    pixels = tuple(int(n) for n in counts.pixels)
    rule = head.subject.rule
    return source, Given(statistics, words, head.subject.network, "", rule.offset, pixels, _tau(source))


def histogram_of(counts: Counts, rule: Rule, outside: int) -> Histogram:
    """The counts as mixtures are fitted to them; a class's pixels are logit pixels."""
    bins = Bins(torch.tensor(rule.low), torch.tensor(rule.step))
    return Histogram(torch.from_numpy(counts.joint.copy()), torch.tensor(outside), 1, bins)


def _tau(source: Source) -> float:
    """The strength that the model has: it is the statistics that are new."""
    if isinstance(source, GraphSource):
        correction = graph_info(source.model, str(source.path)).correction
        if correction is not None:
            return correction.tau
    return source.tau


def _all(records: tuple[Record, ...]) -> str:
    return span_words(records) if records else "no frame at all"
