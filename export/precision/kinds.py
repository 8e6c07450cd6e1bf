"""What the network of a graph may compute in. Nothing heavy is imported: the command line reads it."""

from typing import NamedTuple


class Gate(NamedTuple):
    """Least share of labels equal to those of the float32 graph, near-ties included."""

    overall: float
    per_class: float


class Kind(NamedTuple):
    """A precision."""

    about: str
    gate: Gate | None = None
    """What it must pass; float32 is what the others are compared with."""
    measured: bool = False
    """Whether the ranges of its numbers are measured on pictures."""


PRECISIONS: dict[str, Kind] = {
    "fp32": Kind("as trained"),
    "fp16": Kind("half of the size", Gate(0.995, 0.98)),
    "int8": Kind("a quarter of the size, ranges from --calibrate", Gate(0.95, 0.80), measured=True),
}
