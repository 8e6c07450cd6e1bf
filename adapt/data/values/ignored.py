"""Pixels that do not count: how many there are in each data set's label files, and which values they have."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from adapt.data.classes import ClassList
from adapt.data.datasets import LabelledImages, LabelReport
from adapt.data.label_codes import IGNORE, Color, values_in

WARN_FROM = 0.2
"""Share of the pixels from which on it is a warning."""
_SHOWN_FROM = 0.001
_MOST = 0.5  # of the ignored pixels, that one value has where it is named
_LOOKED_AT = 20  # label files, for that


def describe_ignored(domain: str, dataset: LabelledImages, report: LabelReport) -> Iterator[str]:
    """A line for each data set some of whose pixels do not count.

    domain: what the data set is to the run.
    """
    ends = np.cumsum(dataset.sizes)
    for part, end, size in zip(dataset.parts, ends.tolist(), dataset.sizes, strict=True):
        here = slice(end - size, end)
        ignored, counted = report.ignored[here], report.class_pixels[here].sum()
        share = ignored.sum() / (ignored.sum() + counted)
        if share < _SHOWN_FROM:
            continue
        line = f"{100 * share:.3g} % of the pixels in {part.found.pattern} are ignored"
        if share < WARN_FROM:
            yield f"{domain}: {line}"
            continue
        most = np.argsort(-ignored, kind="stable")[:_LOOKED_AT] + here.start
        yield f"warning: {domain}: {line}{_main_value(dataset, [int(i) for i in most if i < end])}"


def _main_value(dataset: LabelledImages, indices: list[int]) -> str:
    """Which value most of the ignored pixels of some label files have, and what to do; or nothing."""
    counts: Counter[int | Color] = Counter()
    for index in indices:
        code = dataset.part(index).code
        for value, pixels in values_in(dataset.values(index)).items():
            train_id = code.ids.get(value) if isinstance(value, int) else code.colors.get(value)
            counts[value] += pixels * (train_id == IGNORE)
    value, pixels = counts.most_common(1)[0]
    if pixels <= _MOST * counts.total():
        return ""
    share = f"; {100 * pixels / counts.total():.3g} % of these are {_shown(value)}"
    return share + _advice(value, dataset.classes)


def _shown(value: int | Color) -> str:
    if isinstance(value, int):
        return f"of id {value}"
    return f"{'black' if value == (0, 0, 0) else 'of the colour'} {list(value)}"


def _advice(value: int | Color, classes: ClassList) -> str:
    color = "" if isinstance(value, int) else f", color: {list(value)}"
    if value in classes.ignore:
        return ", which the class list ignores; if they should count, give them a class"
    named = f"{{id: {value}, name: background}}" if not color else f"{{name: background{color}}}"
    return f", which no class has; if it is one, such as the background, list it: - {named}"
