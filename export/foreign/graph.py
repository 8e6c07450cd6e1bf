"""Somebody else's ONNX graph: open it, find its pictures and its logits, cut off what follows them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper

from adapt.errors import InputError
from serve.media.checkpoints import describe_checkpoint

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
PICTURES = (*FLOATS, TensorProto.UINT8)
LARGEST = 2**31 - 2**27
"""Most bytes of a graph with its weights: an ONNX file holds 2 GB, and the correction has to fit in too."""
_ORT_FORMAT = b"ORTM"
"""Bytes 4 to 8 of a file of onnxruntime.tools.convert_onnx_models_to_ort."""
LEAST_OPSET = 7
"""ONNX Runtime promises to run none that are older."""
MOST_ASKED = 2
"""Questions in one message: who answers them should not have to look for the others."""


class UnknownError(InputError):
    """What only the person can tell; every question names the options that answer it."""

    def __init__(self, *asked: str) -> None:
        self.asked = asked[:MOST_ASKED]
        numbered = "".join(f"\n  {number}. {question}" for number, question in enumerate(self.asked, 1))
        super().__init__(asked[0] if len(asked) == 1 else f"the file leaves two things open:{numbered}")


def read_graph(path: Path) -> onnx.ModelProto:
    """Read any ONNX file with the data that lies beside it.

    Raises:
        InputError: no such file, not ONNX, cut off, its external data is missing, or too large.
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
        model: onnx.ModelProto = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise InputError(f"{path} is not an ONNX file, or it was cut off.") from error
    if not model.graph.node:
        raise InputError(f"{path} is not an ONNX file, or it was cut off: it holds no graph.")
    weights = path.stat().st_size + sum(
        int(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "length"
    )
    if weights > LARGEST:
        raise InputError(
            f"{path} has {weights / 1e9:.1f} GB with its weights, but what is written is one ONNX file, "
            f"which holds {LARGEST / 1e9:.1f} GB; give the model in half precision, or a smaller one."
        )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        wanted = ", ".join(sorted(_external_files(model)))
        raise InputError(
            f"{path} keeps its weights in {wanted}, which can't be read beside it; copy both together."
        ) from error
    if 0 < opset(model) < LEAST_OPSET:
        raise InputError(
            f"{path} has opset {opset(model)}, the least that can be used is {LEAST_OPSET}; export it again."
        )
    if model.functions:  # an operator that is written in the file itself: what it stands for takes its place
        model = onnx.inliner.inline_local_functions(model)
    return model


def picture_input(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    """The one input that takes pictures: rank 4, float or uint8.

    Raises:
        InputError: there is none, or the graph needs more inputs than that.
    """
    constants = {t.name for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in constants]
    fitting = [v for v in inputs if value_type(v) in PICTURES and rank(v) == 4]
    if len(fitting) != 1 or len(inputs) != 1:
        raise InputError(
            f"{path} has the inputs {describe(inputs)}; it must have one, a float or uint8 picture of rank 4."
        )
    return fitting[0]


def cut_at(model: onnx.ModelProto, name: str, path: Path) -> onnx.ModelProto:
    """A copy whose only output is one value of the graph, as float."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    kinds = {v.name: value_type(v) for v in (*model.graph.output, *model.graph.value_info)}
    kind = kinds.get(name, value_type(picture_input(model, path)))
    del cut.graph.output[:], cut.graph.value_info[:]
    cut.graph.output.append(helper.make_tensor_value_info(name, kind if kind in FLOATS else FLOATS[0], None))
    _prune(cut.graph, name)
    return cut


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
    return tuple(d.dim_value or None for d in value.type.tensor_type.shape.dim)


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
    """Remove nodes and constants that `output` does not depend on, in place."""
    needed, kept = {output}, []
    for node in reversed(graph.node):  # nodes come in topological order
        if needed.intersection(node.output):
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            needed.update(_reads(node))
    constants = [
        onnx.TensorProto.FromString(t.SerializeToString()) for t in graph.initializer if t.name in needed
    ]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
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


def _external_files(model: onnx.ModelProto) -> set[str]:
    return {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
