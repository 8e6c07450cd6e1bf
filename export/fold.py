"""Logits graph -> deployable graph, on the ONNX graph alone; `unfold` goes back.

    image uint8 [N,H,W,3] -> normalise, pad -> logits f [N,C,h,w]
                                            -> scores [N,C,h,w] -> upsample, argmax, crop -> labels [N,H,W]

What stands between logits and scores, and its algebra, is in export/correct.py. The correction is not linear:
it stands before the one upsampling, at the decoder's stride.
"""

import base64
import json
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors import SafetensorError
from safetensors.torch import load, save

from adapt.errors import InputError
from adapt.logit_statistics import ShiftStatistics
from adapt.stored import stored_statistics
from export.correct import corrected_scores
from export.ends import add_labels, add_preprocessing, label_type
from export.nodes import PREFIX, Builder, rename_values
from export.tables import DEFAULT_BOUND, DEFAULT_TAU, MAX_TAU, LookupTable, lookup_table
from serve.card import PREFIX as KEY
from serve.card import Card, Correction, GraphInfo, from_metadata, to_metadata

OPSET = 18
MAX_EXPONENT = 36.0
"""Largest tau * |Delta| of centred rows: with half the grid, about 40, it must stay below float32's 88."""

STATISTICS = KEY + "statistics"
BARE = KEY + "logits_graph"
_INPUTS = ("image", "tau")
_OUTPUTS = ("labels", "scores", "uncorrected_labels")
_MOVED = "blda_original/"


@dataclass(frozen=True)
class Strength:
    """How strongly to correct, from which statistics, and how exactly."""

    statistics: ShiftStatistics
    source: str
    """Where the statistics come from, in words."""
    tau: float = DEFAULT_TAU
    runtime: bool = False
    """Give the graph the optional input `tau`, whose default is `tau`."""
    error_bound: float = DEFAULT_BOUND
    """Proven |score error| in logits that the table is made for, as far as its memory allows; of a run-time
    tau, at tau = 0.2."""


@dataclass(frozen=True)
class Extras:
    """Outputs beside `labels`."""

    scores: bool = False
    uncorrected_labels: bool = False


def fold(
    logits_graph: onnx.ModelProto, card: Card, strength: Strength | None, extras: Extras | None = None
) -> onnx.ModelProto:
    """Put preprocessing in front of a logits graph, and correction, upsampling and argmax behind it.

    Args:
        logits_graph: one float input [N, 3, H, W] of normalised pixels, one float output [N, C, H/os, W/os];
            opset 18 or newer. A graph that was folded before is unfolded first.
        card: what the graph takes and means; its size fixes the input's size.
        strength: None leaves the logits uncorrected.

    Raises:
        InputError: not such a graph, statistics of another number of classes, or a shift too wide to be
            folded at this strength.
    """
    model = unfold(logits_graph)
    pixels, logits = _ends(model)
    _check(model, logits, card, strength)
    model, pixels, logits = _make_way(model, pixels, logits)
    info = GraphInfo(card)

    b = Builder()
    add_preprocessing(b, card, pixels)
    front = len(b.nodes)
    scores = logits
    if strength is not None:
        info = replace(info, correction=_describe(card, strength, None))
        if strength.tau != 0 or strength.runtime:
            table = _table(strength)
            scores = corrected_scores(b, logits, table, strength.tau, strength.runtime)
            info = replace(info, correction=_describe(card, strength, table))
    extras = extras or Extras()
    add_labels(b, card, scores, "labels")
    if extras.uncorrected_labels:
        add_labels(b, card, logits, "uncorrected_labels")
    if extras.scores:
        b.op("Identity", [scores], "scores", output="scores")

    graph = model.graph
    sizes = _size_names(graph)
    nodes = [*b.nodes[:front], *graph.node, *b.nodes[front:]]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(b.initializers)
    if strength is not None and strength.runtime:
        graph.initializer.append(helper.make_tensor("tau", TensorProto.FLOAT, [], [strength.tau]))
    graph.value_info.extend([*graph.input, *graph.output])
    del graph.input[:], graph.output[:]
    graph.input.extend(_inputs(card, sizes, strength is not None and strength.runtime))
    graph.output.extend(_outputs(card, sizes, extras))
    _write_metadata(model, info, strength, pixels, logits)
    return model


def unfold(model: onnx.ModelProto) -> onnx.ModelProto:
    """The logits graph inside a folded graph, to the byte; a copy of any other graph."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    ends = _metadata(model).get(BARE)
    if ends is None:
        return bare
    graph = bare.graph
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
            [t for t in graph.initializer if not t.name.startswith(PREFIX) and t.name != "tau"],
        ),
        (graph.value_info, [v for v in graph.value_info if v.name not in names]),
        (graph.input, [bare_input]),
        (graph.output, [bare_output]),
        (bare.metadata_props, [p for p in bare.metadata_props if not p.key.startswith(KEY)]),
    ):
        kept = [type(item).FromString(item.SerializeToString()) for item in keep]
        del field[:]
        field.extend(kept)
    moved = {f"{_MOVED}{name}": name for name in (*_INPUTS, *_OUTPUTS)}
    rename_values(graph, moved)
    return bare


def graph_info(model: onnx.ModelProto, source: str) -> GraphInfo:
    """The card of a folded graph read from the file named `source`. Raises InputError if it has none."""
    return from_metadata(_metadata(model), source)


def folded_statistics(model: onnx.ModelProto) -> ShiftStatistics | None:
    """The statistics that travel inside a folded graph; None if it is uncorrected.

    Raises:
        InputError: they were altered.
    """
    text = _metadata(model).get(STATISTICS)
    if text is None:
        return None
    try:
        classes = len(graph_info(model, "the graph").card.classes)
        return stored_statistics(load(base64.b64decode(text, validate=True)), classes)
    except (ValueError, SafetensorError) as error:
        raise InputError(
            f"the statistics inside the graph were altered ({error}); export it again."
        ) from error


def error_bound_at(correction: Correction, tau: float) -> float:
    """Proven bound on |score error| in logits at a strength: of a run-time tau, it grows in proportion."""
    return correction.error_bound * (max(1.0, tau / DEFAULT_TAU) if correction.runtime_tau else 1.0)


# ---- the correction -------------------------------------------------------------------------------------


def _table(strength: Strength) -> LookupTable:
    """The table for the strength, with every row of Delta centred on 0."""
    most = MAX_TAU if strength.runtime else strength.tau
    table = lookup_table(
        strength.statistics, DEFAULT_TAU if strength.runtime else strength.tau, strength.error_bound
    )
    top, bottom = table.shift.max((1, 2)), table.shift.min((1, 2))
    reach = float((top - bottom).max() / 2)
    if most * reach > MAX_EXPONENT:
        raise InputError(
            f"the statistics move logits by {2 * reach:.0f} within one class, which float32 cannot hold at "
            f"tau {most:g}; fold a fixed --tau of at most {np.floor(100 * MAX_EXPONENT / reach) / 100:g}."
        )
    return replace(table, shift=table.shift - ((top + bottom) / 2)[:, None, None])


# ---- the model around it --------------------------------------------------------------------------------


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


def _check(model: onnx.ModelProto, logits: str, card: Card, strength: Strength | None) -> None:
    opset = next((o.version for o in model.opset_import if o.domain == ""), 0)
    if opset < OPSET:
        raise InputError(f"the graph has opset {opset}, the least that can be folded is {OPSET}; convert it.")
    channels = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    C = len(card.classes)
    if channels not in (0, C):
        raise InputError(f"the graph's output {logits} has {channels} channels, the class list {C} classes.")
    if strength is not None:
        if len(strength.statistics.seen) != C:
            raise InputError(
                f"the statistics are of {len(strength.statistics.seen)} classes, the model has {C}; gather "
                "them again with this model."
            )
        if not 0 <= strength.tau <= MAX_TAU:
            raise InputError(f"tau is {strength.tau:g}, but must lie in [0, {MAX_TAU:g}].")


def _make_way(model: onnx.ModelProto, pixels: str, logits: str) -> tuple[onnx.ModelProto, str, str]:
    """Free the names that the contract gives to inputs and outputs, whoever had them."""
    graph = model.graph
    used = {name for node in graph.node for name in (*node.input, *node.output)}
    used |= {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    names = {name: f"{_MOVED}{name}" for name in (*_INPUTS, *_OUTPUTS) if name in used}
    rename_values(graph, names)
    model.ir_version = max(model.ir_version, 8)
    return model, names.get(pixels, pixels), names.get(logits, logits)


def _inputs(card: Card, sizes: dict[str, str], runtime_tau: bool) -> list[onnx.ValueInfoProto]:
    height, width = card.size or (sizes["H"], sizes["W"])
    values = [helper.make_tensor_value_info("image", TensorProto.UINT8, [sizes["N"], height, width, 3])]
    if runtime_tau:
        values.append(helper.make_tensor_value_info("tau", TensorProto.FLOAT, []))
    return values


def _outputs(card: Card, sizes: dict[str, str], extras: Extras) -> list[onnx.ValueInfoProto]:
    height, width = card.size or (sizes["H"], sizes["W"])
    labels = ["labels"] + ["uncorrected_labels"] * extras.uncorrected_labels
    shape = [sizes["N"], height, width]
    values = [helper.make_tensor_value_info(name, label_type(card), shape) for name in labels]
    if extras.scores:
        inner: list[int | str] = [sizes["h"], sizes["w"]]
        if card.size is not None:
            inner = [-(-side // card.stride) * card.stride // card.output_stride for side in card.size]
        shape = [sizes["N"], len(card.classes), *inner]
        values.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape))
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
    seen = strength.statistics.seen.tolist()
    bound = 0.0
    if table is not None:
        bound = table.error_at(DEFAULT_TAU if strength.runtime else strength.tau)
    return Correction(
        tau=strength.tau,
        runtime_tau=strength.runtime,
        knots=0 if table is None else table.knots.shape[1],
        knots_total=0 if table is None else table.knots.size,
        eps=strength.statistics.eps,
        error_bound=bound,
        statistics=strength.source,
        uncorrected=tuple(n for n, known in zip(card.classes, seen, strict=True) if not known),
    )


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {p.key: p.value for p in model.metadata_props}


def _write_metadata(
    model: onnx.ModelProto, info: GraphInfo, strength: Strength | None, pixels: str, logits: str
) -> None:
    entries = to_metadata(info) | {BARE: json.dumps({"input": pixels, "output": logits})}
    if strength is not None:
        entries[STATISTICS] = base64.b64encode(save(strength.statistics.state())).decode()
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)


def record_verification(model: onnx.ModelProto, verification: dict[str, object], source: str) -> None:
    """Store what `export verify` measured in the graph's metadata, in place."""
    entries = to_metadata(replace(graph_info(model, source), verification=verification))
    for entry in [p for p in model.metadata_props if p.key in entries]:
        model.metadata_props.remove(entry)
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
