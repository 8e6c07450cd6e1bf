"""How graphs are broken in one place."""

import json
from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx_segmenters import card, plain_segmenter, statistics

from export.fold.fold import Strength, fold
from export.fold.folded import metadata_of
from serve.card import Key

Model = onnx.ModelProto


def node(model: Model, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == f"blda/{name}")


def constant(model: Model, value: np.ndarray) -> str:
    name = f"blda/mutant{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Model], None]:
    """An initialiser is another."""

    def mutate(model: Model) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        value = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(change(value.copy()).astype(value.dtype), name))

    return mutate


def before(name: str, *kinds: tuple) -> Callable[[Model], None]:
    """Nodes (kind, constants, attributes) stand in front of a node's first input."""

    def mutate(model: Model) -> None:
        target = node(model, name)
        value, made = target.input[0], []
        for kind, constants, attributes in kinds:
            inputs = [value, *(constant(model, np.array(c)) for c in constants)]
            value = f"mutant_value{len(model.graph.node) + len(made)}"
            made.append(helper.make_node(kind, inputs, [value], name=f"blda/{value}", **attributes))
        target.input[0] = value
        place = list(model.graph.node).index(target)
        for offset, new in enumerate(made):
            model.graph.node.insert(place + offset, new)

    return mutate


def attribute(name: str, **values: object) -> Callable[[Model], None]:
    def mutate(model: Model) -> None:
        target = node(model, name)
        kept = [a for a in target.attribute if a.name not in values]
        new = [helper.make_attribute(key, value) for key, value in values.items()]
        del target.attribute[:]
        target.attribute.extend([*kept, *new])

    return mutate


def rewired(name: str, position: int, value: str) -> Callable[[Model], None]:
    def mutate(model: Model) -> None:
        node(model, name).input[position] = value

    return mutate


def record(key: str, **values: object) -> Callable[[Model], None]:
    """Metadata says something else."""

    def mutate(model: Model) -> None:
        entry = next(p for p in model.metadata_props if p.key == f"blda.{key}")
        entry.value = json.dumps(json.loads(entry.value) | values)

    return mutate


def swapped(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda value: np.take(value, [1, 0, 2, 3], axis)


def both(*mutations: Callable[[Model], None]) -> Callable[[Model], None]:
    def mutate(model: Model) -> None:
        for mutation in mutations:
            mutation(model)

    return mutate


def padded_in_front(model: Model) -> None:
    concat = node(model, "pads")
    two, four = (constant(model, np.zeros(k, np.int64)) for k in (2, 4))
    concat.input[:] = [two, concat.input[1], four]


def padded_with_grey(model: Model) -> None:
    node(model, "padded").input.append(constant(model, np.float32(1)))


def without_crop(model: Model) -> None:
    node(model, "labels").input[0] = node(model, "labels_cropped").input[0]


def without_logarithm(model: Model) -> None:
    node(model, "corrected_last").input[1] = node(model, "log_sums").input[0]


def without_correction(model: Model) -> None:
    node(model, "labels_channels_last").input[0] = node(model, "uncorrected_labels_channels_last").input[0]
    node(model, "scores").input[0] = node(model, "labels_channels_last").input[0]


def tau_ignored(model: Model) -> None:
    fixed = constant(model, np.float32(0.5))
    for n in model.graph.node:
        n.input[:] = [fixed if name == "tau" else name for name in n.input]


def another_runs_statistics(model: Model) -> None:
    other = fold(plain_segmenter(4), card(4), Strength(statistics(4, 2), "other", 0.5))
    next(p for p in model.metadata_props if p.key == Key.STATISTICS).value = metadata_of(other)[
        Key.STATISTICS
    ]


def first_picture_for_all(model: Model) -> None:
    target = node(model, "channels_first")
    value, place = target.input[0], list(model.graph.node).index(target)
    ends = [constant(model, np.array([k], np.int64)) for k in (0, 1)]
    zero = constant(model, np.float32(0))
    for offset, new in enumerate(
        [
            helper.make_node("Slice", [value, *ends, ends[0]], ["first"], name="blda/first"),
            helper.make_node("Mul", [value, zero], ["nothing"], name="blda/nothing"),
            helper.make_node("Add", ["nothing", "first"], ["repeated"], name="blda/repeated"),
        ]
    ):
        model.graph.node.insert(place + offset, new)
    node(model, "channels_first").input[0] = "repeated"


def rolled(name: str, axis: int) -> Callable[[Model], None]:
    """A map of any size moves on by one: what leaves at the end comes back at the start."""

    def mutate(model: Model) -> None:
        target = node(model, name)
        value, place = target.input[0], list(model.graph.node).index(target)
        axes, start, end, most = (constant(model, np.array([k], np.int64)) for k in (axis, 0, -1, 2**31))
        for offset, new in enumerate(
            [
                helper.make_node("Slice", [value, end, most, axes], [f"{name}_last"], name="blda/roll1"),
                helper.make_node("Slice", [value, start, end, axes], [f"{name}_others"], name="blda/roll2"),
                helper.make_node(
                    "Concat",
                    [f"{name}_last", f"{name}_others"],
                    [f"{name}_rolled"],
                    axis=axis,
                    name="blda/mutant_rolled",
                ),
            ]
        ):
            model.graph.node.insert(place + offset, new)
        node(model, name).input[0] = f"{name}_rolled"

    return mutate
