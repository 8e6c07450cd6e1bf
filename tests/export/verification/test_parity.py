"""The check must pass what is right and fail what is wrong, in the network, the correction or the labels."""

import numpy as np
import onnx
import pytest
import torch
from folded_graphs import folded
from onnx import numpy_helper
from onnx_segmenters import card, oracle_scores, pictures, plain_segmenter, statistics

from adapt.balance.histogram import counted_in_all
from adapt.balance.logit_statistics import fit_shift_statistics
from export.fold.fold import Strength, fold
from export.fold.folded import graph_info
from export.sources.pictures import synthetic_frames
from export.sources.reference import bare_reference
from export.verification.exact import COARSE_RELATIVE, COARSE_ROUNDING, RELATIVE, ROUNDING, Exactness
from export.verification.parity import Candidate, Said, compare, graph_candidate, verify
from export.verification.result import MOST_NEAR_TIES, Verification


def check(model: onnx.ModelProto, reference: onnx.ModelProto):
    frames = list(pictures(2, 70, 90))
    return verify(model, "file", bare_reference(reference, "file"), "the bare graph", frames, "noise")


def altered(model: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    """A copy with one initialiser multiplied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(factor * numpy_helper.to_array(tensor), name))
    return copy


@pytest.mark.parametrize("runtime", [False, True])
def test_a_right_graph_passes_and_the_result_says_what_was_checked(runtime):
    model = folded(runtime=runtime)
    result = check(model, model)
    assert result.passed
    assert 0 < result.score_difference <= result.tolerance
    assert result.agreement == 1.0 and 0 < result.near_ties < 0.9
    assert result.strengths == ((0.5, 0.0, 2.0) if runtime else (0.5,))
    assert set(result.class_agreement) <= set(card(4).classes)
    assert result.record()["passed"] is True
    assert "passed" in result.report() and "noise" in result.report()


@pytest.mark.parametrize("size", [None, (64, 96)])
def test_without_correction_and_with_fixed_sizes_too(size):
    model = fold(plain_segmenter(4), card(4, size), None)
    frames = synthetic_frames(card(4, size))
    result = verify(model, "file", bare_reference(model, "file"), "the bare graph", frames, "fields")
    assert result.passed and result.score_difference < 1e-4


@pytest.mark.parametrize("name", ["blda/shift_knots", "blda/own_knots", "blda/scale", "weight"])
def test_a_wrong_weight_anywhere_fails(name):
    factor = np.float32(1.3).item()
    scaled = altered(folded(), name, factor)
    scaled = onnx.ModelProto.FromString(scaled.SerializeToString())
    for tensor in scaled.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))
    result = check(scaled, folded())
    assert not result.passed
    assert "FAILED" in result.report()


def test_labels_that_do_not_follow_from_the_scores_fail():
    model = folded()
    argmax = next(node for node in model.graph.node if node.op_type == "ArgMax")
    argmax.op_type = "ArgMin"
    result = check(model, folded())
    assert result.score_difference <= result.tolerance and result.agreement < 0.5 and not result.passed


def test_the_reference_is_the_oracle():
    stats = statistics(3, 4)
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 6, (2, 3, 8, 8)))
    exact = Exactness(stats, None).of(logits, 1.0).scores.permute(0, 2, 3, 1).reshape(-1, 3)
    expected = oracle_scores(stats, logits.permute(0, 2, 3, 1).reshape(-1, 3).numpy(), 1.0)
    assert np.abs(exact.numpy() - expected).max() < 2e-3


def test_ground_truth_adds_scores_and_what_they_differ_by():
    model, frames = folded(), list(pictures(2, 70, 90))
    session = graph_candidate(model, "file")
    truths = [session.run(frame[None], 0.5)[0][0] for frame in frames]
    truths[0][:20] = 3
    result = verify(model, "file", bare_reference(model, "file"), "the graph", frames, "noise", truths)
    assert result.passed and result.labelled is not None
    assert 0.5 < result.labelled.mean_iou < 1 and abs(result.labelled.mean_iou_change) < 1e-3
    assert "mIoU" in result.report() and result.record()["labelled"]["sum_abs_bias"] > 0


def test_a_changed_miou_fails_though_no_label_away_from_ties_differs():
    """Near-ties alone can cost a class: the labels of near-ties are turned round here."""
    model, frames = folded(), list(pictures(2, 70, 90))
    honest = graph_candidate(model, "file")
    truths = [honest.run(frame[None], 0.5)[0][0] for frame in frames]

    def near_ties_wrong(image, tau):
        labels, scores, _ = honest.run(image, tau)
        full = torch.nn.functional.interpolate(scores, scale_factor=4.0, mode="bilinear")[:, :, :70, :90]
        best = full.topk(2, 1)
        near = (best.values[:, 0] - best.values[:, 1] < 0.03).numpy()
        return Said(np.where(near, best.indices[:, 1].numpy(), labels).astype(np.uint8), scores)

    liar = Candidate(honest.info, honest.statistics, near_ties_wrong)
    result = compare([liar], bare_reference(model, "file"), "the graph", frames, "noise", truths)
    assert result.agreement == 1 and result.labelled.mean_iou_change < 0
    assert result.passed == (result.labelled.mean_iou_change >= -0.002)


def test_without_scores_labels_alone_are_compared():
    model = folded()
    honest = graph_candidate(model, "file")
    mute = Candidate(honest.info, honest.statistics, lambda image, tau: Said(honest.run(image, tau)[0], None))
    result = compare([mute], bare_reference(model, "file"), "x", list(pictures(1, 70, 90)), "noise")
    assert result.passed and result.score_difference is None and "no scores" in result.report()


# ---- what has not been compared is not passed -----------------------------------------------------------


def with_logits(scale: float = 1.0, masked: float = 0.0, error_bound: float | None = None) -> onnx.ModelProto:
    """The plain segmenter with smaller logits, or one class out of reach; with statistics of its own."""
    bare = plain_segmenter(4)
    for tensor in bare.graph.initializer:
        value = scale * numpy_helper.to_array(tensor)
        if tensor.name == "tau":  # the bias
            value[2] += masked
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    logits = bare_reference(fold(bare, card(4), None), "file")
    found = torch.cat([logits(f[None]).transpose(0, 1).flatten(1) for f in pictures(2, 70, 90)], 1)
    rows = counted_in_all([(found[None, :, None], found.argmax(0)[None, None])])
    own = fit_shift_statistics(rows, rows.anchors(), steps=20)
    return fold(bare, card(4), Strength(own, "own", 1.0, error_bound=error_bound))


@pytest.mark.parametrize("masked", [-1e4, -1e9])
def test_a_masked_class_hides_nothing(masked):
    """Its shift jumps across a gap, so the bound of the whole table says nothing any more: pixels' own do."""
    model = with_logits(masked=masked)
    assert graph_info(model, "file").correction.error_bound > 1
    result = check(model, model)
    assert result.passed and result.near_ties < MOST_NEAR_TIES, result.report()
    swapped = altered(model, "blda/own_knots", 1.3)
    assert not check(swapped, model).passed


def test_near_ties_alone_are_no_pass_and_the_report_says_why():
    """Of a network whose classes are nearer to each other than the fold is exact."""
    model = with_logits(scale=0.0005, error_bound=0.02)
    result = check(model, model)
    assert result.near_ties > MOST_NEAR_TIES and not result.passed
    assert (
        "near-ties" in result.report() and "--data" in result.report() and "--error-bound" in result.report()
    )
    assert result.record()["passed"] is False


def test_near_ties_count_at_the_files_own_strength():
    """A table for all strengths allows ten times as much at 2; without scores that is too little said."""
    bare = plain_segmenter(4, spread=0.15)
    model = fold(bare, card(4), Strength(statistics(4), "random", 0.2, runtime=True, error_bound=0.2))
    honest, frames = graph_candidate(model, "file"), list(pictures(1, 70, 90))
    result = compare([honest], bare_reference(model, "file"), "x", frames, "noise")
    assert result.own_near_ties < MOST_NEAR_TIES < result.near_ties and result.passed, result.report()
    assert f"({result.own_near_ties:.2%} at tau 0.2)" in result.report()
    mute = honest._replace(run=lambda image, tau: Said(honest.run(image, tau).labels, None))
    assert not compare([mute], bare_reference(model, "file"), "x", frames, "noise").passed


def test_small_logits_alone_are_no_reason():
    """Uncorrected, nothing but rounding is allowed, which is small too."""
    bare = plain_segmenter(4)
    for tensor in bare.graph.initializer:
        small = np.float32(0.001) * numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(small, tensor.name))
    model = fold(bare, card(4), None)
    result = check(model, model)
    assert result.passed and result.near_ties < 0.02
    assert not check(altered(model, "weight", np.float32(1.01).item()), model).passed


def said_otherwise(change) -> Verification:
    """What a graph says, changed."""
    model = folded()
    honest = graph_candidate(model, "file")
    liar = honest._replace(run=lambda image, tau: change(honest.run(image, tau)))
    return compare([liar], bare_reference(model, "file"), "the graph", list(pictures(1, 64, 128)), "noise")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said._replace(labels=said.labels[:, :32]), "labels are uint8"),
        (lambda said: said._replace(labels=said.labels[:1]), "labels are uint8 [1, "),
        (lambda said: said._replace(labels=said.labels.astype(np.int64)), "labels are int64"),
        (lambda said: said._replace(labels=said.labels + np.uint8(1)), "labels up to 4, but 4 classes"),
        (lambda said: said._replace(scores=said.scores[:, :, :1]), "scores are"),
        (lambda said: said._replace(scores=said.scores[:, :1]), "scores are"),
        (lambda said: said._replace(scores=said.scores * torch.nan), "scores differ by inf"),
        (lambda said: said._replace(uncorrected_labels=said.labels[:, :8]), "labels are uint8"),
    ],
)
def test_maps_of_another_size_or_type_are_not_compared(change, message):
    result = said_otherwise(change)
    assert not result.passed and message in result.report()


def test_near_ties_have_one_of_the_tied_labels():
    result = said_otherwise(lambda said: said._replace(labels=far_from_best(said)))
    assert result.agreement == 1 and result.tied_agreement < 1 and not result.passed
    assert "none of the tied" in result.report() or "is none of" in result.report()


def far_from_best(said: Said) -> np.ndarray:
    """The worst class where the two best are nearly tied."""
    height, width = said.labels.shape[1:]
    full = torch.nn.functional.interpolate(said.scores, scale_factor=4.0, mode="bilinear")
    best = full[:, :, :height, :width].topk(4, 1)
    near = (best.values[:, 0] - best.values[:, 1] < 1e-3).numpy()
    assert near.any()
    return np.where(near, best.indices[:, 3].numpy(), said.labels).astype(np.uint8)


def test_one_label_everywhere_without_scores_is_no_pass():
    bare = plain_segmenter(4)
    bias = next(t for t in bare.graph.initializer if t.name == "tau")
    bias.CopyFrom(numpy_helper.from_array(np.float32([99, 0, 0, 0]), "tau"))
    model = fold(bare, card(4), None)
    honest = graph_candidate(model, "file")
    mute = honest._replace(run=lambda image, tau: honest.run(image, tau)._replace(scores=None))
    frames = list(pictures(1, 70, 90))
    assert compare([honest], bare_reference(model, "file"), "x", frames, "noise").passed
    result = compare([mute], bare_reference(model, "file"), "x", frames, "noise")
    assert not result.passed and "always says so" in result.report()


def test_a_half_network_may_differ_by_steps_of_its_best_logit_also_where_a_logit_is_near_nought():
    logits = torch.tensor([8.0, 0.0, -1e9]).view(1, 3, 1, 1).expand(1, 3, 4, 4)  # the last one is masked
    half = Exactness(None, None, COARSE_ROUNDING, COARSE_RELATIVE).of(logits, 0).allowed
    fine = Exactness(None, None, ROUNDING, RELATIVE).of(logits, 0).allowed
    assert half[0, 1, 0, 0] == pytest.approx(8 * (COARSE_ROUNDING + 2**-9))
    assert fine[0, 1, 0, 0] == pytest.approx(8 * ROUNDING), "its own size is 0"
