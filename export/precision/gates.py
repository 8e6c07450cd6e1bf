"""A deployable graph in less than float32, kept only if it says the same: per class, on pictures.

Rounding loses rare classes first, while the mean looks fine, so every class has a gate of its own. Where the
plain conversion fails one, the layers that suffer most go back to float32 and the gates decide again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from adapt.data.images import resize_image
from adapt.errors import InputError
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import folded_statistics, graph_info, lineage, unfold
from export.fold.session import open_session, unlike
from export.precision.conversion import Precision, depthwise, ends, precision_of, quantise, to_half
from export.precision.kinds import PRECISIONS, Gate
from export.sources.source import GraphSource, Source
from export.weights.beside import bytes_outside
from serve.card import Card, Key
from serve.media.images import Image

CLASS_SHARE = 0.001
"""Classes with a smaller share of the pixels have no gate."""


@dataclass(frozen=True)
class Agreement:
    """How much of what the float32 graph says the reduced one says too."""

    overall: float
    classes: dict[str, float]
    """By class of the float32 graph, of classes with more than CLASS_SHARE of the pixels."""
    pictures: str
    """On which pictures, in words."""

    def passes(self, gate: Gate) -> bool:
        return self.overall >= gate.overall and min(self.classes.values(), default=1) >= gate.per_class

    def words(self) -> str:
        name, share = min(self.classes.items(), key=lambda item: item[1])
        return f"{self.overall:.2%} of labels equal to float32, least by class {share:.2%} ({name})"


def reduce(
    model: onnx.ModelProto,
    strength: Strength | None,
    extras: Extras,
    precision: str,
    frames: Sequence[Image],
    pictures: str,
    calibrate: Sequence[Path] = (),
) -> tuple[onnx.ModelProto, Agreement]:
    """Fold again around the model's network in reduced precision.

    Args:
        model: a deployable graph whose network is float32.
        strength, extras: what it was folded with.
        frames: pictures that the gates are checked on; `pictures` says in words which.
        calibrate: files that integer ranges are measured on.

    Raises:
        InputError: the network is not float32, the precision did not take effect, or a gate failed.
    """
    bare, card = unfold(model), graph_info(model, "the graph").card
    if held := bytes_outside(bare):
        raise InputError(
            f"--precision {precision} is for networks of up to 2 GB, and this one has {held / 1e9:.1f} GB of "
            "weights; give the model in half precision, or leave --precision out."
        )
    found = precision_of(bare)
    if found.name != "fp32":
        raise InputError(
            f"--precision {precision} needs a float32 network, but this one is {found.words()}; "
            "export the run."
        )
    known = lineage(model)
    made_from = () if known is None else tuple(sorted(known.known))
    results, gate = [], PRECISIONS[precision].gate
    assert gate is not None, "float32 is what the others are compared with"
    first = [] if precision == "fp16" else ends(bare)
    narrow = depthwise(bare)
    for islands in [first] + [[*first, *narrow]] * bool(narrow):
        network = to_half(bare, islands) if precision == "fp16" else quantise(bare, card, calibrate, islands)
        reduced = fold(network, card, strength, extras, made_from)
        results.append(agreement(model, reduced, frames, pictures))
        if results[-1].passes(gate):
            _record(reduced, precision_of(reduced), results[-1])
            return reduced, results[-1]
    raise InputError(
        f"--precision {precision} would change too much: {results[-1].words()}, on {pictures}; needed are "
        f"{gate.overall:.1%} and {gate.per_class:.0%} for every class. Export it in a wider precision."
    )


def in_precision(
    model: onnx.ModelProto,
    source: Source,
    strength: Strength | None,
    extras: Extras,
    precision: str | None,
    frames: Sequence[Image],
    pictures: str,
    calibrate: Sequence[Path] = (),
) -> tuple[onnx.ModelProto, Source, str]:
    """The graph in the precision wanted, what to check it against, and its precision in words.

    A reduced network differs from the source's by more than the fold does. Its own gates compare the labels;
    everything around it is then checked against the reduced network itself, as exactly as ever.

    Raises:
        InputError: see `reduce`; or float32 of a network that is not.
    """
    found = precision_of(model)
    if precision is not None and PRECISIONS[precision].gate is not None:
        model, result = reduce(model, strength, extras, precision, frames, pictures, calibrate)
        return (
            model,
            GraphSource(source.path, replace(source.card, size=None), model),
            (f"{precision_of(model).words()}\n  {result.words()}, on {len(frames)} {pictures}"),
        )
    if precision is not None and found.name != precision:
        raise InputError(
            f"--precision {precision} cannot be had from {source.path}, which is {found.words()}."
        )
    _record(model, found, None)
    return model, source, found.words()


def against_float(
    model: onnx.ModelProto, source: Source, frames: Sequence[Image], pictures: str
) -> Agreement | None:
    """How a reduced graph's labels agree with those of the source's float32 network, corrected alike.

    None if either is not what this compares: a float32 graph, or a source that is reduced itself.
    """
    info = graph_info(model, "the graph")
    bare = source.logits_graph
    if precision_of(model).name == "fp32" or precision_of(bare).name != "fp32":
        return None
    strengths = [
        Strength(statistics, own.statistics, own.tau, own.runtime_tau, profile=name)
        for number, (name, own) in enumerate((each.name, each.correction) for each in info.every)
        if (statistics := folded_statistics(model, number)) is not None
    ]
    strength = replace(strengths[0], others=tuple(strengths[1:])) if strengths else None
    return agreement(fold(bare, info.card, strength), model, frames, pictures)


def agreement(
    reference: onnx.ModelProto, model: onnx.ModelProto, frames: Sequence[Image], pictures: str
) -> Agreement:
    """Compare the labels of two deployable graphs of the same card on pictures uint8 [H, W, 3].

    Of several profiles, the agreement is that of the one whose labels agree least.
    """
    info = graph_info(reference, "the graph")
    sessions = [open_session(graph, "the graph") for graph in (reference, model)]
    chosen: list[dict[str, Any]] = [{"profile": np.array(n, np.int32)} for n in range(len(info.profiles))]
    found = [_agreement(sessions, info.card, frames, pictures, profile) for profile in chosen or [{}]]
    return min(found, key=lambda each: (each.overall, min(each.classes.values(), default=1)))


def _agreement(
    sessions: Sequence[Any], card: Card, frames: Sequence[Image], pictures: str, profile: dict[str, Any]
) -> Agreement:
    C = len(card.classes)
    said, kept = np.zeros(C, np.int64), np.zeros(C, np.int64)
    for frame in frames:
        least = (max(side, card.minimum_size) for side in frame.shape[:2])
        image = resize_image(frame, card.size or (next(least), next(least)))[None]
        expected, labels = (session.run(["labels"], {"image": image, **profile})[0] for session in sessions)
        if faults := unlike(labels, image.shape[:3], card):
            raise InputError(f"the graph in reduced precision is broken: {faults[0]}; export it again.")
        said += np.bincount(expected.ravel(), minlength=C)
        kept += np.bincount(expected[expected == labels], minlength=C)
    counted = {
        name: float(k / s)
        for name, k, s in zip(card.classes, kept, said, strict=True)
        if s > CLASS_SHARE * said.sum()
    }
    return Agreement(float(kept.sum() / said.sum()), counted, pictures)


def _record(model: onnx.ModelProto, precision: Precision, result: Agreement | None) -> None:
    """Store both in a graph's metadata, in place."""
    record = {"name": precision.name, **asdict(precision), "agreement": result and asdict(result)}
    for entry in [p for p in model.metadata_props if p.key == Key.PRECISION]:
        model.metadata_props.remove(entry)
    model.metadata_props.add(key=Key.PRECISION, value=json.dumps(record))
