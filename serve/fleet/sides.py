"""The two sides of a comparison: what was gathered, in blocks of time, and what it is compared with."""

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.card import Key, of_profile
from serve.errors import InputError
from serve.fleet.measures import Array, bias_of_joint, mean_confidence, shared_out
from serve.gathering.counts import Counts
from serve.gathering.rule import BINS, Rule, Subject, subject_of
from serve.gathering.store import Gathered, Record, chosen
from serve.gathering.tensors import read_tensors
from serve.gathering.times import span_words
from serve.inference.opening import open_runtime

LEAST = 100
"""Logit pixels of a class from which on something is said of it."""


@dataclass(frozen=True, eq=False)
class Side:
    """Positive logits of each class, and what else is known."""

    words: str
    """What it is, for a person."""
    positive: NDArray[Any]
    """[blocks, C, BINS]; no block of a model, which remembers a sum only."""
    pixels: NDArray[np.int64]
    """[blocks, C]"""
    begins: tuple[int, ...]
    """When each block begins, in seconds since 1970."""
    distribution: Array
    """[C, BINS] of all blocks together; 0 of a class without enough pixels."""
    share: Array | None
    """[C] of the pixels; None if that is not known."""
    bias: Array
    """[C] estimated without labels."""
    confidence: Array | None
    """[C], NaN of a class without pixels."""
    known: NDArray[np.bool_]
    """[C] classes of which something can be said."""
    made_of: NDArray[np.int64] | None = None
    """[C] logit pixels of each class that a model's statistics were made of; None if that is not known."""


def gathered_side(gathered: Gathered, wanted: Callable[[Record], bool], block: int) -> Side:
    """What was gathered, in blocks of so many seconds.

    Raises:
        InputError: no record is wanted, or counts were altered.
    """
    numbers = chosen(gathered.head, wanted)
    if not numbers:
        raise InputError(f"{gathered.path} holds nothing of what is wanted; leave --slot or --device out.")
    records = [gathered.head.records[n] for n in numbers]
    begins = sorted({record.slot // block * block for record in records})
    place = {begin: n for n, begin in enumerate(begins)}
    C = len(gathered.head.subject.classes)
    total = Counts.none(C)
    positive = np.zeros((len(begins), C, BINS), np.int64)
    for number, record in zip(numbers, records, strict=True):
        counts = gathered.counts(number)
        positive[place[record.slot // block * block]] += counts.positive
        total.values[:] += counts.values
    known = total.pixels >= LEAST
    frames = sum(record.frames for record in records)
    return Side(
        words=f"{gathered.path.name}: {frames:,} frames, {span_words(records)}",
        positive=positive,
        pixels=positive.sum(-1),
        begins=tuple(begins),
        distribution=shared_out(total.positive) * known[:, None],
        share=shared_out(total.pixels),
        bias=bias_of_joint(total.joint, LEAST),
        confidence=mean_confidence(total.confidence),
        known=known,
    )


def model_side(path: Path, profile: str = "") -> tuple[Side, Subject]:
    """What a model was folded with, and what is gathered of it.

    Args:
        profile: of a model with several corrections, the one to look at; empty is the first.

    Raises:
        InputError: no model that was exported with --gather, no such profile, or its statistics were altered.
    """
    runtime = open_runtime(path, "cpu" if path.suffix != ".engine" else "auto")
    number = runtime.info.number_of(profile, str(path)) if profile else 0
    subject = subject_of(runtime.metadata, runtime.info, str(path), number)
    metadata = of_profile(runtime.metadata, number)
    C = len(subject.classes)
    try:
        tensors = read_tensors(base64.b64decode(metadata[Key.STATISTICS], validate=True))
        bias = np.array(json.loads(metadata[Key.CURVES])["bias"], np.float64)
        seen = tensors["seen"].astype(bool)
        own = np.arange(C)
        parts = [
            tensors[f"rows.{name}"][own, own].astype(np.float64) for name in ("weights", "means", "variances")
        ]
        if len(seen) != C or len(bias) != C:
            raise ValueError("another number of classes")
        distribution = binned(subject.rule, *parts) * seen[:, None]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(f"the statistics inside {path} were altered ({error}); export it again.") from error
    pixels = subject.rule.pixels
    side = Side(
        words=f"what {path.name} was folded with" + (f" as {subject.profile}" if subject.profile else ""),
        positive=np.zeros((0, C, BINS), np.int64),
        pixels=np.zeros((0, C), np.int64),
        begins=(),
        distribution=distribution,
        share=None if pixels is None else shared_out(np.array(pixels)),
        bias=bias,
        confidence=None,
        known=seen,
        made_of=None if pixels is None else np.array(pixels, np.int64),
    )
    return side, subject


def binned(rule: Rule, weights: Array, means: Array, variances: Array) -> Array:
    """Mixtures [C, K] of Gaussians as shares of the bins [C, BINS]; what lies beyond is in the last ones."""
    edges = rule.low + rule.step * np.arange(1, BINS)
    z = (edges - means[..., None]) / np.sqrt(2 * variances[..., None])  # [C, K, BINS - 1]
    erf = np.vectorize(math.erf, otypes=[np.float64])
    levels = (weights[..., None] * 0.5 * (1 + erf(z))).sum(1) / weights.sum(1)[:, None]
    ends = np.zeros((len(levels), 1)), np.ones((len(levels), 1))
    return np.asarray(np.diff(np.concatenate([ends[0], levels, ends[1]], 1), axis=1))
