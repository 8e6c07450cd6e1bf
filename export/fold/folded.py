"""What a deployable graph says of itself in its metadata, and the logits graph inside it.

Keys beside those of serve/card.py, which `export` alone reads:

    blda.logits_graph   JSON {input, output}: the ends of the network inside
    blda.statistics     the statistics that are folded in, safetensors in base64
    blda.table          JSON, `export.fold.tables.Grid`: the bins that logits are looked up in
    blda.network        JSON, `Lineage`: which network it is, and which one the statistics are of

Of several corrections (profiles), the n-th has its own under KEY.n, see `serve.card.of_profile`.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import onnx
from safetensors import SafetensorError
from safetensors.torch import load, save

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.errors import InputError
from adapt.run.stored import stored_statistics
from export.fold.nodes import PREFIX, rename_values
from export.fold.tables import BOUND_TAU, Grid
from serve.card import PREFIX as KEYS
from serve.card import Correction, GraphInfo, Key, from_metadata, key_of, of_profile, to_metadata
from serve.gathering.rule import Rule, rule_of, rule_text

INPUTS = ("image", "tau", "profile")
OUTPUTS = ("labels", "scores", "uncorrected_labels", "logits")
MOVED = "blda_original/"
"""Begins the new name of a value of the network that had one of these names."""


@dataclass(frozen=True)
class Lineage:
    """Which network is inside, by `export.fold.fingerprint.fingerprint`."""

    sha256: str
    """Of the logits graph, as it was folded."""
    made_from: tuple[str, ...] = ()
    """Of the graphs that it was made from here: before its layout was adapted, or its precision reduced."""
    statistics_of: str | None = None
    """Of the graph that the statistics were gathered with; None if there are none, or it is not known."""
    evened: bool = False
    """Whether its training took the shares of the classes off: nobody corrects it without choosing so."""

    @property
    def known(self) -> frozenset[str]:
        """All that are this network, as far as statistics are concerned."""
        return frozenset((self.sha256, *self.made_from))


def unfold(model: onnx.ModelProto) -> onnx.ModelProto:
    """The logits graph inside a folded graph, to the byte; a copy of any other graph."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    known = metadata_of(model)
    ends = known.get(Key.ENDS)
    if ends is None:
        return bare
    graph = bare.graph
    defaults = {"tau", "profile"} if Key.PROFILES in known else {"tau"}
    try:
        names = [json.loads(ends)[end] for end in ("input", "output")]
        bare_input, bare_output = (next(v for v in graph.value_info if v.name == name) for name in names)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(
            "the graph claims to hold a folded correction but was altered; export it again."
        ) from error
    for field, keep in (
        (graph.node, [n for n in graph.node if not n.name.startswith(PREFIX)]),
        (
            graph.initializer,
            [t for t in graph.initializer if not t.name.startswith(PREFIX) and t.name not in defaults],
        ),
        (graph.value_info, [v for v in graph.value_info if v.name not in names]),
        (graph.input, [bare_input]),
        (graph.output, [bare_output]),
        (bare.metadata_props, [p for p in bare.metadata_props if not p.key.startswith(KEYS)]),
    ):
        kept = [type(item).FromString(item.SerializeToString()) for item in keep]
        del field[:]
        field.extend(kept)
    moved = {f"{MOVED}{name}": name for name in (*INPUTS, *OUTPUTS)}
    rename_values(graph, moved)
    return bare


def graph_info(model: onnx.ModelProto, source: str) -> GraphInfo:
    """The card of a folded graph read from the file named `source`. Raises InputError if it has none."""
    return from_metadata(metadata_of(model), source)


def folded_statistics(model: onnx.ModelProto, profile: int = 0) -> ShiftStatistics | None:
    """The statistics that travel inside a folded graph, of a profile; None if it is uncorrected.

    Raises:
        InputError: they were altered.
    """
    text = metadata_of(model, profile).get(Key.STATISTICS)
    if text is None:
        return None
    try:
        classes = len(graph_info(model, "the graph").card.classes)
        return stored_statistics(load(base64.b64decode(text, validate=True)), classes)
    except (ValueError, SafetensorError) as error:
        raise InputError(
            f"the statistics inside the graph were altered ({error}); export it again."
        ) from error


def table_grid(model: onnx.ModelProto, profile: int = 0) -> Grid | None:
    """The bins of the table that is folded in; None without one, or of a file that does not say."""
    grid: Grid | None = _record(model, Key.TABLE, Grid, profile)
    return grid


def gather_rule(model: onnx.ModelProto, profile: int = 0) -> Rule | None:
    """How logits of the graph are counted in the field; None of one without that output.

    Raises:
        InputError: it was altered.
    """
    text = metadata_of(model, profile).get(Key.GATHER)
    if text is None:
        return None
    try:
        return rule_of(text, len(graph_info(model, "the graph").card.classes))
    except ValueError as error:
        raise InputError(f"{Key.GATHER} inside the graph was altered ({error}); export it again.") from error


def lineage(model: onnx.ModelProto, profile: int = 0) -> Lineage | None:
    """Which network is inside; None of a file that does not say, as those of older versions."""
    network: Lineage | None = _record(model, Key.NETWORK, Lineage, profile)
    return network


@dataclass(frozen=True)
class Own:
    """What is stored of one correction."""

    network: Lineage
    statistics: ShiftStatistics | None = None
    curves: str | None = None
    """See export/fold/drawn.py."""
    grid: Grid | None = None
    gather: Rule | None = None


def write_metadata(
    model: onnx.ModelProto, info: GraphInfo, ends: tuple[str, str], own: Sequence[Own]
) -> None:
    """Write all of it into a graph that has none yet; `ends` are the network's input and output.

    `own` has one item for every profile, or one alone.
    """
    entries = to_metadata(info) | {Key.ENDS: json.dumps({"input": ends[0], "output": ends[1]})}
    for number, each in enumerate(own):
        entries[key_of(Key.NETWORK, number)] = json.dumps(asdict(each.network))
        if each.statistics is not None:
            text = base64.b64encode(save(each.statistics.state())).decode()
            entries[key_of(Key.STATISTICS, number)] = text
        if each.curves is not None:
            entries[key_of(Key.CURVES, number)] = each.curves
        if each.gather is not None:
            entries[key_of(Key.GATHER, number)] = rule_text(each.gather)
        if each.grid is not None:
            entries[key_of(Key.TABLE, number)] = json.dumps(asdict(each.grid))
    _put(model, entries)


def error_bound_at(correction: Correction, tau: float) -> float:
    """Proven bound on |score error| in logits at a strength: of a run-time tau, it grows in proportion."""
    return correction.error_bound * (max(1.0, tau / BOUND_TAU) if correction.runtime_tau else 1.0)


def record_verification(model: onnx.ModelProto, verification: dict[str, object], source: str) -> None:
    """Store what `export verify` measured in the graph's metadata, in place."""
    _put(model, to_metadata(replace(graph_info(model, source), verification=verification)))


def metadata_of(model: onnx.ModelProto, profile: int = 0) -> dict[str, str]:
    """All keys and values, as if a profile were the only one."""
    return of_profile({p.key: p.value for p in model.metadata_props}, profile)


def _put(model: onnx.ModelProto, entries: Mapping[str, str]) -> None:
    for entry in [p for p in model.metadata_props if p.key in entries]:
        model.metadata_props.remove(entry)
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)


def _record(model: onnx.ModelProto, key: str, kind: Any, profile: int = 0) -> Any:
    text = metadata_of(model, profile).get(key)
    if text is None:
        return None
    try:
        fields = json.loads(text)
        return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{key} inside the graph was altered ({error}); export it again.") from error
