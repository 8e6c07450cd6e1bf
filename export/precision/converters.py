"""What ONNX Runtime's converters of precision need before, and leave to be put right afterwards."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import onnx
from onnx import TensorProto


def without_detours(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let neighbouring islands hand float32 to each other, not by way of float16, as the converter does."""
    to = {
        n.output[0]: (n.input[0], n.attribute[0].i) for n in model.graph.node if n.op_type == "Cast"
    }  # result -> what was cast, and to which type
    direct = {
        back: to[half][0]
        for back, (half, kind) in to.items()
        if kind == TensorProto.FLOAT and half in to and to[half][1] == TensorProto.FLOAT16
    }
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = direct.get(name, name)
    read = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    for _ in range(2):  # first the way back, then the way there
        kept = [
            onnx.NodeProto.FromString(n.SerializeToString())
            for n in model.graph.node
            if n.op_type != "Cast" or n.output[0] in read
        ]
        read = {name for node in kept for name in node.input} | {o.name for o in model.graph.output}
        del model.graph.node[:]
        model.graph.node.extend(kept)
    return model


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put the nodes that a converter appended in order, and drop its notes on intermediate values."""
    graph = model.graph
    ready = {v.name for v in (*graph.input, *graph.initializer)} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if ready.issuperset(node.input):
                ready.update(node.output)
                ordered.append(node)
            else:
                later.append(node)
        assert len(later) < len(waiting), "the converter left a cycle"
        waiting = later
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return model


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose nodes all have names, which the quantiser tells them apart by."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for position, node in enumerate(copy.graph.node):
        node.name = node.name or f"{node.op_type}_{position}"
    return copy


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The converters report on themselves at length; what fails still raises."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
