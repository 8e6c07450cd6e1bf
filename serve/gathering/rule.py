"""How a model's logits are counted: what `export onnx --gather` writes into the file, and devices read.

All devices of one model count in the same bins, those of the statistics that it was folded with and a margin
on either side. So their counts add up exactly, and what `export` fits mixtures to are the very counts that it
would have made itself.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from serve.card import GraphInfo, Key, of_profile
from serve.errors import InputError

BINS = 256
"""As the histograms that mixtures are fitted to have (adapt/balance/bins.py)."""
MARGIN = 0.25
"""Share of the folded statistics' range that is left free on either side for what comes in the field."""


@dataclass(frozen=True)
class Rule:
    """Where logits are counted, and whose pixels they are."""

    low: float
    """Left end of the first of BINS bins, in logits."""
    step: float
    """Width of a bin, in logits."""
    offset: tuple[float, ...]
    """[C] logits that are added before a pixel's class is taken, as when the folded statistics were made; all
    0 takes the plain best class. See export/statistics/gather.py."""
    pixels: tuple[int, ...] | None = None
    """[C] pixels of each class that the folded statistics are of; None if that is not known."""

    @property
    def high(self) -> float:
        """Right end of the last bin, in logits."""
        return self.low + BINS * self.step


@dataclass(frozen=True)
class Subject:
    """What counts are of. Only counts of the same subject add up."""

    network: str
    """Fingerprint of the network whose logits they are; another strength or another correction too."""
    classes: tuple[str, ...]
    stride: int
    """Pixels of the picture that a logit pixel stands for, along a side."""
    rule: Rule
    profile: str = ""
    """Name of the correction that ran, of a graph with several: each counts in bins of its own."""


def rule_around(
    logit_range: tuple[float, float], offset: tuple[float, ...], pixels: tuple[int, ...] | None
) -> Rule:
    """The rule for a network whose statistics were counted in `logit_range`."""
    low, high = logit_range
    step = (high - low) * (1 + 2 * MARGIN) / BINS
    return Rule(low - MARGIN * (high - low), step, offset, pixels)


def rule_text(rule: Rule) -> str:
    """As it stands in a graph's metadata."""
    return json.dumps(asdict(rule))


def rule_of(text: str, classes: int) -> Rule:
    """Inverse of `rule_text`. Raises ValueError if it was altered."""
    try:
        fields = json.loads(text)
        pixels = fields["pixels"]
        rule = Rule(
            float(fields["low"]),
            float(fields["step"]),
            tuple(map(float, fields["offset"])),
            None if pixels is None else tuple(map(int, pixels)),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{error} is missing or wrong") from error
    if not rule.step > 0 or len(rule.offset) != classes or len(rule.pixels or rule.offset) != classes:
        raise ValueError("step, offset or pixels don't fit the classes")
    return rule


def subject_of(metadata: Mapping[str, str], info: GraphInfo, source: str, profile: int = 0) -> Subject:
    """What a graph's logits are under a profile, by the metadata of the file named `source`.

    Raises:
        InputError: it was exported without --gather, or its metadata was altered.
    """
    if Key.GATHER not in metadata:
        raise InputError(
            f"{source} was not exported for gathering; export it again with --gather: "
            f"`blda export onnx {source} --gather -o NEW.onnx`."
        )
    try:
        metadata = of_profile(metadata, profile)
        rule = rule_of(metadata[Key.GATHER], len(info.card.classes))
        network = str(json.loads(metadata[Key.NETWORK])["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"what {source} says of gathering was altered ({error}); export it again."
        ) from error
    name = info.profiles[profile].name if info.profiles else ""
    return Subject(network, info.card.classes, info.card.output_stride, rule, name)
