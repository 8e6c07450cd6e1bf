"""What a graph takes beside the picture: the same at every run, so it becomes a constant inside.

    OneFormer      task_inputs   the ids of "the task is semantic", by the tokenizer beside the model
    transformers   pixel_mask    ones: every pixel is one of the picture
    any other                    --input NAME=1,2,3 or NAME=FILE.npy

An input that the logits do not depend on (a size that labels are resized to behind them) is not asked for.
Where a dimension is that of the picture (its number, height, width), the constant is spread over it inside
the graph.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from adapt.errors import InputError
from export.foreign.graph import (
    UnknownError,
    describe,
    inputs_of,
    opset,
    picture_input,
    rank,
    sizes,
    value_type,
)
from export.foreign.inputs.tokens import TASK, task_ids
from export.foreign.inputs.values import PIXEL_MASK, fitted, given_value, tied

TASK_INPUT = "task_inputs"
_PREFIX = "inputs/"
_SPREAD = 9
"""Opset from which on a constant can be spread over a picture's size."""


@dataclass(frozen=True)
class Fixed:
    """An input that is always the same."""

    name: str
    tensor: str
    """onnx.TensorProto in base64: its value, of size 1 along dimensions that are those of the picture."""

    def value(self) -> TensorProto:
        """Raises ValueError if it was altered."""
        try:
            found = TensorProto.FromString(base64.b64decode(self.tensor, validate=True))
            numpy_helper.to_array(found)
        except (DecodeError, ValueError, TypeError) as error:
            raise ValueError(f"the value of the input {self.name} is none") from error
        found.name = self.name
        return found


def check_given(given: Sequence[str], model: onnx.ModelProto, path: Path) -> None:
    """Raises InputError if what --input says is of no input of the graph, or of one twice."""
    names = [_divided(each)[0] for each in given]
    known = [value.name for value in inputs_of(model)]
    if len(known) == 1 and known[0] in names:
        raise InputError(f"--input {known[0]}=… is the picture of {path}, which comes from --target.")
    for name in names:
        if name not in known:
            raise InputError(
                f"--input {name}=… is of no input of {path}, which has {describe(inputs_of(model))}."
            )
        if names.count(name) > 1:
            raise InputError(f"--input {name}=… is given {names.count(name)} times; give it once.")


def fixed_inputs(model: onnx.ModelProto, given: Sequence[str], path: Path) -> tuple[list[Fixed], list[str]]:
    """All that the graph takes beside the picture, and how each is known, in words.

    Args:
        given: NAME=VALUE of --input.

    Raises:
        InputError: a value that does not fit.
        UnknownError: a value that only the person can tell.
    """
    values = dict(map(_divided, given))
    picture = picture_input(model, path, tuple(values))
    fixed, words, missing = [], [], []
    for value in inputs_of(model):
        if value.name == picture.name:
            continue
        if value.name in values:
            found, how = given_value(values[value.name], value, picture), "as given"
        elif value.name == PIXEL_MASK:
            found, how = given_value("1", value, picture), "1: every pixel is one of the picture"
        elif value.name == TASK_INPUT and (ids := task_ids(path, _length(value))) is not None:
            found = fitted(np.array([ids.ids]), value, ids.named_by)
            how = f'the ids of "{TASK}", by {ids.named_by}'
        else:
            missing.append(value)
            continue
        fixed.append(Fixed(value.name, base64.b64encode(found.SerializeToString()).decode()))
        words.append(f"{value.name} is {how}")
    if missing:
        raise UnknownError(_question(missing, path))
    return fixed, words


def with_fixed(model: onnx.ModelProto, fixed: Sequence[Fixed], path: Path) -> onnx.ModelProto:
    """A copy in which these inputs are constants, and the picture is the only input.

    Raises:
        InputError: they are not all that the graph takes beside it, or it is too old for them.
    """
    if not fixed and len(inputs_of(model)) <= 1:
        return model
    names = [each.name for each in fixed]
    picture, shape = picture_input(model, path, names), _PREFIX + "picture"
    values = {value.name: value for value in inputs_of(model) if value.name != picture.name}
    if sorted(values) != sorted(names):
        raise InputError(
            f"{path} takes {describe(values.values()) or 'nothing'} beside the picture, its statistics are "
            f"of one that takes {', '.join(names) or 'nothing'}; calibrate this model."
        )
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph, nodes = whole.graph, []
    for each in fixed:
        tensor = each.value()
        places = tied(values[each.name], picture)
        places = {axis: place for axis, place in places.items() if tensor.dims[axis] == 1}
        if places:
            nodes += _spread(graph, tensor, places, shape)
        graph.initializer.append(tensor)
    if nodes and opset(model) < _SPREAD:
        raise InputError(
            f"{path} has opset {opset(model)}, which can't bring {', '.join(names)} to the picture's size; "
            "export it again with opset 13 or newer."
        )
    if nodes:
        nodes.insert(0, helper.make_node("Shape", [picture.name], [shape], shape))
    kept, own = [v for v in graph.input if v.name not in names], list(graph.node)
    del graph.input[:], graph.node[:]
    graph.input.extend(kept)
    graph.node.extend([*nodes, *own])
    return whole


def _spread(
    graph: onnx.GraphProto, tensor: TensorProto, places: Mapping[int, int], shape: str
) -> list[onnx.NodeProto]:
    """Nodes that bring a constant to the picture's size, along dimensions that are those of the picture.

    Args:
        places: the picture's dimension, by that of the constant.
        shape: name of the picture's shape.
    """
    name, nodes, parts = tensor.name, [], []
    tensor.name = _PREFIX + name
    for axis, size in enumerate(tensor.dims):
        part = f"{tensor.name}/{axis}"
        number = np.array([places.get(axis, size)])
        if axis in places:
            graph.initializer.append(numpy_helper.from_array(number, f"{part}/of"))
            nodes.append(helper.make_node("Gather", [shape, f"{part}/of"], [part], part))
        else:
            graph.initializer.append(numpy_helper.from_array(number, part))
        parts.append(part)
    sides = f"{tensor.name}/shape"
    nodes.append(helper.make_node("Concat", parts, [sides], sides, axis=0))
    nodes.append(helper.make_node("Expand", [tensor.name, sides], [name], f"{tensor.name}/spread"))
    return nodes


def _divided(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not (name and sign and value):
        raise InputError(
            f"--input is {given!r}, but NAME=VALUE is wanted: an input of the graph, and numbers such as "
            "1,2,3 or a file such as mask.npy."
        )
    return name, value


def _question(missing: Sequence[onnx.ValueInfoProto], path: Path) -> str:
    first, many = missing[0], len(missing) > 1
    task = (
        f'; a tokenizer beside it (tokenizer.json, or vocab.json and merges.txt) tells the ids of "{TASK}"'
        if TASK_INPUT in [value.name for value in missing]
        else ""
    )
    return (
        f"{path} takes {describe(missing)} beside the picture; say what {'they are' if many else 'it is'} at "
        f"every run, as in {_example(first)}{', for each' if many else ''}{task}."
    )


def _example(value: onnx.ValueInfoProto) -> str:
    """How to say it: a flag, numbers one by one, or one for all of a map."""
    said, size = f"--input {value.name}=", rank(value)
    if value_type(value) == TensorProto.BOOL:
        return f"{said}false"
    if size is not None and all(length == 1 for length in sizes(value)):
        return f"{said}1"
    return f"{said}{'1,2,3' if size in (1, 2) else '1'} or {said}FILE.npy"


def _length(value: onnx.ValueInfoProto) -> int | None:
    """L of an input [N, L]; None where the graph does not say."""
    dims = sizes(value)
    return dims[1] if len(dims) == 2 else None
