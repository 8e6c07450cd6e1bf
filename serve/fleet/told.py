"""What was found, for a terminal, for programs and for Prometheus."""

import json
import math
from typing import Any

from serve.fleet.drift import Drift
from serve.fleet.measures import Array
from serve.prometheus import Samples, metric, text

_HEAD = (
    "class",
    "share then",
    "now",
    "logits moved",
    "95 %",
    "JS",
    "bias then",
    "now",
    "sure then",
    "now",
    "",
)


def table(found: Drift) -> str:
    """A line for every class, and the verdict."""
    rows = [_HEAD, *(_row(found, c) for c in range(len(found.classes)))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if n in (0, len(_HEAD) - 1) else cell.rjust(w)
            for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines = [f"now:  {found.now.words}", f"then: {found.then.words}", *lines]
    if math.isfinite(found.overall):
        lines.append(f"overall unlikeness (Jensen-Shannon, 0 to 1): {found.overall:.3f}")
    if found.unseen:
        lines.append(f"nothing can be said of what is not predicted: {', '.join(found.unseen)}")
    return "\n".join([*lines, found.verdict])


def _row(found: Drift, c: int) -> tuple[str, ...]:
    now, then, alarm = found.now, found.then, found.alarm
    low, high = alarm.interval[c]
    return (
        found.classes[c],
        _percent(then.share, c),
        _percent(now.share, c),
        _number(found.distance[c]),
        f"{low:.2f}-{high:.2f}" if math.isfinite(low) and math.isfinite(found.distance[c]) else "-",
        _number(found.unlikeness[c]),
        f"{then.bias[c]:+.3f}",
        f"{now.bias[c]:+.3f}",
        _percent(then.confidence, c),
        _percent(now.confidence, c),
        "drifted" if alarm.drifted[c] else "",
    )


def as_json(found: Drift) -> str:
    """The same for programs; null where nothing is known."""
    now, then, alarm = found.now, found.then, found.alarm
    classes = [
        {
            "class": name,
            "drifted": bool(alarm.drifted[c]),
            "logits_drifted": bool(alarm.moved[c]),
            "wasserstein_logits": _plain(found.distance[c]),
            "wasserstein_interval": [_plain(end) for end in alarm.interval[c]],
            "jensen_shannon": _plain(found.unlikeness[c]),
            "share": {"then": _of(then.share, c), "now": _of(now.share, c)},
            "share_interval": [_plain(end) for end in alarm.share_interval[c]],
            "bias": {"then": _plain(then.bias[c]), "now": _plain(now.bias[c])},
            "confidence": {"then": _of(then.confidence, c), "now": _of(now.confidence, c)},
        }
        for c, name in enumerate(found.classes)
    ]
    whole: dict[str, Any] = {
        "now": now.words,
        "then": then.words,
        "alarm": alarm.alarmed,
        "told": alarm.told,
        "p": _plain(alarm.p),
        "alpha": found.alpha,
        "jensen_shannon": _plain(found.overall),
        "unseen": list(found.unseen),
        "blocks": list(now.begins),
        "classes": classes,
    }
    return json.dumps(whole, indent=2) + "\n"


def prometheus(found: Drift) -> str:
    """Text for node_exporter's textfile collector; what is not known is left out."""
    now, alarm = found.now, found.alarm
    lines: list[str] = []

    def gauge(name: str, about: str, values: Samples) -> None:
        lines.extend(metric("gauge", f"blda_{name}", about, values))

    def by_class(values: Any) -> Samples:
        return [({"class": name}, float(values[c])) for c, name in enumerate(found.classes)]

    gauge("drift_alarm", "1 if any class drifted.", [({}, float(alarm.alarmed))])
    gauge("drift_p", "How often chance alone gives as much.", [({}, alarm.p)])
    gauge("drift_unlikeness", "Jensen-Shannon distance over all pixels, 0 to 1.", [({}, found.overall)])
    gauge("drift_blocks", "Blocks of time that were gathered.", [({}, float(len(now.begins)))])
    gauge("class_drifted", "1 if the class drifted.", by_class(alarm.drifted))
    gauge("class_moved_logits", "Wasserstein distance of the positive logits.", by_class(found.distance))
    gauge("class_unlikeness", "Jensen-Shannon distance of the positive logits.", by_class(found.unlikeness))
    gauge("class_bias", "Bias estimated without labels.", by_class(now.bias))
    if now.share is not None:
        gauge("class_share", "Share of the pixels.", by_class(now.share))
    if now.confidence is not None:
        gauge("class_confidence", "Mean softmax of the best logit.", by_class(now.confidence))
    return text(lines)


def _percent(values: Array | None, c: int) -> str:
    return "-" if values is None or not math.isfinite(values[c]) else f"{100 * values[c]:.2f} %"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _of(values: Array | None, c: int) -> float | None:
    return None if values is None else _plain(values[c])
