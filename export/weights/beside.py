"""Graphs of more than 2 GB: their weights stay in a file of their own, from reading to writing.

An ONNX file is one protobuf message, of which none is larger than 2 GB; what is larger keeps its weights in
files beside it. Smaller ones are read whole, and become one file. Of larger ones, the graph alone is in
memory, and says of each weight where it lies:

    on disk     location relative to the graph's folder, as ONNX has it
    in memory   the same as an absolute path, so that graphs can be copied, cut and folded

ONNX Runtime then reads the weights itself, from the folder that it is told. What is written gets a file of
weights with a name that says which network they are of, so that a graph never lies beside another's.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo

from adapt.errors import InputError

LARGEST = 2**31 - 2**27
"""Most bytes of a graph with its weights that become one file, which the correction has to fit into too."""
_TAKEN_IN = 2**16
"""Bytes up to which a constant is read anyway: shapes and axes are wanted where graphs are understood."""
_PAGE = 2**16
"""Weights begin at multiples of it, so that they can be mapped into memory."""
_CHUNK = 2**26
"""Bytes that are copied at a time."""


def read(path: Path) -> onnx.ModelProto:
    """Read a graph with the weights beside it; those of more than LARGEST stay there.

    Raises:
        InputError: its weights are missing or cut off.
        DecodeError, ValueError: it is not ONNX.
    """
    model: onnx.ModelProto = onnx.load(path, load_external_data=False)
    kept = []
    if path.stat().st_size + sum(_length(t, path.parent) for t in outside(model)) > LARGEST:
        kept = [t for t in outside(model) if _length(t, path.parent) > _TAKEN_IN]
    wanted = ", ".join(sorted({ExternalDataInfo(t).location for t in outside(model)}))
    for tensor in kept:
        tensor.data_location = TensorProto.DEFAULT
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        for tensor in kept:
            where, length = ExternalDataInfo(tensor), _length(tensor, path.parent)
            file, begin = path.parent / where.location, where.offset or 0
            if file.stat().st_size < begin + length:
                raise ValueError
            _place(tensor, str(file.absolute()), begin, length)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(
            f"{path} keeps its weights in {wanted}, which can't be read beside it; copy both together."
        ) from error
    return model


def outside(model: onnx.ModelProto) -> list[TensorProto]:
    """The weights that lie in files of their own; of a graph that was read here, absolutely placed."""
    return [t for t in model.graph.initializer if is_outside(t)]


def is_outside(tensor: TensorProto) -> bool:
    """Whether a weight lies in a file of its own."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def files(model: onnx.ModelProto) -> list[Path]:
    """The files that hold them, each once."""
    return [Path(name) for name in dict.fromkeys(ExternalDataInfo(t).location for t in outside(model))]


def bytes_outside(model: onnx.ModelProto) -> int:
    """Bytes of the weights outside."""
    return sum(int(ExternalDataInfo(t).length or 0) for t in outside(model))


def array_of(tensor: TensorProto) -> np.ndarray:
    """A weight's values, wherever they lie; those outside are mapped, and not read before they are used."""
    if not is_outside(tensor):
        return np.asarray(numpy_helper.to_array(tensor))
    where = ExternalDataInfo(tensor)
    begin, length = where.offset or 0, int(where.length or 0)
    kind, count = helper.tensor_dtype_to_np_dtype(tensor.data_type), int(np.prod(tensor.dims))
    stored = np.memmap(where.location, np.uint8, "r", begin, (length,))
    if length == count * kind.itemsize:
        return np.asarray(stored.view(kind)).reshape(tuple(tensor.dims))
    whole = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=stored.tobytes())
    return np.asarray(numpy_helper.to_array(whole))  # two numbers a byte


def with_weights_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that takes the weights outside as inputs, to look at without them; without any, itself."""
    held = outside(model)
    if not held:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in outside(copy):
        copy.graph.initializer.remove(tensor)
    known = {value.name for value in copy.graph.input}
    copy.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in held if t.name not in known
    )
    return copy


def serialised(model: onnx.ModelProto) -> tuple[bytes, str | None]:
    """The graph in bytes, and the folder that its weights lie in; None of one that has them all."""
    held = outside(model)
    if not held:
        return model.SerializeToString(), None
    folder = os.path.commonpath([str(file.parent) for file in files(model)])
    return _relative(model, Path(folder)).SerializeToString(), folder


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the graph, whose weights outside lie in the folder of `path` already."""
    path.write_bytes(_relative(model, path.absolute().parent).SerializeToString())


def write_weights(model: onnx.ModelProto, file: Path) -> None:
    """Copy all weights outside into one file."""
    with file.open("wb") as out:
        for tensor, begin in zip(outside(model), _begins(model), strict=True):
            out.seek(begin)
            where = ExternalDataInfo(tensor)
            with Path(where.location).open("rb") as source:
                source.seek(where.offset or 0)
                left = int(where.length or 0)
                while left and (some := source.read(min(left, _CHUNK))):
                    out.write(some)
                    left -= len(some)


def placed(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """A copy whose weights outside lie in the file that `write_weights` made of them, now or later."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor, begin in zip(outside(copy), _begins(model), strict=True):
        _place(tensor, str(file.absolute()), begin, int(ExternalDataInfo(tensor).length or 0))
    return copy


def layout(model: onnx.ModelProto) -> list[tuple[str, int]]:
    """Names of the weights outside, and where each begins in the file that `write_weights` makes."""
    return list(zip((t.name for t in outside(model)), _begins(model), strict=True))


def _begins(model: onnx.ModelProto) -> Iterator[int]:
    """Where in a file of their own the weights outside begin."""
    begin = 0
    for tensor in outside(model):
        yield begin
        begin += -(-int(ExternalDataInfo(tensor).length or 0) // _PAGE) * _PAGE


def _relative(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    if not outside(model):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in outside(copy):
        where = ExternalDataInfo(tensor)
        _place(tensor, os.path.relpath(where.location, folder), where.offset or 0, int(where.length or 0))
    return copy


def _length(tensor: TensorProto, folder: Path) -> int:
    """Bytes of a weight outside; one that does not say takes the rest of its file."""
    where = ExternalDataInfo(tensor)
    if where.length is not None:
        return int(where.length)
    file = folder / where.location
    return file.stat().st_size - (where.offset or 0) if file.is_file() else 0


def _place(tensor: TensorProto, location: str, begin: int, length: int) -> None:
    del tensor.external_data[:]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(begin)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
