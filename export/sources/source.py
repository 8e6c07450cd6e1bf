"""What a deployable graph is made from and checked against: a run, or a graph that was folded before."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.data.classes import IGNORE
from adapt.errors import InputError
from adapt.run.run import Run, load_run
from export.fold.fingerprint import fingerprint
from export.fold.fold import Strength
from export.fold.folded import Lineage, folded_statistics, graph_info, lineage, unfold
from export.sources.network import logits_graph
from export.sources.reference import Reference, bare_reference, run_reference
from serve.card import Card


@dataclass(frozen=True)
class Source:
    """What a graph can be made from, and checked against: a run, or a graph that was folded before."""

    path: Path
    card: Card
    """With no fixed size."""
    run: Run | None
    model: onnx.ModelProto | None
    """The folded graph, if this is no run."""
    other_model: bool = False
    """Take its statistics though they are of another graph: the person says that it is the same network."""

    @property
    def note(self) -> str:
        """What could not be checked of its statistics, in words."""
        recorded = None if self.model is None else lineage(self.model)
        if self.model is None or recorded is not None or folded_statistics(self.model) is None:
            return ""
        return f"an older version wrote {self.path.name}: whose its statistics are can't be told"

    @property
    def words(self) -> str:
        """What a check against it compares with; the words go into files, so no path of this machine."""
        if self.run is not None:
            return f"the network of {self.path.resolve().name}, in torch"
        return f"the bare network in {self.path.name}, corrected in torch"

    def strength(self, tau: float, runtime: bool, error_bound: float) -> Strength:
        """The correction to fold.

        Raises:
            InputError: the source has no statistics, or they are of another network.
        """
        statistics, words, of = self._statistics()
        if of is not None and of not in self.network.known:
            raise InputError(
                f"the statistics ({words}) were not gathered with the network of {self.path}, so they would "
                "correct what it never says; gather them again with `blda export calibrate`, or give "
                "--other-model if it is the same network, exported again."
            )
        return Strength(statistics, words, tau, runtime, error_bound, of)

    def _statistics(self) -> tuple[ShiftStatistics, str, str | None]:
        """The statistics, where they come from in words, and the fingerprint of the graph they are of."""
        if self.run is not None:  # they lie in one file with the weights, and are written together
            return self.run.shift_statistics(), f"run {self.path.name}", self.network.sha256
        assert self.model is not None
        statistics = folded_statistics(self.model)
        correction = graph_info(self.model, str(self.path)).correction
        if statistics is None or correction is None:
            raise InputError(
                f"{self.path} was exported without a correction, so it holds no statistics to fold; "
                "export the run again with --with-correction."
            )
        known = lineage(self.model)
        return statistics, correction.statistics, None if known is None else known.statistics_of

    @cached_property
    def network(self) -> Lineage:
        """Which network it is; with `other_model`, the one that its statistics are of counts as the same."""
        own = fingerprint(self.logits_graph)
        return Lineage(own, (*self._made_from(own), *self._vouched_for()))

    def _made_from(self, own: str) -> tuple[str, ...]:
        recorded = None if self.model is None else lineage(self.model)
        return () if recorded is None or recorded.sha256 != own else recorded.made_from

    def _vouched_for(self) -> tuple[str, ...]:
        recorded = None if self.model is None else lineage(self.model)
        of = None if recorded is None else recorded.statistics_of
        return (of,) if self.other_model and of is not None else ()

    @cached_property
    def logits_graph(self) -> onnx.ModelProto:
        """The network alone."""
        if self.run is not None:
            return logits_graph(self.run.segmenter())
        assert self.model is not None
        return unfold(self.model)

    def reference(self) -> Reference:
        """The slow way to the same logits."""
        if self.run is not None:
            return run_reference(self.run)
        assert self.model is not None
        return bare_reference(self.model, str(self.path))

    def unlike(self, card: Card) -> list[str]:
        """In what a graph's card differs from this source's, apart from its size, in words."""
        names = [f.name for f in fields(Card) if f.name not in ("size", "model", "license_note")]
        values = [(name, getattr(card, name), getattr(self.card, name)) for name in names]
        return [
            f"its card says {name} {_shown(theirs)}, {self.path.name} has {_shown(ours)}"
            for name, theirs, ours in values
            if theirs != ours
        ]

    def check_same_classes(self, model: onnx.ModelProto, file: Path) -> None:
        """Raises InputError if a graph's classes are not those of this source, in whatever order."""
        theirs = graph_info(model, str(file)).card.classes
        if sorted(theirs) != sorted(self.card.classes):
            raise InputError(
                f"{file} has the classes {', '.join(theirs)}, but {self.path} has "
                f"{', '.join(self.card.classes)}; compare a file with the run it was exported from."
            )


def open_source(path: Path, other_model: bool = False) -> Source:
    """Open a run folder or a graph file. Raises InputError if it is neither."""
    if path.is_dir():
        run = load_run(path)
        return Source(path, _card_of(run), run, None, other_model)
    model = read_model(path)
    card = graph_info(model, str(path)).card
    return Source(path, replace(card, size=None), None, model, other_model)


def read_model(path: Path) -> onnx.ModelProto:
    """Read a graph of ours. Raises InputError if it is missing, not ONNX, not ours or altered."""
    if not path.is_file():
        raise InputError(
            f"{path} does not exist; give a run folder or an ONNX file made by `blda export onnx`."
        )
    try:
        model: onnx.ModelProto = onnx.load(path)
    except (DecodeError, ValueError) as error:
        raise InputError(f"{path} is not an ONNX file, or it was cut off; export it again.") from error
    graph_info(model, str(path))
    ends = ({v.name for v in values} for values in (model.graph.input, model.graph.output))
    if not all(name in names for name, names in zip(("image", "labels"), ends, strict=True)):
        raise InputError(
            f"{path} has blda metadata but not the input `image` and the output `labels`; it was altered "
            "after the export, so export it again."
        )
    return model


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _card_of(run: Run) -> Card:
    segmenter = run.segmenter()
    recipe = run.card.model
    encoder = recipe.encoder.get("model_type") or recipe.encoder["file"]
    return Card(
        classes=run.classes.names,
        palette=run.classes.palette,
        ignore_index=IGNORE,
        mean=segmenter.mean,
        std=segmenter.std,
        stride=segmenter.stride,
        output_stride=segmenter.output_stride,
        model=f"{encoder} encoder, {recipe.decoder} decoder",
        license_note=run.card.license_note,
    )
