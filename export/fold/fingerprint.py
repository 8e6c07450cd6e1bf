"""Which network a graph holds: a hash of what its logits depend on, and of nothing else.

Hashed is every value that the outputs depend on, as its operator, attributes and the hashes of its inputs;
weights by type, shape and bytes. Names, the order of nodes, metadata, notes, shapes that were inferred and
weights that nothing reads do not count, so a graph that was read and written again, renamed or pruned has the
hash that it had. Another precision, another version of the operators or an export by another version of
torch is another graph, though its weights may be the same.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, numpy_helper

from export.weights.beside import array_of, is_outside

_Known = dict[str, bytes]
"""Hashes of values by name."""


def fingerprint(model: onnx.ModelProto) -> str:
    """SHA-256 in hexadecimal of a graph: of a logits graph, from its pixels to its logits."""
    constants = {t.name for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in constants]
    known = {v.name: _hash(b"input", str(i).encode()) for i, v in enumerate(inputs)}
    opsets = sorted((o.domain if o.domain != "ai.onnx" else "", o.version) for o in model.opset_import)
    used = {node.domain if node.domain != "ai.onnx" else "" for node in model.graph.node}
    versions = repr([opset for opset in opsets if opset[0] in used]).encode()
    functions = (_serialised(f) for f in sorted(model.functions, key=lambda f: (f.domain, f.name)))
    return _hash(versions, *functions, *_outputs(model.graph, known)).hex()


def _outputs(graph: onnx.GraphProto, known: _Known) -> list[bytes]:
    """Hashes of a graph's outputs, from those of its inputs and of what lies around it."""
    known = known | {t.name: _weight(t) for t in graph.initializer}
    for node in graph.node:  # in topological order
        known |= _results(node, known)
    return [known.get(value.name, b"unknown") for value in graph.output]


def _results(node: onnx.NodeProto, known: Mapping[str, bytes]) -> _Known:
    inputs = [known.get(name, b"unknown " + name.encode()) for name in node.input]
    if node.op_type == "Identity":
        return {node.output[0]: inputs[0]}
    if node.op_type == "Constant" and [a.name for a in node.attribute] == ["value"]:
        return {node.output[0]: _weight(node.attribute[0].t)}  # the same as a weight
    attributes = sorted((a.name.encode(), _attribute(a, known)) for a in node.attribute)
    flat: Iterable[bytes] = (part for pair in attributes for part in pair)
    kind = node.domain.removeprefix("ai.onnx").encode(), node.op_type.encode()
    whole = _hash(*kind, str(len(inputs)).encode(), *inputs, *flat)
    return {name: _hash(whole, str(i).encode()) for i, name in enumerate(node.output) if name}


def _attribute(attribute: onnx.AttributeProto, known: Mapping[str, bytes]) -> bytes:
    if attribute.type == AttributeProto.TENSOR:
        return _weight(attribute.t)
    graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
    if not graphs:
        return _serialised(attribute)
    inner = []
    for graph in graphs:
        own = {v.name: _hash(b"inner input", str(i).encode()) for i, v in enumerate(graph.input)}
        inner += _outputs(graph, dict(known) | own)
    return _hash(*inner)


def _weight(tensor: onnx.TensorProto) -> bytes:
    if is_outside(tensor):
        where = {entry.key: entry.value for entry in tensor.external_data}
        changed = Path(where["location"]).stat().st_mtime_ns
        return _outside(tensor.SerializeToString(deterministic=True), changed)
    value = numpy_helper.to_array(tensor)
    shape = f"{tensor.data_type} {value.shape}".encode()
    if value.dtype == object:  # strings, whose bytes are addresses
        return _hash(shape, *(str(item).encode() for item in value.ravel()))
    return _hash(shape, value.tobytes())


@lru_cache(maxsize=2**14)
def _outside(serialised: bytes, changed: int) -> bytes:
    """`_weight` of one in a file that was `changed` at that time: gigabytes, so each is read once."""
    tensor = onnx.TensorProto.FromString(serialised)
    value = array_of(tensor)
    shape = f"{tensor.data_type} {value.shape}".encode()
    return _hash(shape, np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _serialised(message: onnx.AttributeProto | onnx.FunctionProto) -> bytes:
    copy = type(message).FromString(message.SerializeToString())
    copy.doc_string = ""
    return bytes(copy.SerializeToString(deterministic=True))


def _hash(*parts: bytes | memoryview) -> bytes:
    """Of the parts, each with its length, so that no two lists of parts are alike."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.digest()
