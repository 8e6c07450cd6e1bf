"""What the person says of an input, as a tensor of the type and shape that the graph takes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from adapt.errors import InputError
from export.foreign.graph import describe, rank, sizes, value_type

PIXEL_MASK = "pixel_mask"
"""Of transformers: which pixels are of the picture, and which of what fills it up."""
_PLACES = {PIXEL_MASK: (0, 2, 3)}
"""[N, H, W]: which dimensions of the picture those of an input are, where that is known by its name."""
_WORDS = ("false", "true")


def given_value(value: str, wanted: onnx.ValueInfoProto, picture: onnx.ValueInfoProto) -> TensorProto:
    """The value of --input as a tensor of the input's type and rank."""
    if value.lower().endswith(".npy"):
        return fitted(_read(Path(value), wanted.name), wanted, value)
    try:
        numbers = np.array([_number(word.strip()) for word in value.split(",")])
        if numbers.dtype == object:
            raise ValueError("whole numbers of more than 64 bits")
    except ValueError as error:
        raise InputError(
            f"--input {wanted.name}={value} holds neither numbers divided by commas nor the name of an .npy "
            "file."
        ) from error
    return fitted(_shaped(numbers, wanted, picture), wanted, value)


def _number(word: str) -> float | int:
    if word.lower() in _WORDS:
        return _WORDS.index(word.lower())
    try:
        return int(word)
    except ValueError:
        return float(word)


def _read(file: Path, name: str) -> NDArray[Any]:
    try:
        found = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"--input {name}={file}: there is no such file.") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"--input {name}={file} is no whole .npy file of numbers.") from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"--input {name}={file} holds several arrays; save one with numpy.save.")
    return found


def _shaped(numbers: NDArray[Any], wanted: onnx.ValueInfoProto, picture: onnx.ValueInfoProto) -> NDArray[Any]:
    """A list of numbers in the shape of the input; a single number fills it."""
    dims, places = sizes(wanted), tied(wanted, picture)
    if rank(wanted) is None:
        return numbers
    known = [1 if axis in places else size for axis, size in enumerate(dims)]
    open_axes = [axis for axis, size in enumerate(known) if size is None]
    if open_axes[:1] == [0] and (len(open_axes) > 1 or numbers.size == 1):
        known[0], open_axes = 1, open_axes[1:]  # how many pictures
    if len(open_axes) == 1 and numbers.size > 1:
        rest = int(np.prod([size for size in known if size is not None]))
        if rest and numbers.size % rest == 0:
            known[open_axes[0]], open_axes = numbers.size // rest, []
    shape = [0 if size is None else size for size in known]
    if open_axes:
        raise InputError(
            f"--input {wanted.name} takes {describe([wanted])}, of which only a file tells the sizes; give "
            f"--input {wanted.name}=FILE.npy."
        )
    if numbers.size not in (1, wished := int(np.prod(shape))):
        raise InputError(
            f"--input {wanted.name} has {numbers.size} numbers, but {describe([wanted])} takes {wished}; "
            f"give as many, one for all, or --input {wanted.name}=FILE.npy."
        )
    return np.full(shape, numbers.item()) if numbers.size == 1 else numbers.reshape(shape)


def fitted(found: NDArray[Any], wanted: onnx.ValueInfoProto, where: str) -> TensorProto:
    """A value in the input's type.

    Args:
        where: where it is from, in words.

    Raises:
        InputError: another shape, or values that this type does not have.
    """
    kind = value_type(wanted)
    if kind in (TensorProto.STRING, TensorProto.UNDEFINED):
        raise InputError(f"the input {describe([wanted])} takes no numbers, so it can't be fixed.")
    dims = sizes(wanted)
    fits = rank(wanted) is None or (
        found.ndim == len(dims)
        and all(size in (None, had) for size, had in zip(dims, found.shape, strict=True))
    )
    if not fits:
        raise InputError(
            f"--input {wanted.name} has the shape {list(found.shape)} ({where}), but {describe([wanted])} "
            "is what the graph takes."
        )
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    with np.errstate(all="ignore"):
        cast = found.astype(dtype)
    exact = np.issubdtype(dtype, np.floating) and np.issubdtype(found.dtype, np.number)
    same = np.isfinite(cast).all() == np.isfinite(found).all() if exact else (cast == found).all()
    if not same:
        raise InputError(
            f"--input {wanted.name} has values ({where}) that {TensorProto.DataType.Name(kind).lower()} "
            f"does not hold, but {describe([wanted])} is what the graph takes."
        )
    return numpy_helper.from_array(np.ascontiguousarray(cast).reshape(found.shape))


def tied(value: onnx.ValueInfoProto, picture: onnx.ValueInfoProto) -> dict[int, int]:
    """Dimensions of an input that are as large as one of the picture, and which: by name, else by place."""
    theirs = [dim.dim_param for dim in picture.type.tensor_type.shape.dim]
    own = [dim.dim_param for dim in value.type.tensor_type.shape.dim]
    free = sizes(picture)
    alike = range(4) if len(own) == 4 else (0,) * (len(own) > 1)
    by_place = _PLACES.get(value.name, alike)[: len(own)]
    places = {axis: place for axis, place in enumerate(by_place) if free[place] is None}
    places |= {axis: theirs.index(name) for axis, name in enumerate(own) if name and name in theirs}
    return {axis: place for axis, place in places.items() if sizes(value)[axis] is None}
