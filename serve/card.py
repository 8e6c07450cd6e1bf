"""The metadata contract of a deployable graph, in the standard library only.

A graph file carries string metadata under keys prefixed `blda.`; this module is the one place that knows
their names and meaning. `export` writes them, `serve` reads them, and neither needs the other to do so.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

from serve.errors import InputError

PREFIX = "blda."
SCHEMA = 1
MOST_PROFILES = 8
"""Corrections that one graph may hold, to choose among."""


class Key(StrEnum):
    """The keys. Values are JSON, except for `SCHEMA`, a number, and `STATISTICS`."""

    SCHEMA = PREFIX + "schema"
    CARD = PREFIX + "card"
    CORRECTION = PREFIX + "correction"
    SCORES = PREFIX + "scores"
    """What the scores of a corrected file are; see `GraphInfo.scores`."""
    VERIFICATION = PREFIX + "verification"
    PRECISION = PREFIX + "precision"
    """What the network computes in, and how its labels agree with those of float32."""
    STATISTICS = PREFIX + "statistics"
    """Of the correction, as a safetensors file in base64, to fold them again from."""
    CURVES = PREFIX + "curves"
    """Of the correction, to be drawn."""
    TABLE = PREFIX + "table"
    """The bins that the correction is tabled on."""
    NETWORK = PREFIX + "network"
    """Which network is inside, by its fingerprint."""
    GATHER = PREFIX + "gather"
    """How the logits of a file with that output are counted in the field, see serve/gathering/rule.py."""
    ENDS = PREFIX + "logits_graph"
    """Input and output of the network inside."""
    PROFILES = PREFIX + "profiles"
    """Names of the corrections among which the input `profile` chooses; see `of_profile`."""
    WEIGHTS = PREFIX + "weights"
    """Of a graph of more than 2 GB, "file" and "bytes" of its weights, which lie beside it."""


_OF_A_PROFILE = (Key.CORRECTION, Key.STATISTICS, Key.CURVES, Key.TABLE, Key.NETWORK, Key.GATHER)


Color = tuple[int, int, int]

LOG_ODDS = "log-odds"
LOG_PROBABILITIES = "log-probabilities"
"""The scores of corrected files that do not say what theirs are: they were made before there was a choice."""


@dataclass(frozen=True)
class Card:
    """What a graph's labels mean and which pictures it takes."""

    classes: tuple[str, ...]
    """Class names; the position is the label value in the graph's output."""
    palette: tuple[Color, ...]
    """RGB colour of each class, 0 to 255."""
    ignore_index: int
    """Label value that ground truth uses for pixels that do not count (the graph never outputs it)."""
    mean: tuple[float, float, float]
    """RGB mean on [0, 1] that the graph subtracts."""
    std: tuple[float, float, float]
    """RGB standard deviation on [0, 1] that the graph divides by."""
    stride: int
    """The graph pads height and width to a multiple of this, and crops the labels back."""
    output_stride: int
    """Input pixels per logit pixel along each side."""
    size: tuple[int, int] | None = None
    """(height, width) that a fixed-size graph takes; None when any size from `minimum_size` up is taken."""
    minimum_size: int = 64
    """Least height and width in pixels."""
    model: str = ""
    """Encoder and decoder in words."""
    license_note: str = ""
    """What the licence of the weights allows, in words."""


@dataclass(frozen=True)
class Correction:
    """The folded logit correction (Li et al. 2025, section 3.2; departures: adapt/balance/correction.py)."""

    tau: float
    """Folded strength; the default of the `tau` input when `runtime_tau`."""
    runtime_tau: bool
    """Whether the graph has the optional input `tau`."""
    knots: int
    """Most knots of any logit channel."""
    knots_total: int
    """Knots of all channels together."""
    eps: float
    """The shift is constant outside the quantiles [eps, 1 - eps]."""
    error_bound: float
    """Proven bound on |score - exact score| caused by the knots, in logits."""
    statistics: str
    """Where the statistics come from, in words."""
    uncorrected: tuple[str, ...] = ()
    """Classes without statistics, which stay uncorrected."""
    excluded: tuple[str, ...] = ()
    """Classes that take no part: pixels are theirs exactly where they were without the correction."""


@dataclass(frozen=True)
class GraphInfo:
    """Everything the metadata of one graph says."""

    card: Card
    correction: Correction | None = None
    verification: dict[str, Any] = field(default_factory=dict)
    """What `export verify` measured on this file; empty if it never ran."""
    scores: str = LOG_ODDS
    """What a corrected file's scores are: LOG_ODDS, or LOG_PROBABILITIES in files of older versions. Both
    have the same best class at a pixel of the decoder, but not between pixels."""
    profiles: tuple["Profile", ...] = ()
    """Of a graph with several corrections, all of them; `correction` is the first's, which runs unless the
    input `profile` says another."""

    @property
    def every(self) -> tuple["Profile", ...]:
        """All corrections: the profiles, or the only one under no name, or none."""
        own = () if self.correction is None else (Profile("", self.correction),)
        return self.profiles or own

    def number_of(self, profile: str, source: str) -> int:
        """Which profile has that name, in the file named `source`. Raises InputError if none has."""
        names = [each.name for each in self.profiles]
        if profile in names:
            return names.index(profile)
        if not names:
            raise InputError(f"--profile {profile} is not in {source}, which has no profiles; leave it out.")
        raise InputError(f"--profile {profile} is not in {source}; choose one of {', '.join(names)}.")

    def under(self, number: int) -> "GraphInfo":
        """The same with the correction of a profile as the one that runs."""
        if not self.profiles:
            return self
        return dataclasses.replace(self, correction=self.profiles[number].correction)


@dataclass(frozen=True)
class Profile:
    """One of several corrections of a graph, such as those of day and night."""

    name: str
    correction: Correction


def key_of(key: Key, number: int) -> str:
    """Where a profile has its own value: the first one under the key itself, the n-th under `KEY.n`."""
    return key if number == 0 else f"{key}.{number}"


def of_profile(metadata: Mapping[str, str], number: int) -> dict[str, str]:
    """Metadata as those of a graph with that profile alone: what each has of its own is the profile's."""
    if number == 0:
        return dict(metadata)
    own = {key: metadata.get(key_of(key, number)) for key in _OF_A_PROFILE}
    rest = {key: value for key, value in metadata.items() if key not in own}
    return rest | {key: value for key, value in own.items() if value is not None}


def to_metadata(info: GraphInfo) -> dict[str, str]:
    """Metadata keys and values for a graph file. Keys not written here are left to their writers."""
    metadata: dict[str, str] = {Key.SCHEMA: str(SCHEMA), Key.CARD: _dump(info.card)}
    if info.correction is not None:
        metadata[Key.CORRECTION] = _dump(info.correction)
        metadata[Key.SCORES] = json.dumps(info.scores)
    if info.profiles:
        metadata[Key.PROFILES] = json.dumps([each.name for each in info.profiles])
        own = {key_of(Key.CORRECTION, n): _dump(each.correction) for n, each in enumerate(info.profiles)}
        metadata |= own
    if info.verification:
        metadata[Key.VERIFICATION] = json.dumps(info.verification)
    return metadata


def from_metadata(metadata: Mapping[str, str], source: str) -> GraphInfo:
    """Read the metadata of the graph file named `source`.

    Raises:
        InputError: no metadata of ours, a newer schema, or metadata that was altered.
    """
    if Key.SCHEMA not in metadata:
        raise InputError(
            f"{source} has no blda metadata, so its classes and preprocessing are unknown; "
            "make it with `blda export onnx`."
        )
    try:
        schema = int(metadata[Key.SCHEMA])
        if schema > SCHEMA:
            raise InputError(
                f"{source} has metadata schema {schema}, this version reads up to {SCHEMA}; upgrade blda."
            )
        card = _load(Card, metadata[Key.CARD])
        if not card.classes or len(card.palette) != len(card.classes):
            raise ValueError("classes and palette differ in length")
        text = metadata.get(Key.CORRECTION)
        correction = None if text is None else _load(Correction, text)
        verification = json.loads(metadata.get(Key.VERIFICATION, "{}"))
        if not isinstance(verification, dict):
            raise TypeError("verification is not an object")
        unsaid = LOG_ODDS if correction is None else LOG_PROBABILITIES
        scores = json.loads(metadata.get(Key.SCORES, json.dumps(unsaid)))
        if scores not in (LOG_ODDS, LOG_PROBABILITIES):
            raise ValueError(f"its scores are {str(scores)[:60]}")
        profiles = _profiles(metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{source} claims to be a blda graph but its metadata was altered ({error}); export it again."
        ) from error
    return GraphInfo(card, correction, verification, scores, profiles)


def _profiles(metadata: Mapping[str, str]) -> tuple[Profile, ...]:
    names = json.loads(metadata.get(Key.PROFILES, "[]"))
    texts = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not texts or len(set(names)) < len(names) or len(names) == 1 or len(names) > MOST_PROFILES:
        raise ValueError(f"profiles are {str(names)[:60]}")
    return tuple(
        Profile(name, _load(Correction, metadata[key_of(Key.CORRECTION, n)])) for n, name in enumerate(names)
    )


def _dump(record: Card | Correction) -> str:
    return json.dumps(dataclasses.asdict(record))


def _load(kind: Any, text: str) -> Any:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError(f"{kind.__name__} is not an object")
    values = {key: _tuples(value) for key, value in found.items()}
    types = get_type_hints(kind)
    needed = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if missing := sorted(needed - set(values)):
        raise ValueError(f"{missing[0]} is missing")
    for key, value in values.items():
        if key not in types:
            raise ValueError(f"{key} is unknown")
        if not _fits(value, types[key]):
            raise ValueError(f"{key} is {str(found[key])[:60]}")
    return kind(**values)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, of those that the records here use."""
    if kind is float:
        return type(value) in (int, float)
    if (parts := get_args(kind)) and get_origin(kind) is not tuple:  # a union
        return any(_fits(value, part) for part in parts)
    if not parts:
        return type(value) is kind
    if not isinstance(value, tuple):
        return False
    inner = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
    return len(value) == len(inner) and all(map(_fits, value, inner))


def _tuples(value: Any) -> Any:
    """JSON has lists only; the records are hashable and hold tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
