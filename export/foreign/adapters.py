"""A foreign graph -> the logits graph that the fold takes.

    float [N,3,H,W] of normalised RGB  ->  the graph  ->  logits float [N,C,h,w]

Layout, channel order and type are adapted by nodes around the graph; its own nodes are not touched, except
that an older graph is converted to the opset of the fold. What converters make of old operators is not always
the same, so it is run beside the original.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from adapt.errors import InputError
from export.fold.fold import OPSET
from export.foreign.graph import FLOATS, opset, picture_input, value_type
from export.foreign.network import MASKED, Network
from export.weights.beside import outside

CONVERTED = 1e-4
"""Most that logits may change by in a conversion, as a share of the largest."""
_KEEPING_TYPE = ("Identity", "Transpose", "Reshape", "Slice", "Gather", "Squeeze", "Unsqueeze", "Flatten")
_RESIZES = 11
"""Opset from which on a Resize says where it takes its samples."""
_PREFIX = "adapter/"
_REVERSED = _PREFIX + "reversed_channels"
_FLOOR = _PREFIX + "floor"


class _Step(NamedTuple):
    """One node between our convention and the graph's."""

    kind: str
    attributes: dict[str, Any]
    constants: tuple[str, ...] = ()


def logits_graph_of(network: Network) -> onnx.ModelProto:
    """The network as a logits graph.

    Raises:
        InputError: its opset is too old, or can't be converted.
    """
    model = _modern(network)
    graph = model.graph
    picture, logits = picture_input(model, network.path), graph.output[0]
    kind = value_type(picture)
    if kind == TensorProto.UINT8 and _made_float(graph, picture.name):
        kind = TensorProto.FLOAT  # of whole numbers: TensorRT has no cast to uint8 inside a graph
    front = _chain(_into(network, kind), _PREFIX + "pixels", picture.name)
    back = _chain(_out_of(network, value_type(logits)), logits.name, _PREFIX + "logits")
    nodes = [*front, *graph.node, *back]
    pixels = front[0].input[0] if front else picture.name
    scores = back[-1].output[0] if back else logits.name
    constants = {t.name for t in graph.initializer}
    others = [
        v for v in graph.input if v.name in constants
    ]  # initialisers listed as inputs, as old graphs do
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    if network.intake.channel_order == "BGR":
        graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), _REVERSED))
    if network.outlet.masked:
        graph.initializer.append(numpy_helper.from_array(np.array(MASKED, np.float32), _FLOOR))
    batch = network.intake.batch or "N"
    height, width = network.fixed_size or ("adapter_H", "adapter_W")
    inputs = [batch, 3, height, width]
    outputs = [batch, network.outlet.classes, "adapter_h", "adapter_w"]
    graph.input.extend([helper.make_tensor_value_info(pixels, TensorProto.FLOAT, inputs), *others])
    graph.output.append(helper.make_tensor_value_info(scores, TensorProto.FLOAT, outputs))
    return model


def _made_float(graph: onnx.GraphProto, name: str) -> bool:
    """Whether all that reads a value makes floats of it, at once or behind what keeps its type."""
    if any(value.name == name for value in graph.output):
        return False
    for node in (node for node in graph.node if name in node.input):
        cast = next((a.i for a in node.attribute if a.name == "to"), None) if node.op_type == "Cast" else None
        padded = node.op_type == "Pad" and not any(node.input[2:])  # else with a value of the type
        moved = (padded or node.op_type in _KEEPING_TYPE) and _made_float(graph, node.output[0])
        if cast not in FLOATS and not moved:
            return False
    return True


def _modern(network: Network) -> onnx.ModelProto:
    """A copy of its graph with at least the fold's opset."""
    model, path = network.model, network.path
    version = opset(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if version >= OPSET:
        return copy
    advice = f"export the model again with opset {OPSET}"
    if outside(model):
        raise InputError(f"{path} has opset {version} and more than 2 GB, which is not converted; {advice}.")
    try:
        converted: onnx.ModelProto = onnx.version_converter.convert_version(copy, OPSET)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{path} has opset {version}, and its conversion to {OPSET} failed; {advice}."
        ) from error
    if version < _RESIZES:
        _sampled_as_before(converted.graph)
    # What stands in a subgraph or in another domain may be left as it was.
    size = network.intake.size or (max(64, network.outlet.stride),) * 2
    picture = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    before = network.logits(picture)
    after = Network(path, converted, network.intake, network.outlet).logits(picture)
    if before.shape != after.shape or np.abs(before - after).max() > CONVERTED * np.abs(before).max():
        raise InputError(
            f"{path} has opset {version}, and says something else when it is converted to {OPSET}; {advice}."
        )
    return converted


def _sampled_as_before(graph: onnx.GraphProto) -> None:
    """What upsampled by its corners goes on doing so, in place: converters leave that out."""
    settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for node in (node for node in graph.node if node.op_type == "Resize"):
        said = {attribute.name for attribute in node.attribute}
        more = {name: value for name, value in settings.items() if name not in said}
        node.attribute.extend(helper.make_attribute(name, value) for name, value in more.items())


def _into(network: Network, kind: int) -> list[_Step]:
    """From normalised RGB [N,3,H,W] to what the graph takes."""
    steps = []
    if network.intake.channel_order == "BGR":
        steps.append(_Step("Gather", {"axis": 1}, (_REVERSED,)))
    if network.intake.layout == "NHWC":
        steps.append(_Step("Transpose", {"perm": [0, 2, 3, 1]}))
    if value_type(picture_input(network.model, network.path)) == TensorProto.UINT8:
        steps.append(_Step("Round", {}))
    if kind != TensorProto.FLOAT:
        steps.append(_Step("Cast", {"to": kind}))
    return steps


def _out_of(network: Network, kind: int) -> list[_Step]:
    """From the graph's logits to float [N,C,h,w]."""
    steps = []
    if kind != FLOATS[0]:
        steps.append(_Step("Cast", {"to": TensorProto.FLOAT}))
    if network.outlet.masked:  # bilinear upsampling makes NaN of -inf times 0
        steps.append(_Step("Max", {}, (_FLOOR,)))
    if network.outlet.layout == "NHWC":
        steps.append(_Step("Transpose", {"perm": [0, 3, 1, 2]}))
    return steps


def _chain(steps: list[_Step], begin: str, end: str) -> list[onnx.NodeProto]:
    names = [begin, *(f"{end}/{i}" for i in range(1, len(steps))), end]
    return [
        helper.make_node(
            step.kind,
            [names[i], *step.constants],
            [names[i + 1]],
            name=f"{_PREFIX}{end}/{step.kind}",
            **step.attributes,
        )
        for i, step in enumerate(steps)
    ]
