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
from mutations import (
    Model,
    another_runs_statistics,
    attribute,
    before,
    both,
    changed,
    first_picture_for_all,
    node,
    padded_in_front,
    padded_with_grey,
    record,
    rewired,
    rolled,
    swapped,
    tau_ignored,
    without_correction,
    without_crop,
    without_logarithm,
)
from onnx import TensorProto
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
        changed("blda/own_knots", swapped(0)),
        SCORES,
        SCORES,
    ),
    "rows of other classes": (
        changed("blda/shift_knots", swapped(2)),
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
