"""Counts of chance as devices write them, of networks that one can tell apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serve.gathering.counts import Counts, add
from serve.gathering.packing import pack
from serve.gathering.rule import Rule, Subject
from serve.gathering.store import Head, Record, write_gathered

HOUR = 3600
MORNING = 1_800_000_000 // HOUR * HOUR


def subject(C: int = 3, network: str = "a network", offset: float = 0.0) -> Subject:
    rule = Rule(-16.0, 0.125, (offset,) + (0.0,) * (C - 1))
    return Subject(network, tuple(f"class{c}" for c in range(C)), 4, rule)


def drawn(
    of: Subject, rng: np.random.Generator, pixels: int = 2000, favour: np.ndarray | float = 0.0
) -> Counts:
    """Counts of pixels of a segmenter that is mostly right; `favour` is added to its logits."""
    C = len(of.classes)
    truth = rng.choice(C, pixels, p=np.arange(C, 0, -1) / (C * (C + 1) / 2))
    logits = rng.normal(-2, 1.5, (C, pixels))
    logits[truth, np.arange(pixels)] += rng.normal(5, 1.5, pixels)
    logits = (logits + np.broadcast_to(np.asarray(favour).reshape(-1, 1), (C, pixels))).astype(np.float32)
    counts = Counts.none(C)
    add(counts, of.rule, logits[:, None], logits.argmax(0)[None])
    return counts


def write_file(
    path: Path,
    of: Subject,
    counts: Sequence[Counts],
    *,
    device: str = "d",
    first: int = MORNING,
    slot: int = HOUR,
) -> Path:
    """A device's file with these counts in slots one after the other."""
    records = [
        Record(first + n * slot, device, first + n * slot + 5.0, first + n * slot + 99.0, 7, n)
        for n in range(len(counts))
    ]
    write_gathered(path, Head(of, slot, tuple(records)), (pack(each.values) for each in counts))
    return path
