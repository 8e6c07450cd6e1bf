"""Somebody else's ONNX graph: open it, find its pictures and its logits, cut off what follows them."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from adapt.errors import InputError
from export.weights.beside import array_of, read, with_weights_as_inputs
from serve.media.checkpoints import describe_checkpoint

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
PICTURES = (*FLOATS, TensorProto.UINT8)
LOGITS = (*FLOATS, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_ORT_FORMAT = b"ORTM"
"""Bytes 4 to 8 of a file of onnxruntime.tools.convert_onnx_models_to_ort."""
LEAST_OPSET = 7
"""ONNX Runtime promises to run none that are older."""
_SMALL = 2**16
"""Most numbers of a value that is looked at."""
MOST_ASKED = 2
"""Questions in one message: who answers them should not have to look for the others."""


class UnknownError(InputError):
    """What only the person can tell; every question names the options that answer it."""

    def __init__(self, *asked: str) -> None:
        self.asked = asked[:MOST_ASKED]
        numbered = "".join(f"\n  {number}. {question}" for number, question in enumerate(self.asked, 1))
        super().__init__(asked[0] if len(asked) == 1 else f"the file leaves two things open:{numbered}")


def read_graph(path: Path) -> onnx.ModelProto:
    """Read any ONNX file with the data that lies beside it; see `export.weights.beside.read`.

    Raises:
        InputError: no such file, not ONNX, cut off, or its external data is missing.
    """
    if (checkpoint := describe_checkpoint(path)) is not None:
        raise InputError(checkpoint)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give an ONNX file (for a run folder: `adapt statistics`).")
    if not path.is_file():
        raise InputError(f"{path} does not exist; give an ONNX file.")
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] == _ORT_FORMAT:
        raise InputError(
            f"{path} is in ONNX Runtime's own format, which holds no graph to balance; give the ONNX file "
            "that it was converted from."
        )
    try:
        model = read(path)
    except (DecodeError, ValueError) as error:
        raise InputError(f"{path} is not an ONNX file, or it was cut off.") from error
    if not model.graph.node:
        raise InputError(f"{path} is not an ONNX file, or it was cut off: it holds no graph.")
    if 0 < opset(model) < LEAST_OPSET:
        raise InputError(
            f"{path} has opset {opset(model)}, the least that can be used is {LEAST_OPSET}; export it again."
        )
    _make_dense(model.graph)
    if model.functions:  # an operator that is written in the file itself: what it stands for takes its place
        model = onnx.inliner.inline_local_functions(model)
    return model


def _make_dense(graph: onnx.GraphProto) -> None:
    """Sparse weights as others, in place: only ONNX Runtime knows them."""
    for sparse in graph.sparse_initializer:
        values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        whole = np.zeros(tuple(sparse.dims), values.dtype)
        whole[np.unravel_index(places, whole.shape) if places.ndim == 1 else tuple(places.T)] = values
        graph.initializer.append(numpy_helper.from_array(whole, sparse.values.name))
    del graph.sparse_initializer[:]


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What has to be given at every run."""
    constants = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in constants]


def picture_input(model: onnx.ModelProto, path: Path, others: Collection[str] = ()) -> onnx.ValueInfoProto:
    """The one input that takes pictures: rank 4, float or uint8; of several the one with 3 channels.

    Args:
        others: names of inputs that are none.

    Raises:
        InputError: there is none, or more than one.
    """
    inputs = inputs_of(model)
    fitting = [v for v in inputs if value_type(v) in PICTURES and rank(v) == 4 and v.name not in others]
    if len(fitting) > 1:
        fitting = [v for v in fitting if 3 in sizes(v)]
    if len(fitting) != 1:
        raise InputError(
            f"{path} has the inputs {describe(inputs)}; it must have one that takes a picture, float or "
            "uint8 and of rank 4 (any others are fixed with --input NAME=VALUE)."
        )
    return fitting[0]


def cut_at(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy whose only output is one value of the graph, as float, and that takes what this depends on.

    Half precision stays what it is; other numbers (double, bfloat16, those of a quantised graph) are cast.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    kind, output = _kind_of(model, name), name
    del cut.graph.output[:], cut.graph.value_info[:]
    if kind not in FLOATS:
        kind, output = FLOATS[0], f"as_float/{name}"
        cut.graph.node.append(helper.make_node("Cast", [name], [output], output, to=kind))
    cut.graph.output.append(helper.make_tensor_value_info(output, kind, None))
    _prune(cut.graph, output)
    return cut


def _kind_of(model: onnx.ModelProto, name: str) -> int:
    """Element type of a value; where nothing tells it, that of the first float input."""
    for graph in _described(model):
        kind = next((value_type(v) for v in (*graph.output, *graph.value_info) if v.name == name), 0)
        if kind:
            return kind
    return next((value_type(v) for v in inputs_of(model) if value_type(v) in FLOATS), FLOATS[0])


def ranks_of(model: onnx.ModelProto) -> dict[str, int]:
    """Numbers of dimensions, of the values of which they are known."""
    found: dict[str, int] = {}
    for graph in _described(model):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if (size := rank(value)) is not None:
                found.setdefault(value.name, size)
    return found


def _described(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph as the file describes its values, then as onnx would."""
    yield model.graph
    with contextlib.suppress(RuntimeError, ValueError):  # operators that it does not know are passed over
        yield onnx.shape_inference.infer_shapes(model).graph


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Small values that are known without running the graph, by name: factors, means, shapes, no weights."""
    tensors = [*model.graph.initializer]
    found: dict[str, NDArray[Any]] = {}
    for node in (node for node in model.graph.node if node.op_type == "Constant"):
        attribute = node.attribute[0]
        if attribute.name == "value":
            tensors.append(TensorProto.FromString(attribute.t.SerializeToString()))
            tensors[-1].name = node.output[0]
        elif attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
            found[node.output[0]] = np.array(helper.get_attribute_value(attribute))
    small = (tensor for tensor in tensors if np.prod(tensor.dims) <= _SMALL)
    return found | {tensor.name: array_of(tensor) for tensor in small}


def check_valid(model: onnx.ModelProto, path: Path) -> None:
    """Raises InputError if a graph is not as the ONNX standard has it, though a runtime may run it."""
    try:
        onnx.checker.check_model(with_weights_as_inputs(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path} is not valid ONNX, so nothing can be folded into it: {reason}.") from error


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def value_type(value: onnx.ValueInfoProto) -> int:
    """Element type, as in onnx.TensorProto."""
    return int(value.type.tensor_type.elem_type)


def rank(value: onnx.ValueInfoProto) -> int | None:
    """Number of dimensions; None if the file does not say."""
    kind = value.type.tensor_type
    return len(kind.shape.dim) if kind.HasField("shape") else None


def sizes(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Sizes of the dimensions; None where they may change from call to call."""
    known = (dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return tuple(size if size > 0 else None for size in known)  # some exporters write -1


def describe(values: Iterable[onnx.ValueInfoProto]) -> str:
    """Names, types and shapes for a person."""
    return ", ".join(_describe(value) for value in values) or "none"


def _describe(value: onnx.ValueInfoProto) -> str:
    kind = TensorProto.DataType.Name(value_type(value)).lower()
    if rank(value) is None:
        return f"{value.name} ({kind})"
    dims = value.type.tensor_type.shape.dim
    return f"{value.name} ({kind} [{', '.join(str(d.dim_value or d.dim_param or '?') for d in dims)}])"


def _prune(graph: onnx.GraphProto, output: str) -> None:
    """Remove nodes, constants and inputs that `output` does not depend on, in place."""
    needed, kept = {output}, []
    for node in reversed(graph.node):  # nodes come in topological order
        if needed.intersection(node.output):
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            needed.update(_reads(node))
    constants = [
        onnx.TensorProto.FromString(t.SerializeToString()) for t in graph.initializer if t.name in needed
    ]
    inputs = [v for v in graph.input if v.name in needed]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(reversed(kept))
    graph.input.extend(inputs)
    graph.initializer.extend(constants)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Values a node reads, also those that its subgraphs read from outside."""
    yield from node.input
    for attribute in node.attribute:
        graphs: Sequence[onnx.GraphProto] = [attribute.g, *attribute.graphs]
        for graph in graphs:
            for inner in graph.node:
                yield from _reads(inner)
            yield from (value.name for value in graph.output)
