"""Graphs that are wrong in one place each: the check at writing and `export verify` must fail on every one.

Each row says by which words of the report it is caught: at writing, where the network that was to be exported
is at hand, and afterwards, where there is only the file (or, for what no file tells of itself, --against).
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_segmenters import card, plain_segmenter, statistics
from small_network import smooth_pictures, write_pictures

import export.verification.exact
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.errors import InputError
from export.fold.curves import Curves, shift_curves
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import metadata_of
from export.pipeline import write_verified
from export.sources.source import GraphSource
from export.verification.check import check_file
from serve.card import Key

Model = onnx.ModelProto


def built(runtime: bool = False) -> Model:
    strength = Strength(statistics(4, 1), "random", 0.5, runtime, error_bound=0.02)
    return fold(plain_segmenter(4), card(4), strength, Extras(True, True))


@pytest.fixture(scope="module", autouse=True)
def one_computation_of_curves():
    """The statistics are nearly always the same."""
    known: dict[float, list[Curves]] = {}

    def remembered(stats: ShiftStatistics) -> list[Curves]:
        key = float(stats.rows.means.sum())
        if key not in known:
            known[key] = shift_curves(stats)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.verification.exact, "shift_curves", remembered)
        yield


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> dict[bool, Path]:
    """The right files, by whether tau is an input; beside them a folder of pictures."""
    folder = tmp_path_factory.mktemp("honest")
    for runtime in (False, True):
        onnx.save(built(runtime), folder / f"{runtime}.onnx")
    write_pictures(folder / "pictures", smooth_pictures(2, 96, 128))
    return {runtime: folder / f"{runtime}.onnx" for runtime in (False, True)}


# ---- how graphs are broken ------------------------------------------------------------------------------


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


HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
OTHER = "is not the one that was exported"
SCORES = "scores differ by"
LABELS = "of the labels are others"
SHAPE = "labels are uint8"
SHAPES = "scores are"
REVERSED = ("Slice", ([-1], [-(2**31)], [2], [-1]), {})

MUTANTS: dict[str, tuple[Callable[[Model], None], str, str]] = {
    # in the network: only who has the network, or its fingerprint, can tell
    "two classes swapped in the network": (
        both(changed("weight", swapped(0)), changed("blda_original/tau", swapped(0))),
        SCORES,
        OTHER,
    ),
    "one weight is another": (changed("weight", lambda w: w + (w == w.max()) * 0.5), SCORES, OTHER),
    "a class masked": (changed("blda_original/tau", lambda b: b - [0, 0, 1e4, 0]), SCORES, OTHER),
    # in front of it
    "blue for red": (before("float", ("Gather", ([2, 1, 0],), {"axis": 3})), SCORES, SCORES),
    "picture flipped": (before("float", REVERSED), SCORES, SCORES),
    "picture transposed": (
        before("float", ("Transpose", (), {"perm": [0, 2, 1, 3]})),
        SHAPES,
        SHAPES,
    ),
    "picture moved by a pixel": (rolled("float", 2), SCORES, SCORES),
    "another mean": (changed("blda/offset", lambda v: v * 1.02), SCORES, SCORES),
    "another deviation": (changed("blda/scale", lambda v: v * 1.02), SCORES, SCORES),
    "padded in front": (padded_in_front, SCORES, SCORES),
    "padded with grey": (padded_with_grey, SCORES, SCORES),
    "too little padding": (changed("blda/stride_less_one", lambda v: v * 0), SHAPES, SHAPES),
    "the first picture of a batch for all": (first_picture_for_all, SCORES, SCORES),
    # in the correction
    "no correction": (without_correction, SCORES, SCORES),
    "another strength": (changed("blda/strength", lambda v: v * 0.8), SCORES, SCORES),
    "own shifts of other classes": (
        both(*(changed(f"blda/own_{part}", swapped(0)) for part in ("steps", "start"))),
        SCORES,
        SCORES,
    ),
    "rows of other classes": (
        both(*(changed(f"blda/shift_{part}", swapped(2)) for part in ("steps", "start"))),
        SCORES,
        SCORES,
    ),
    # one bin moves every class's score by a bin's width: within what is proven, and no label changes
    "three bins off": (changed("blda/bin_of_0", lambda v: v + 3), SCORES, SCORES),
    "no logarithm": (without_logarithm, SCORES, SCORES),
    "overflow of half precision": (
        before(
            "labels_channels_last",
            ("Mul", (np.float32(1e5),), {}),
            ("Cast", (), {"to": HALF}),
            ("Cast", (), {"to": FLOAT}),
        ),
        LABELS,
        LABELS,
    ),
    # behind it
    "two classes swapped at the end": (
        before("labels_channels_last", ("Gather", ([1, 0, 2, 3],), {"axis": 1})),
        LABELS,
        LABELS,
    ),
    "nearest instead of linear": (
        attribute("labels_upsampled", mode="nearest"),
        LABELS,
        LABELS,
    ),
    "corners aligned": (
        attribute("labels_upsampled", coordinate_transformation_mode="align_corners"),
        LABELS,
        LABELS,
    ),
    "asymmetric upsampling": (
        attribute("labels_upsampled", coordinate_transformation_mode="asymmetric"),
        LABELS,
        LABELS,
    ),
    "worst for best": (lambda m: setattr(node(m, "labels_argmax"), "op_type", "ArgMin"), LABELS, LABELS),
    "labels flipped": (before("labels", ("Slice", ([-1], [-(2**31)], [2], [-1]), {})), LABELS, LABELS),
    "labels moved by a pixel": (rolled("labels", 2), LABELS, LABELS),
    "labels transposed": (before("labels", ("Transpose", (), {"perm": [0, 2, 1]})), SHAPE, SHAPE),
    "not cropped": (without_crop, SHAPE, SHAPE),
    "a class that does not exist": (
        before("labels", ("Add", (np.int32(1),), {})),
        "there are labels up to 4",
        "there are labels up to 4",
    ),
    # in further outputs
    "uncorrected labels that are corrected": (
        lambda m: rewired("uncorrected_labels", 0, node(m, "labels").input[0])(m),
        LABELS,
        LABELS,
    ),
    "scores that are logits": (
        lambda m: rewired("scores", 0, node(m, "uncorrected_labels_channels_last").input[0])(m),
        SCORES,
        SCORES,
    ),
    # in what it says of itself
    "statistics of another run": (another_runs_statistics, SCORES, SCORES),
    "a strength that is not folded": (record("correction", tau=0.3), SCORES, SCORES),
    "a mean that is not applied": (record("card", mean=[0.3, 0.5, 0.6]), "its card says mean", SCORES),
    "classes in another order": (
        record("card", classes=["class1", "class0", "class2", "class3"]),
        "its card says classes",
        "its card says classes",
    ),
    "colours of other classes": (
        record("card", palette=[[9, 9, 9]] * 4),
        "its card says palette",
        "its card says palette",
    ),
}
RUNTIME: dict[str, tuple[Callable[[Model], None], str, str]] = {
    "another default strength": (changed("tau", lambda v: v * 0 + 0.2), SCORES, SCORES),
    "a strength that does nothing": (tau_ignored, SCORES, SCORES),
}
NEEDS_THE_SOURCE = ("classes in another order", "colours of other classes")


def refusal(mutated: Model, honest: Path, out: Path) -> str:
    """What the check at writing says."""
    source = GraphSource(honest, card(4), onnx.load(honest))
    with pytest.raises(InputError) as refused:
        write_verified(mutated, out, source, smooth_pictures(2, 96, 128), "fields")
    assert not out.exists() and "nothing was written" in refused.value.message
    return refused.value.message


@pytest.mark.parametrize("name", [*MUTANTS, *RUNTIME])
def test_a_wrong_graph_is_neither_written_nor_verified(honest, tmp_path, name):
    right = honest[name in RUNTIME]
    mutate, at_writing, afterwards = (MUTANTS | RUNTIME)[name]
    mutated = onnx.load(right)
    mutate(mutated)
    assert at_writing in refusal(mutated, right, tmp_path / "written.onnx")
    onnx.save(mutated, tmp_path / "mutant.onnx")
    against = right if name in NEEDS_THE_SOURCE else None
    check = check_file(tmp_path / "mutant.onnx", against, right.parent / "pictures")
    assert not check.passed and afterwards in check.report()
    stored = json.loads(metadata_of(onnx.load(tmp_path / "mutant.onnx"))["blda.verification"])
    assert stored["passed"] is False


@pytest.mark.parametrize("runtime", [False, True])
def test_the_right_graph_is_written_and_verified(honest, tmp_path, runtime):
    """So that all of the above fail for what was done to them."""
    right = honest[runtime]
    source = GraphSource(right, card(4), onnx.load(right))
    pictures = smooth_pictures(2, 96, 128)
    assert write_verified(onnx.load(right), tmp_path / "x.onnx", source, pictures, "fields").passed
    for against in (None, right):
        check = check_file(tmp_path / "x.onnx", against, right.parent / "pictures")
        assert check.passed and check.note == "", check.report()
