"""What a deployable graph is made from and checked against: a run, or a graph that was folded before."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from adapt.errors import InputError
from adapt.run.cards import DEFAULT_TAU
from adapt.run.run import Run, load_run
from export.fold.fingerprint import fingerprint
from export.fold.fold import Strength
from export.fold.folded import (
    Lineage,
    folded_statistics,
    gather_rule,
    graph_info,
    lineage,
    table_grid,
    unfold,
)
from export.fold.tables import Grid
from export.sources.differences import differences
from export.sources.given import Given
from export.sources.network import card_of, logits_graph
from export.sources.reference import Reference, bare_reference, run_reference
from export.weights.beside import read
from serve.card import Card
from serve.media.checkpoints import describe_checkpoint


@dataclass(frozen=True)
class Source(ABC):
    """A network, how it takes pictures, and what it can be corrected with and compared with."""

    path: Path
    card: Card
    """With no fixed size, unless the network itself takes one only."""

    @property
    @abstractmethod
    def logits_graph(self) -> onnx.ModelProto:
        """The network alone."""

    @abstractmethod
    def reference(self) -> Reference:
        """The slow way to the same logits."""

    @abstractmethod
    def statistics(self) -> Given:
        """The statistics that it brings. Raises InputError if it has none."""

    def profiles(self) -> dict[str, Given]:
        """Of a file that holds several corrections, all of them by name; else none."""
        return {}

    @property
    def chosen_tau(self) -> float | None:
        """The strength that it has because somebody chose it, or that it corrects with; None is neither."""
        return None

    @property
    @abstractmethod
    def words(self) -> str:
        """What a check against it compares with; the words go into files, so no path of this machine."""

    def pictures(self) -> Sequence[Path]:
        """Pictures of the target that it keeps."""
        return ()

    def grid_of(self, profile: int = 0) -> Grid | None:
        """Bins of the table inside, if there is one."""
        return None

    @property
    def tau(self) -> float:
        """The strength to fold where none is given."""
        return self.default_tau

    @property
    def default_tau(self) -> float:
        """That of any correction of this network, if nobody chose one and nothing speaks against it."""
        return DEFAULT_TAU

    @property
    def doubt(self) -> str:
        """Why that is no correction at all, in words; empty where it is not so, or somebody chose it."""
        return ""

    @property
    def evened(self) -> bool:
        """Whether its training took the shares of the classes off."""
        return False

    @property
    def batch(self) -> int | None:
        """How many pictures the network takes at once; None is any number."""
        return None

    def deployed_size(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """The picture size to fold for the one wanted. Raises InputError if the network takes another."""
        return size

    def made_from(self, own: str) -> tuple[str, ...]:
        """Fingerprints of the graphs that the network, whose own is given, was made from."""
        return ()

    @cached_property
    def network(self) -> Lineage:
        """Which network it is."""
        own = fingerprint(self.logits_graph)
        return Lineage(own, self.made_from(own))

    def strength(
        self,
        given: Given,
        tau: float,
        runtime: bool,
        error_bound: float | None = None,
        other_model: bool = False,
    ) -> Strength:
        """The correction to fold.

        Args:
            other_model: take the statistics though they are of another graph: the person says that it is the
                same network.

        Raises:
            InputError: the statistics are of another network.
        """
        if given.of is not None and not other_model and given.of not in self.network.known:
            raise InputError(
                f"the statistics ({given.words}) were not gathered with the network of {self.path}, so they "
                "would correct what it never says; gather them again with `blda export calibrate`, or give "
                "--other-model if it is the same network, exported again."
            )
        return Strength(given.statistics, given.words, tau, runtime, error_bound, given.of, self.evened)

    def unlike(self, card: Card) -> list[str]:
        """In what a graph's card differs from this source's, apart from its size, in words."""
        return differences(card, self.card, self.path.name)

    def check_same_classes(self, model: onnx.ModelProto, file: Path) -> None:
        """Raises InputError if a graph's classes are not those of this source, in whatever order."""
        theirs = graph_info(model, str(file)).card.classes
        if sorted(theirs) != sorted(self.card.classes):
            raise InputError(
                f"{file} has the classes {', '.join(theirs)}, but {self.path} has "
                f"{', '.join(self.card.classes)}; compare a file with the run it was exported from."
            )


@dataclass(frozen=True)
class RunSource(Source):
    """A run folder."""

    run: Run

    @property
    def words(self) -> str:
        return f"the network of {self.path.resolve().name}, in torch"

    @cached_property
    def logits_graph(self) -> onnx.ModelProto:
        return logits_graph(self.run.segmenter())

    def reference(self) -> Reference:
        return run_reference(self.run)

    def statistics(self) -> Given:  # they lie in one file with the weights, and are written together
        doubted = f"; {self.run.doubt}" if self.run.doubt else ""
        return Given(self.run.shift_statistics(), f"run {self.path.name}{doubted}", self.network.sha256)

    def pictures(self) -> Sequence[Path]:
        return self.run.frames

    @property
    def tau(self) -> float:
        return self.run.tau

    @property
    def default_tau(self) -> float:
        return self.run.default_tau

    @property
    def doubt(self) -> str:
        return self.run.doubt

    @property
    def evened(self) -> bool:
        return self.run.config.evened

    @property
    def chosen_tau(self) -> float | None:
        return self.run.card.tau


@dataclass(frozen=True)
class GraphSource(Source):
    """A graph that was folded here."""

    model: onnx.ModelProto

    @property
    def words(self) -> str:
        return f"the bare network in {self.path.name}, corrected in torch"

    @cached_property
    def logits_graph(self) -> onnx.ModelProto:
        return unfold(self.model)

    def reference(self) -> Reference:
        return bare_reference(self.model, str(self.path))

    def statistics(self) -> Given:
        return self._given(0)

    def profiles(self) -> dict[str, Given]:
        named = graph_info(self.model, str(self.path)).profiles
        return {
            each.name: self._given(n)._replace(profile=each.name, tau=each.correction.tau)
            for n, each in enumerate(named)
        }

    def _given(self, number: int) -> Given:
        statistics = folded_statistics(self.model, number)
        correction = graph_info(self.model, str(self.path)).under(number).correction
        if statistics is None or correction is None:
            raise InputError(
                f"{self.path} was exported without a correction, so it holds no statistics to fold; "
                "export the run again with --with-correction."
            )
        known = lineage(self.model, number)
        if known is not None:
            rule = gather_rule(self.model, number)
            counted = (None, None) if rule is None else (rule.offset, rule.pixels)
            return Given(statistics, correction.statistics, known.statistics_of, "", *counted)
        note = f"an older version wrote {self.path.name}: whose its statistics are can't be told"
        return Given(statistics, correction.statistics, None, note)

    def grid_of(self, profile: int = 0) -> Grid | None:
        return table_grid(self.model, profile)

    @property
    def tau(self) -> float:
        correction = graph_info(self.model, str(self.path)).correction
        return self.default_tau if correction is None else correction.tau

    @property
    def chosen_tau(self) -> float | None:
        correction = graph_info(self.model, str(self.path)).correction
        return None if correction is None or correction.tau == 0 else correction.tau

    @property
    def evened(self) -> bool:
        recorded = lineage(self.model)
        return recorded is not None and recorded.evened

    def made_from(self, own: str) -> tuple[str, ...]:
        recorded = lineage(self.model)
        return () if recorded is None or recorded.sha256 != own else recorded.made_from


def open_source(path: Path) -> RunSource | GraphSource:
    """Open a run folder or a graph file. Raises InputError if it is neither."""
    if path.is_dir():
        run = load_run(path)
        return RunSource(path, card_of(run), run)
    model = read_model(path)
    return GraphSource(path, replace(graph_info(model, str(path)).card, size=None), model)


def read_model(path: Path) -> onnx.ModelProto:
    """Read a graph of ours. Raises InputError if it is missing, not ONNX, not ours or altered."""
    if not path.is_file():
        raise InputError(
            f"{path} does not exist; give a run folder or an ONNX file made by `blda export onnx`."
        )
    if (checkpoint := describe_checkpoint(path)) is not None:
        raise InputError(checkpoint)
    try:
        model = read(path)
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
