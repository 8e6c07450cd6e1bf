"""What `export verify` does: a graph or an engine against its network, and ground truth where it is known."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from adapt.domains import open_labelled
from adapt.errors import InputError
from adapt.labels import IGNORE, ClassList
from adapt.temporary import replacing
from export.build import Source, open_source, pictures_for, read_model
from export.fold import folded_statistics, graph_info, record_verification
from export.precision import precision_of
from export.reduced import GATES, against_float
from export.tensorrt import sidecar_of
from export.verification import Labels, Verification
from export.verify import Image, compare, engine_candidate, verify
from serve.card import Card, to_metadata
from serve.engine import Sidecar, open_engine, read_sidecar

MAX_LABELLED = 32
"""Pictures with ground truth that are looked at."""


@dataclass(frozen=True)
class Check:
    """The outcome."""

    verification: Verification
    reduced: str = ""
    """Of a network in reduced precision: how its labels agree with float32, in words."""
    gates_passed: bool = True
    """Whether those agree enough."""

    @property
    def passed(self) -> bool:
        return self.verification.passed and self.gates_passed

    def report(self) -> str:
        """For a person."""
        return "\n".join(filter(None, [self.reduced, self.verification.report()]))


def check_file(file: Path, against: Path | None, data: Path | None) -> Check:
    """Check a graph or an engine, and store the result: in the graph, or in the engine's sidecar.

    Args:
        against: run folder or graph to compare with; None takes the network inside the graph.
        data: folder of pictures, labelled or not; None takes the run's, or colour fields.

    Raises:
        InputError: files that can't be read, or that don't belong together.
    """
    if file.suffix == ".engine":
        return _check_engine(file, against, data)
    model = read_model(file)
    reference = open_source(against or file)
    reference.check_same_classes(model, file)
    frames, words, truths = _pictures(graph_info(model, str(file)).card, reference, data)
    agreement = against_float(model, reference, frames, words)
    reduced, passed = "", True
    if agreement is not None:  # the network has gates of its own; around it all must be as exact as ever
        precision = precision_of(model)
        reduced = f"{precision.words()}\n  {agreement.words()}, on {len(frames)} {words}"
        passed = agreement.passes(GATES[precision.name])
        reference = open_source(file)
    result = verify(model, str(file), reference.reference(), reference.words, frames, words, truths)
    record_verification(model, result.record(), str(file))
    with replacing(file) as temporary:
        onnx.save(model, temporary)
    return Check(result, reduced, passed)


def _check_engine(file: Path, against: Path | None, data: Path | None) -> Check:
    if against is None:
        raise InputError(f"{file} can't say what it should compute; give the graph or run with --against.")
    sidecar, source = read_sidecar(file), open_source(against)
    if source.card.classes != sidecar.info.card.classes:
        raise InputError(f"{file} and {against} have different classes; give what it was built from.")
    statistics = None if source.model is None else folded_statistics(source.model)
    if source.run is not None and sidecar.info.correction is not None:
        statistics = source.run.shift_statistics()
    candidate = engine_candidate(open_engine(file), statistics)
    size = sidecar.info.card.size or (sidecar.best[1], sidecar.best[2])  # of colour fields, if they must do
    frames, words, truths = _pictures(replace(sidecar.info.card, size=size), source, data)
    result = compare(candidate, source.reference(), source.words, frames, words, truths)
    _store_beside(file, sidecar, result)
    return Check(result)


def _store_beside(file: Path, sidecar: Sidecar, result: Verification) -> None:
    side = sidecar_of(file)
    fields = json.loads(side.read_text())
    fields["metadata"] |= to_metadata(replace(sidecar.info, verification=result.record()))
    with replacing(side) as temporary:
        temporary.write_text(json.dumps(fields, indent=2) + "\n")


def _pictures(card: Card, source: Source, data: Path | None) -> tuple[list[Image], str, Sequence[Labels]]:
    if data is not None and (data / "labels").is_dir():
        return _labelled(card, data)
    return *pictures_for(card, source, data), ()


def _labelled(card: Card, data: Path) -> tuple[list[Image], str, Sequence[Labels]]:
    classes = ClassList(card.classes, tuple(range(len(card.classes))), card.palette, ignore=(IGNORE,))
    folder = open_labelled(data, classes, None)
    chosen = np.unique(np.linspace(0, len(folder) - 1, MAX_LABELLED).astype(int))
    samples = [folder[int(position)] for position in chosen]
    words = f"labelled pictures of {data.resolve().name}"
    return [sample.image for sample in samples], words, [sample.labels for sample in samples]
