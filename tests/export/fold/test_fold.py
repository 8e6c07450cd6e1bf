"""The fold: graphs from anywhere in, deployable graphs out, held against the oracle and one another."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_segmenters import (
    MEAN,
    STD,
    as_rows,
    card,
    oracle_scores,
    pictures,
    plain_segmenter,
    run,
    same_bytes,
    statistics,
)

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from adapt.errors import InputError
from adapt.model.segmenter import labels_from_scores
from adapt.run.cards import DEFAULT_TAU
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import error_bound_at, folded_statistics, graph_info, unfold
from export.fold.tables import DEFAULT_BOUND
from export.sources.network import check_operators

ALLOWED = {
    *("Cast", "Transpose", "Mul", "Add", "Sub", "Div", "Pad", "Shape", "Slice", "Concat", "ReduceMax", "Exp"),
    *("Log", "Clip", "Reshape", "MatMul", "Resize", "ArgMax", "Equal", "Where", "Identity", "Min", "Max"),
    *("Range", "Gather", "GatherElements", "Squeeze", "Floor", "Less", "LessOrEqual", "ReduceSum"),
}

ALL = Extras(scores=True, uncorrected_labels=True)


def folded(
    classes: int, tau: float = 0.2, runtime: bool = False, seed: int = 0, size=None
) -> onnx.ModelProto:
    strength = Strength(statistics(classes, seed), "random", tau, runtime)
    return fold(plain_segmenter(classes, seed), card(classes, size), strength, ALL)


def bare_logits(classes: int, image: np.ndarray, seed: int = 0) -> np.ndarray:
    """[N, C, h, w] by numpy preprocessing and the bare graph."""
    height, width = image.shape[1:3]
    pixels = ((image / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    pixels = np.pad(pixels, ((0, 0), (0, 0), (0, -height % 8), (0, -width % 8)))
    bare = plain_segmenter(classes, seed, names=("image", "scores"))
    return next(iter(run(bare, pixels).values()))


def clear_of_ties(maps: torch.Tensor, height: int, width: int, margin: float) -> np.ndarray:
    """Where the two best scores, upsampled, are further apart than `margin`."""
    full = torch.nn.functional.interpolate(maps, scale_factor=4.0, mode="bilinear")[:, :, :height, :width]
    best = full.topk(2, dim=1).values
    return (best[:, 0] - best[:, 1]).numpy() > margin


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.sampled_from([2, 11, 19]))
def test_scores_and_labels_agree_with_the_oracle(seed, classes):
    """By default: within 0.02 logits of float64, whatever the statistics."""
    stats = statistics(classes, seed)
    model = fold(plain_segmenter(classes, seed), card(classes), Strength(stats, "random", 0.2), ALL)
    assert graph_info(model, "").correction.error_bound <= DEFAULT_BOUND == 0.02
    image = pictures(1, 65, 97, seed)
    out = run(model, image)
    logits = bare_logits(classes, image, seed)
    exact = oracle_scores(stats, as_rows(logits), 0.2)
    assert np.abs(as_rows(out["scores"]) - exact).max() <= 0.02
    maps = torch.from_numpy(exact.reshape(1, *logits.shape[2:], classes)).permute(0, 3, 1, 2)
    clear = clear_of_ties(maps, 65, 97, 2 * DEFAULT_BOUND)
    assert clear.mean() > 0.8
    assert (out["labels"] == labels_from_scores(maps, 4, 65, 97).numpy())[clear].mean() >= 0.9999


@pytest.mark.parametrize("tau", [0.05, 0.2, 1.0, 2.0])
def test_a_runtime_tau_gives_the_scores_of_a_fixed_one(tau):
    model = folded(3, tau=0.3, runtime=True, seed=2)
    bound = error_bound_at(graph_info(model, "").correction, tau)
    image = pictures(2, 64, 72)
    exact = oracle_scores(statistics(3, 2), as_rows(bare_logits(3, image, 2)), tau)
    assert np.abs(as_rows(run(model, image, tau=tau)["scores"]) - exact).max() <= bound + 1e-3


def test_the_default_of_the_runtime_tau_is_the_folded_one():
    model, image = folded(3, tau=0.3, runtime=True), pictures(1, 64, 64)
    np.testing.assert_array_equal(run(model, image)["scores"], run(model, image, tau=0.3)["scores"])


def test_tau_zero_gives_exactly_the_uncorrected_labels():
    image = pictures(2, 70, 90)
    plain = run(fold(plain_segmenter(5), card(5), None, Extras(scores=True)), image)
    runtime = folded(5, runtime=True)
    out = run(runtime, image, tau=0.0)
    np.testing.assert_array_equal(out["labels"], plain["labels"])
    np.testing.assert_array_equal(out["scores"], plain["scores"])
    assert (run(runtime, image, tau=2.0)["labels"] != plain["labels"]).any()
    fixed = folded(5, tau=0.0)
    np.testing.assert_array_equal(run(fixed, image)["labels"], plain["labels"])
    assert not {"Exp", "Log", "Gather"} & {node.op_type for node in fixed.graph.node}


def test_uncorrected_labels_are_those_of_the_uncorrected_graph():
    image = pictures(1, 66, 66)
    plain = run(fold(plain_segmenter(4), card(4), None), image)
    out = run(folded(4, tau=1.0), image)
    np.testing.assert_array_equal(out["uncorrected_labels"], plain["labels"])
    assert (out["labels"] != plain["labels"]).any()


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 65, 97), (2, 71, 64), (1, 128, 96)])
def test_any_number_and_size_of_pictures(shape):
    image = pictures(*shape)
    out = run(folded(3, runtime=True), image)
    assert out["labels"].shape == shape and out["labels"].dtype == np.uint8
    assert out["scores"].shape == (shape[0], 3, -(-shape[1] // 8) * 2, -(-shape[2] // 8) * 2)


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_a_fixed_size_gives_the_same_as_a_dynamic_one(size):
    image = pictures(2, *size)
    fixed, dynamic = folded(3, size=size), folded(3)
    np.testing.assert_array_equal(run(fixed, image)["labels"], run(dynamic, image)["labels"])
    nodes = {node.name for node in fixed.graph.node}
    assert ("blda/padded" in nodes) == ("blda/labels_cropped" in nodes) == (size == (65, 97))
    assert [d.dim_value for d in fixed.graph.input[0].type.tensor_type.shape.dim][1:] == [*size, 3]


@pytest.mark.parametrize("names", [("x", "y"), ("image", "labels"), ("tau", "scores")])
@pytest.mark.parametrize("runtime", [False, True])
def test_unfolding_gives_the_logits_graph_back_to_the_byte(names, runtime):
    if "tau" in names:  # the plain segmenter's bias has that name already
        names = ("uncorrected_labels", "scores")
    bare = plain_segmenter(3, names=names)
    bare.metadata_props.add(key="author", value="somebody else")
    model = fold(bare, card(3), Strength(statistics(3), "random", runtime=runtime), ALL)
    onnx.checker.check_model(model, full_check=True)
    assert same_bytes(unfold(model), bare)
    assert same_bytes(unfold(bare), bare)
    assert {p.key: p.value for p in model.metadata_props}["author"] == "somebody else"


def test_names_that_the_segmenter_uses_do_not_disturb():
    image = pictures(1, 65, 70)
    strength = Strength(statistics(3), "random", 1.0)
    plain = run(fold(plain_segmenter(3), card(3), strength), image)
    taken = run(fold(plain_segmenter(3, names=("image", "labels")), card(3), strength), image)
    np.testing.assert_array_equal(plain["labels"], taken["labels"])


def test_folding_again_is_folding_afresh():
    once = folded(3, tau=0.2)
    held = folded_statistics(once)
    again = fold(once, card(3), Strength(held, "random", 1.0, True), ALL)
    assert same_bytes(again, folded(3, tau=1.0, runtime=True))
    assert same_bytes(fold(again, card(3), Strength(held, "random", 0.2), ALL), once)


def test_the_statistics_travel_inside_the_file():
    stats = statistics(4, 3, unseen=(2,))
    model = fold(plain_segmenter(4), card(4), Strength(stats, "a run", 0.2))
    back = folded_statistics(model)
    assert back.eps == stats.eps and torch.equal(back.seen, stats.seen)
    assert all(
        torch.equal(a, b)
        for a, b in zip((*stats.rows, *stats.anchors), (*back.rows, *back.anchors), strict=True)
    )
    correction = graph_info(model, "").correction
    assert correction.uncorrected == ("class2",) and correction.statistics == "a run"
    assert correction.knots_total == 4 * correction.knots
    assert folded_statistics(fold(model, card(4), None)) is None


def test_an_unseen_class_is_judged_by_its_plain_log_odds():
    stats = statistics(4, 1, unseen=(2,))
    image = pictures(1, 64, 64)
    model = fold(plain_segmenter(4), card(4), Strength(stats, "random", 1.0), ALL)
    logits = torch.from_numpy(bare_logits(4, image))
    expected = logits[:, 2] - logits[:, [0, 1, 3]].logsumexp(1)
    assert np.abs(run(model, image)["scores"][:, 2] - expected.numpy()).max() < DEFAULT_BOUND


def test_permuting_classes_permutes_scores():
    order = np.array([2, 0, 3, 1])
    stats = statistics(4, 3)
    permuted = ShiftStatistics(
        Mixture(*(part[order][:, order] for part in stats.rows)), stats.anchors, stats.seen[order], stats.eps
    )
    bare = plain_segmenter(4)
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(bare)
    for tensor in shuffled.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)[order], tensor.name))
    image = pictures(1, 64, 64)
    a = run(fold(bare, card(4), Strength(stats, ""), ALL), image)["scores"]
    b = run(fold(shuffled, card(4), Strength(permuted, ""), ALL), image)["scores"]
    np.testing.assert_allclose(b, a[:, order], atol=1e-4)


def test_above_256_classes_labels_are_uint16():
    model = fold(plain_segmenter(300), card(300), None)
    out = run(model, pictures(1, 64, 64))["labels"]
    assert out.dtype == np.uint16 and out.max() > 255


@pytest.mark.parametrize("runtime", [False, True])
def test_only_operators_that_every_runtime_has(runtime):
    model = folded(3, runtime=runtime)
    check_operators(model)
    ours = {node.op_type for node in model.graph.node if node.name.startswith("blda/")}
    assert ours <= ALLOWED
    constants = {tensor.name for tensor in model.graph.initializer}
    consumers = {name: node.op_type for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        if node.op_type == "ReduceMax":
            assert node.input[1] in constants
        if node.op_type == "ArgMax":
            assert consumers[node.output[0]] == "Cast"


def test_everything_added_is_named_ours():
    bare, model = plain_segmenter(3), folded(3, runtime=True)
    ours = {"image", "tau", "labels", "scores", "uncorrected_labels"}
    theirs = {name for node in bare.graph.node for name in (*node.input, *node.output)}
    theirs |= {f"blda_original/{name}" for name in theirs}
    values = {name for node in model.graph.node for name in (*node.input, *node.output) if name}
    assert all(name.startswith("blda/") for name in values - ours - theirs)


def test_the_correction_adds_little_to_the_file():
    plain, mit_b0 = fold(plain_segmenter(19), card(19), None).ByteSize(), 16_400_000
    for tau, share in ((0.2, 0.03), (DEFAULT_TAU, 0.045)):  # random curves are rougher than those of networks
        folded_in = fold(plain_segmenter(19), card(19), Strength(statistics(19, 1), "", tau))
        assert folded_in.ByteSize() - plain < share * mit_b0


def test_altered_metadata_is_refused():
    model = folded(2)
    for entry in model.metadata_props:
        if entry.key == "blda.statistics":
            entry.value = entry.value[:100]
    with pytest.raises(InputError, match="altered"):
        folded_statistics(model)
    for entry in model.metadata_props:
        if entry.key == "blda.logits_graph":
            entry.value = "{}"
    with pytest.raises(InputError, match="altered"):
        unfold(model)


def test_the_card_says_what_was_folded():
    info = graph_info(folded(3, tau=0.4, runtime=True, size=(64, 96)), "x")
    assert info.card == dataclasses.replace(card(3), size=(64, 96))
    assert info.correction.tau == 0.4 and info.correction.runtime_tau and info.correction.eps == 0.01
