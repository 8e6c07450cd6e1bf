"""Logits graph -> deployable graph, on the ONNX graph alone; `export.fold.folded.unfold` goes back.

    image uint8 [N,H,W,3] -> normalise, pad -> logits f [N,C,h,w]
                                            -> scores [N,C,h,w] -> upsample, argmax, crop -> labels [N,H,W]

What stands between logits and scores, and its algebra, is in export/fold/correct.py. The correction is not
linear: it stands before the one upsampling, at the decoder's stride.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import onnx
from onnx import TensorProto, helper

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.errors import InputError
from adapt.run.cards import DEFAULT_TAU
from export.fold.correct import corrected_scores
from export.fold.drawn import drawn
from export.fold.ends import add_labels, add_preprocessing, label_type
from export.fold.fingerprint import fingerprint
from export.fold.folded import INPUTS, MOVED, OUTPUTS, Lineage, Own, unfold, write_metadata
from export.fold.nodes import Builder, rename_values
from export.fold.rows import PROFILE, Tabled, centred_table
from export.fold.tables import BOUND_TAU, MAX_TAU, LookupTable, lookup_table
from serve.card import MOST_PROFILES, Card, Correction, GraphInfo, Profile
from serve.gathering.rule import Rule

OPSET = 18


@dataclass(frozen=True)
class Strength:
    """How strongly to correct, from which statistics, and how exactly."""

    statistics: ShiftStatistics
    source: str
    """Where the statistics come from, in words."""
    tau: float = DEFAULT_TAU
    runtime: bool = False
    """Give the graph the optional input `tau`, whose default is `tau`."""
    error_bound: float | None = None
    """Proven |score error| in logits that the table is made for, as far as its memory allows; of a run-time
    tau, at tau = 0.2. None is 0.02, in proportion for logits of another size than usual."""
    of: str | None = None
    """Fingerprint of the graph that the statistics were gathered with, if it is known."""
    evened: bool = False
    """Whether the network's training took the shares of the classes off."""
    gather: Rule | None = None
    """How logits are counted in the field under this correction; see `Extras.gather`."""
    profile: str = ""
    """Its name among several corrections of one graph."""
    others: tuple["Strength", ...] = ()
    """Further corrections, with a run-time tau like this one or without; this one is a run's default."""

    @property
    def profiles(self) -> tuple["Strength", ...]:
        """All corrections, this one first."""
        return (self, *self.others)

    @cached_property
    def table(self) -> LookupTable:
        """Made once, however often it is folded: a network in another precision has the same."""
        return lookup_table(self.statistics, BOUND_TAU if self.runtime else self.tau, self.error_bound)

    @property
    def corrects(self) -> bool:
        """Whether it ever does: a fixed strength of 0 does not, and has no table."""
        return self.runtime or self.tau != 0

    @property
    def excluded(self) -> tuple[int, ...]:
        """Classes that take no part."""
        mask = self.statistics.excluded
        return () if mask is None else tuple(mask.nonzero().flatten().tolist())

    @cached_property
    def drawn(self) -> str:
        """Curves and bias to be drawn, made once as well."""
        return drawn(self.statistics)


@dataclass(frozen=True)
class Extras:
    """Outputs beside `labels`."""

    scores: bool = False
    uncorrected_labels: bool = False
    gather: Rule | None = None
    """The network's own logits, and how they are to be counted in the field; None is without. A correction
    that has a rule of its own takes that instead."""


def fold(
    logits_graph: onnx.ModelProto,
    card: Card,
    strength: Strength | None,
    extras: Extras | None = None,
    made_from: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """Put preprocessing in front of a logits graph, and correction, upsampling and argmax behind it.

    Args:
        logits_graph: one float input [N, 3, H, W] of normalised pixels, one float output [N, C, H/os, W/os];
            opset 18 or newer. A graph that was folded before is unfolded first.
        card: what the graph takes and means; its size fixes the input's size.
        strength: None leaves the logits uncorrected.
        made_from: fingerprints of the graphs that the logits graph was made from, if it was.

    Raises:
        InputError: not such a graph, statistics of other classes, or profiles that can't be in one graph.
    """
    model = unfold(logits_graph)
    pixels, logits = _ends(model)
    folded = () if strength is None else strength.profiles
    _check(model, logits, card, folded)
    network = Lineage(fingerprint(model), made_from)
    extras = extras or Extras()
    model, pixels, logits = _make_way(model, pixels, logits, extras)
    info = GraphInfo(card)

    b = Builder()
    add_preprocessing(b, card, pixels)
    front = len(b.nodes)
    scores = logits
    runtime = strength is not None and strength.runtime
    tables = [each.table if each.corrects else None for each in folded]
    if some := [table for table in tables if table]:  # the first stands for those without
        used = [
            centred_table(table or some[0], MAX_TAU if runtime else each.tau)
            for table, each in zip(tables, folded, strict=True)
        ]
        tabled = [Tabled(table, each.tau) for (table, _), each in zip(used, folded, strict=True)]
        wide = any(beyond for _, beyond in used)
        scores = corrected_scores(b, logits, tabled, runtime, wide, folded[0].excluded)
    described = [_describe(card, each, table) for each, table in zip(folded, tables, strict=True)]
    info = replace(info, correction=next(iter(described), None))
    if len(folded) > 1:
        named = (Profile(each.profile, said) for each, said in zip(folded, described, strict=True))
        info = replace(info, profiles=tuple(named))
    add_labels(b, card, scores, "labels")
    if extras.uncorrected_labels:
        add_labels(b, card, logits, "uncorrected_labels")
    if extras.scores:
        b.op("Identity", [scores], "scores", output="scores")
    if extras.gather is not None:
        b.op("Identity", [logits], "logits", output="logits")

    graph = model.graph
    sizes = _size_names(graph)
    nodes = [*b.nodes[:front], *graph.node, *b.nodes[front:]]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(b.initializers)
    if runtime:
        graph.initializer.append(helper.make_tensor("tau", TensorProto.FLOAT, [], [folded[0].tau]))
    if len(folded) > 1:
        graph.initializer.append(helper.make_tensor(PROFILE, TensorProto.INT32, [], [0]))
    graph.value_info.extend([*graph.input, *graph.output])
    del graph.input[:], graph.output[:]
    graph.input.extend(_inputs(card, sizes, runtime, len(folded) > 1))
    graph.output.extend(_outputs(card, sizes, extras))
    own = [
        Own(
            replace(network, statistics_of=each.of, evened=each.evened),
            each.statistics,
            each.drawn,
            None if table is None else table.grid,
            None if extras.gather is None else each.gather or extras.gather,
        )
        for each, table in zip(folded, tables, strict=True)
    ]
    write_metadata(model, info, (pixels, logits), own or [Own(network, gather=extras.gather)])
    return model


def _ends(model: onnx.ModelProto) -> tuple[str, str]:
    """Names of the one input and the one output of a logits graph."""
    constants = {t.name for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in constants]
    outputs = list(model.graph.output)
    for kind, values, rank in (("input", inputs, "[N,3,H,W]"), ("output", outputs, "[N,C,h,w]")):
        found = ", ".join(f"{v.name} of rank {len(v.type.tensor_type.shape.dim)}" for v in values) or "none"
        if len(values) != 1 or len(values[0].type.tensor_type.shape.dim) != 4:
            raise InputError(f"a logits graph has one {kind} {rank}, this one has: {found}.")
    return inputs[0].name, outputs[0].name


def _check(model: onnx.ModelProto, logits: str, card: Card, folded: Sequence[Strength]) -> None:
    opset = next((o.version for o in model.opset_import if o.domain == ""), 0)
    if opset < OPSET:
        raise InputError(f"the graph has opset {opset}, the least that can be folded is {OPSET}; convert it.")
    channels = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    C = len(card.classes)
    if channels not in (0, C):
        raise InputError(f"the graph's output {logits} has {channels} channels, the class list {C} classes.")
    for strength in folded:
        if len(strength.statistics.seen) != C:
            raise InputError(
                f"the statistics are of {len(strength.statistics.seen)} classes, the model has {C}; gather "
                "them again with this model."
            )
        if not 0 <= strength.tau <= MAX_TAU:
            raise InputError(f"tau is {strength.tau:g}, but must lie in [0, {MAX_TAU:g}].")
    _check_profiles(folded)


def _check_profiles(folded: Sequence[Strength]) -> None:
    if len(folded) > MOST_PROFILES:
        raise InputError(
            f"{len(folded)} profiles were given, but a file holds {MOST_PROFILES} at most; make two files."
        )
    for one, other in pairwise(folded):
        if other.excluded != one.excluded:
            raise InputError(
                f"the profiles {one.profile} and {other.profile} leave out different classes, but those of "
                "one file must leave out the same; name them with --leave."
            )
        if one.runtime and other.tau != one.tau:
            raise InputError(
                f"--runtime-tau has one default for all profiles, but {one.profile} has tau {one.tau:g} and "
                f"{other.profile} {other.tau:g}; give one with --tau."
            )


def _make_way(
    model: onnx.ModelProto, pixels: str, logits: str, extras: Extras
) -> tuple[onnx.ModelProto, str, str]:
    """Free the names that the contract gives to inputs and outputs, whoever had them."""
    graph = model.graph
    used = {name for node in graph.node for name in (*node.input, *node.output)}
    used |= {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    ours = [name for name in (*INPUTS, *OUTPUTS) if name != "logits" or extras.gather is not None]
    names = {name: f"{MOVED}{name}" for name in ours if name in used}
    rename_values(graph, names)
    model.ir_version = max(model.ir_version, 8)
    return model, names.get(pixels, pixels), names.get(logits, logits)


def _inputs(
    card: Card, sizes: dict[str, str], runtime_tau: bool, profiles: bool
) -> list[onnx.ValueInfoProto]:
    height, width = card.size or (sizes["H"], sizes["W"])
    values = [helper.make_tensor_value_info("image", TensorProto.UINT8, [sizes["N"], height, width, 3])]
    if runtime_tau:
        values.append(helper.make_tensor_value_info("tau", TensorProto.FLOAT, []))
    if profiles:
        values.append(helper.make_tensor_value_info(PROFILE, TensorProto.INT32, []))
    return values


def _outputs(card: Card, sizes: dict[str, str], extras: Extras) -> list[onnx.ValueInfoProto]:
    height, width = card.size or (sizes["H"], sizes["W"])
    labels = ["labels"] + ["uncorrected_labels"] * extras.uncorrected_labels
    shape = [sizes["N"], height, width]
    values = [helper.make_tensor_value_info(name, label_type(card), shape) for name in labels]
    shape_of_logits = [name for name, on in (("scores", extras.scores), ("logits", extras.gather)) if on]
    if shape_of_logits:
        inner: list[int | str] = [sizes["h"], sizes["w"]]
        if card.size is not None:
            inner = [-(-side // card.stride) * card.stride // card.output_stride for side in card.size]
        shape = [sizes["N"], len(card.classes), *inner]
        values += [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in shape_of_logits]
    return values


def _size_names(graph: onnx.GraphProto) -> dict[str, str]:
    """Names for our dynamic sizes that the graph has not taken: equal names would mean equal sizes."""
    values = (*graph.input, *graph.output, *graph.value_info)
    used = {dim.dim_param for value in values for dim in value.type.tensor_type.shape.dim}
    names = {}
    for size in "NHWhw":
        names[size] = size
        while names[size] in used:
            names[size] += "_"
    return names


def _describe(card: Card, strength: Strength, table: LookupTable | None) -> Correction:
    seen, excluded = strength.statistics.seen.tolist(), [card.classes[c] for c in strength.excluded]
    bound = 0.0
    if table is not None:
        bound = table.error_at(BOUND_TAU if strength.runtime else strength.tau)
    return Correction(
        tau=strength.tau,
        runtime_tau=strength.runtime,
        knots=0 if table is None else table.knots.shape[1],
        knots_total=0 if table is None else table.knots.size,
        eps=strength.statistics.eps,
        error_bound=bound,
        statistics=strength.source,
        uncorrected=tuple(
            n for n, known in zip(card.classes, seen, strict=True) if not known and n not in excluded
        ),
        excluded=tuple(excluded),
    )
