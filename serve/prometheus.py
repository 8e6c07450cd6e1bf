"""Prometheus' text format (version 0.0.4): https://prometheus.io/docs/instrumenting/exposition_formats/"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

KIND = "text/plain; version=0.0.4; charset=utf-8"
"""As it is named over HTTP."""

Labels = Mapping[str, str]
Samples = Iterable[tuple[Labels, float]]


def metric(kind: Literal["gauge", "counter"], name: str, about: str, samples: Samples) -> list[str]:
    """Lines of a metric; samples that are not finite are left out, and it too if none is left."""
    known = [(labels, value) for labels, value in samples if math.isfinite(value)]
    if not known:
        return []
    return [*_head(kind, name, about), *(_sample(name, labels, value) for labels, value in known)]


def histogram(
    name: str,
    about: str,
    edges: Sequence[float],
    series: Iterable[tuple[Labels, Sequence[int], float]],
) -> list[str]:
    """Lines of a histogram.

    Args:
        edges: upper ends of all bins but the last, which has none.
        series: of each, its labels, counts of all bins (one more than edges), and the sum of the values.
    """
    lines = _head("histogram", name, about)
    ends = [*(f"{edge:g}" for edge in edges), "+Inf"]
    for labels, counts, total in series:
        so_far = 0
        for end, count in zip(ends, counts, strict=True):
            so_far += int(count)
            lines.append(_sample(f"{name}_bucket", {**labels, "le": end}, so_far))
        lines += [_sample(f"{name}_sum", labels, total), _sample(f"{name}_count", labels, so_far)]
    return lines


def text(lines: Iterable[str]) -> str:
    """The whole of it."""
    return "".join(f"{line}\n" for line in lines)


def _head(kind: str, name: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def _sample(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(given)}"' for key, given in labels.items())
    shown = str(value) if isinstance(value, int) else f"{value:.9g}"
    return f"{name}{{{inside}}} {shown}" if inside else f"{name} {shown}"


def _escaped(given: str) -> str:
    return given.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
