"""Gathers twice from one domain of real pictures, many times, and counts how often `serve drift` is alarmed.

What was gathered of a domain is a block of counts for every few neighbouring pictures. The blocks are shared
out to two sides at random; against a model, one side is fitted by mixtures, as a fold does, and only those
are kept of it. Nothing has changed then but chance.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from adapt.balance.mixtures import em_in_blocks, spread
from export.statistics.gather import EM_STEPS
from serve.fleet.alarm import BLOCKS, find_drift
from serve.fleet.measures import shared_out
from serve.fleet.sides import LEAST, Side, binned
from serve.gathering.counts import Counts
from serve.gathering.rule import BINS, Rule
from serve.gathering.store import Gathered

TIMES = 500
COMPONENTS = 5


def alarms(out: Path) -> Iterator[tuple[str, str]]:
    """For every domain below `out/gathered`: its name, and alarms of how many comparisons."""
    for folder in sorted((out / "gathered").iterdir()):
        for domain, names in (("source", ("reference", "same")), ("target", ("target",))):
            files = [Gathered(folder / name) for name in names if (folder / name).exists()]
            blocks = [file.counts(n) for file in files for n in range(len(file.head.records))]
            if not blocks:
                continue
            rule = files[0].head.subject.rule
            found = [_twice(blocks, rule, False)]
            if len(blocks) // 2 >= BLOCKS:
                found.append(_twice(blocks, rule, True))
            words = [
                f"{hits} of {TIMES} against {of}"
                for hits, of in zip(found, ("a file", "a model"), strict=False)
            ]
            yield f"{folder.name}, {domain} ({len(blocks)} blocks)", "; ".join(words)


def _twice(blocks: list[Counts], rule: Rule, against_model: bool) -> int:
    """Alarms of TIMES comparisons."""
    rng, half, hits = np.random.default_rng(0), len(blocks) // 2, 0
    for _ in range(TIMES):
        order = rng.permutation(len(blocks))
        now, then = ([blocks[n] for n in part] for part in (order[:half], order[half : 2 * half]))
        other = _folded(_side(then), rule) if against_model else _side(then)
        hits += find_drift(_side(now), other, rule.step).alarmed
    return hits


def _side(blocks: list[Counts]) -> Side:
    """As `serve.fleet.sides.gathered_side` makes it of a file, without what no alarm looks at."""
    positive = np.stack([each.positive for each in blocks])
    total, pixels = positive.sum(0), positive.sum(-1)
    known = pixels.sum(0) >= LEAST
    return Side(
        words="",
        positive=positive,
        pixels=pixels,
        begins=tuple(range(len(blocks))),
        distribution=shared_out(total) * known[:, None],
        share=shared_out(pixels.sum(0)),
        bias=np.zeros(len(known)),
        confidence=None,
        known=known,
    )


def _folded(side: Side, rule: Rule) -> Side:
    """What a model remembers of it."""
    counts = torch.from_numpy(side.positive.sum(0)).double()
    centres = torch.from_numpy(rule.low + rule.step * (np.arange(BINS) + 0.5))
    fitted = em_in_blocks(counts, centres, spread(counts, centres, COMPONENTS), EM_STEPS)
    parts = [part.numpy().astype(np.float64) for part in fitted]
    C = len(side.known)
    return Side(
        words="",
        positive=np.zeros((0, C, BINS), np.int64),
        pixels=np.zeros((0, C), np.int64),
        begins=(),
        distribution=binned(rule, *parts) * side.known[:, None],
        share=side.share,
        bias=side.bias,
        confidence=None,
        known=side.known,
        made_of=side.pixels.sum(0),
    )
