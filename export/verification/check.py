"""What `export verify` does: a graph or an engine against its network, and ground truth where it is known."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from adapt.errors import InputError
from export.deploy.engine_files import naming_alone, sidecar_of
from export.fold.fingerprint import fingerprint
from export.fold.folded import graph_info, lineage, record_verification, unfold
from export.precision.conversion import precision_of
from export.precision.gates import against_float
from export.precision.kinds import PRECISIONS
from export.sources.pictures import pictures_for
from export.sources.source import Source, open_source, read_model
from export.verification.parity import Candidate, compare, engine_candidate, verify
from export.verification.result import Verification
from export.weights.beside import save
from serve.card import LOG_ODDS, GraphInfo, to_metadata
from serve.inference.engine import Sidecar, open_engine, read_sidecar
from serve.media.whole import replacing


@dataclass(frozen=True)
class Check:
    """The outcome."""

    verification: Verification
    reduced: str = ""
    """Of a network in reduced precision: how its labels agree with float32, in words."""
    gates_passed: bool = True
    """Whether those agree enough."""
    note: str = ""
    """What could not be checked, in words."""

    @property
    def passed(self) -> bool:
        return self.verification.passed and self.gates_passed

    def to_dict(self) -> dict[str, object]:
        """What `--json` writes: the record that the file keeps, and the rest of the verdict."""
        record = self.verification.record()
        failures = self.verification.failures()
        rest = {"reduced": self.reduced, "gates_passed": self.gates_passed, "note": self.note.strip()}
        return {**record, **rest, "failures": failures, "passed": self.passed}

    def report(self) -> str:
        """For a person."""
        return "\n".join(filter(None, [self.reduced, self.verification.report(), self.note]))


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
    _check_scores(graph_info(model, str(file)), file)
    reference = open_source(against or file)
    reference.check_same_classes(model, file)
    card = graph_info(model, str(file)).card
    faults, note = reference.unlike(card), ""
    if against is None:
        faults, note = _altered(model)
    frames, words, truths = pictures_for(card, reference, data, labels=True)
    agreement = against_float(model, reference, frames, words)
    reduced, passed = "", True
    if agreement is not None:  # the network has gates of its own; around it all must be as exact as ever
        precision = precision_of(model)
        reduced = f"{precision.words()}\n  {agreement.words()}, on {len(frames)} {words}"
        gate = PRECISIONS[precision.name].gate
        passed = gate is not None and agreement.passes(gate)
        reference = open_source(file)
    logits, compared = reference.reference(), reference.words
    result = verify(model, str(file), logits, compared, frames, words, truths, faults)
    record_verification(model, result.record(), str(file))
    with replacing(file) as temporary:
        save(model, temporary)
    return Check(result, reduced, passed, note)


def _check_scores(info: GraphInfo, file: Path) -> None:
    if info.correction is not None and info.scores != LOG_ODDS:
        raise InputError(
            f"{file} was made when scores were {info.scores}, while now they are checked as {LOG_ODDS}; it "
            "runs as it did, and `blda export onnx` makes a new one, of its run or of the ONNX file itself."
        )


def _altered(model: onnx.ModelProto) -> tuple[list[str], str]:
    """Why the network inside is no reference: it is not the one that was exported. And what can't be told."""
    recorded = lineage(model)
    if recorded is None:
        return [], "  an older version wrote it: whether its network was altered since can't be told"
    own = fingerprint(unfold(model))
    if own != recorded.sha256:
        return [
            f"the network inside is not the one that was exported (fingerprint {own[:12]}, not "
            f"{recorded.sha256[:12]}); compare it with its run by --against"
        ], ""
    profiles = range(len(graph_info(model, "the graph").profiles) or 1)
    of = [each.statistics_of for each in (lineage(model, n) for n in profiles) if each is not None]
    if not {*of} <= {None, *recorded.known}:
        return ["its statistics are of another network; export it again with those of this one"], ""
    return [], ""


def _check_engine(file: Path, against: Path | None, data: Path | None) -> Check:
    if against is None:
        raise InputError(f"{file} can't say what it should compute; give the graph or run with --against.")
    sidecar, source = read_sidecar(file), open_source(against)
    _check_scores(sidecar.info, file)
    if faults := source.unlike(sidecar.info.card):
        raise InputError(f"{file} was not built from {against}: {'; '.join(faults)}; give what it was.")
    candidates = _engine_candidates(file, sidecar, source)
    size = sidecar.info.card.size or (sidecar.best[1], sidecar.best[2])  # of colour fields, if they must do
    frames, words, truths = pictures_for(replace(sidecar.info.card, size=size), source, data, labels=True)
    result = compare(candidates, source.reference(), source.words, frames, words, truths)
    _store_beside(file, sidecar, result)
    return Check(result)


def _engine_candidates(file: Path, sidecar: Sidecar, source: Source) -> list[Candidate]:
    """An engine under each of its profiles, with what the graph that it was built from holds of them."""
    engine, names = open_engine(file), [each.name for each in sidecar.info.profiles]
    held = source.profiles()
    if names != list(held):
        theirs = ", ".join(held) or "none"
        raise InputError(
            f"{file} has the profiles {', '.join(names) or 'none'}, but {source.path} has {theirs}; give the "
            "graph that it was built from."
        )
    if held:
        return [
            engine_candidate(engine, each.statistics, source.grid_of(n), n)
            for n, each in enumerate(held.values())
        ]
    try:
        statistics = source.statistics().statistics if sidecar.info.correction is not None else None
    except InputError:  # an uncorrected graph
        statistics = None
    return [engine_candidate(engine, statistics, source.grid_of())]


def _store_beside(file: Path, sidecar: Sidecar, result: Verification) -> None:
    side = sidecar_of(file)
    with naming_alone(side.parent):
        fields = json.loads(side.read_text())
        if fields["metadata"] != sidecar.metadata:
            raise InputError(f"{file} was built again while it was checked; check it once more.")
        fields["metadata"] |= to_metadata(replace(sidecar.info, verification=result.record()))
        with replacing(side) as temporary:
            temporary.write_text(json.dumps(fields, indent=2) + "\n")
