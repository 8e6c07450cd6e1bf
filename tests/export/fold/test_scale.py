"""A network's logits times 0.05, 5 or 20, or plus 100: statistics, fold and check are as good as before."""

import numpy as np
import onnx
import pytest
import torch
from log_odds import upsampled
from onnx import numpy_helper
from onnx_segmenters import (
    as_rows,
    card,
    correction_alone,
    logits_as_pixels,
    oracle_scores,
    pictures,
    plain_segmenter,
    run,
    statistics,
)

from adapt.balance.histogram import counted_in_all
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics
from adapt.balance.mixtures import Mixture
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import folded_statistics, graph_info
from export.fold.tables import lookup_table
from export.sources.reference import bare_reference
from export.verification.parity import verify

CHANGES = [(0.05, 0.0), (1.0, 0.0), (5.0, 0.0), (20.0, 0.0), (1.0, 100.0)]
SCORES = Extras(scores=True)
CLASSES = 4


def changed(factor: float, offset: float) -> onnx.ModelProto:
    """The plain segmenter, its logits times `factor` and plus `offset`."""
    bare = plain_segmenter(CLASSES, spread=1.5)
    for tensor in bare.graph.initializer:
        value = factor * numpy_helper.to_array(tensor).astype(np.float64)
        if tensor.name == "tau":  # the bias
            value = value + offset
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    return bare


def logits_of(bare: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    return run(fold(bare, card(CLASSES), None, SCORES), image)["scores"]


def own_statistics(bare: onnx.ModelProto) -> ShiftStatistics:
    """As `calibrate` gathers them."""
    found = [torch.from_numpy(logits_of(bare, image[None])) for image in pictures(2, 128, 192, seed=7)]
    rows = counted_in_all((logits, logits.argmax(1)) for logits in found)
    assert rows is not None
    return fit_shift_statistics(rows, rows.anchors(), steps=40)


@pytest.mark.parametrize("tau", [0.2, 1.0])
@pytest.mark.parametrize(("factor", "offset"), CHANGES)
def test_scores_labels_and_check_hold_at_any_scale(factor, offset, tau):
    bare = changed(factor, offset)
    stats = own_statistics(bare)
    model = fold(bare, card(CLASSES), Strength(stats, "own", tau), SCORES)
    image = pictures(1, 64, 96, seed=1)
    out, logits = run(model, image), logits_of(bare, image)
    exact = oracle_scores(stats, as_rows(logits), tau)
    bound = graph_info(model, "").correction.error_bound
    assert bound <= 0.02 * max(1.0, factor)
    inside = np.abs(as_rows(out["scores"]) - exact) <= bound + 1e-5 * np.abs(as_rows(logits)).max()
    assert inside.mean() > 0.999, "but for logits beyond the grid"
    full = upsampled(exact.T.reshape(CLASSES, *logits.shape[2:]), 4)
    first, second = np.sort(full, axis=0)[:-3:-1]
    clear = first - second > 2 * bound
    assert clear.mean() > 0.97 and (out["labels"][0] == full.argmax(0))[clear].mean() > 0.9999
    checked = verify(
        model, "file", bare_reference(model, "file"), "the bare network", list(pictures(2, 70, 90)), "noise"
    )
    assert checked.passed and checked.own_near_ties < 0.03, checked.report()


@pytest.mark.parametrize(("factor", "offset"), CHANGES)
def test_shifts_are_those_of_the_plain_network_rescaled(factor, offset):
    plain, other = (own_statistics(changed(*change)) for change in ((1.0, 0.0), (factor, offset)))
    from adapt.balance.correction import shift_table

    table, moved = shift_table(plain), shift_table(other)
    scale = float(table.shift.abs().max())
    assert float((moved.shift / factor - table.shift).abs().mean()) < 0.01 * scale
    assert float(((moved.lower - offset) / factor - table.lower).abs().max()) < 0.02 * scale
    grids = [lookup_table(s, 0.2) for s in (plain, other)]
    assert 0.4 < grids[1].bins / grids[0].bins < 2.1, "the table is as large as that of the plain network"


def test_an_offset_changes_no_label():
    image = pictures(1, 64, 96, seed=2)
    out = []
    for offset in (0.0, 100.0):
        bare = changed(1.0, offset)
        out.append(run(fold(bare, card(CLASSES), Strength(own_statistics(bare), "", 0.5), SCORES), image))
    best = np.sort(as_rows(out[0]["scores"]), axis=1)
    assert np.abs(out[0]["scores"] - out[1]["scores"]).max() < 0.1 < (best[:, -1] - best[:, -2]).mean() / 10
    assert (out[0]["labels"] == out[1]["labels"]).mean() > 0.99


def test_the_statistics_in_a_file_keep_their_range():
    stats = own_statistics(changed(20.0, 0.0))
    model = fold(changed(20.0, 0.0), card(CLASSES), Strength(stats, ""))
    back = folded_statistics(model)
    assert back.logit_range == stats.logit_range and back.logit_range[1] > 64


@pytest.mark.parametrize("runtime", [False, True])
@pytest.mark.parametrize("classes", [2, 5])
def test_exponents_beyond_float32_are_summed_without_overflow(classes, runtime):
    stats = statistics(classes, 3)
    factor = 30.0
    rows, anchors = (
        Mixture(m.weights, factor * m.means, factor**2 * m.variances) for m in (stats.rows, stats.anchors)
    )
    wide = ShiftStatistics(rows, anchors, stats.seen)
    strength = Strength(wide, "", 1.0, runtime, error_bound=1.0)
    model = fold(logits_as_pixels(classes), card(classes), strength, SCORES)
    assert "Max" in {node.op_type for node in model.graph.node}
    logits = np.random.default_rng(0).uniform(-150, 250, (1, classes, 9, 11)).astype(np.float32)
    found = as_rows(correction_alone(model, logits))
    bound = graph_info(model, "").correction.error_bound * (5 if runtime else 1)
    assert np.isfinite(found).all()
    assert np.abs(found - oracle_scores(wide, as_rows(logits), 1.0)).max() <= bound + 0.01


def test_ordinary_networks_have_the_cheap_sum():
    model = fold(plain_segmenter(4), card(4), Strength(statistics(4), "", 0.2, runtime=True))
    assert not {"Max", "Exp"} & {n.op_type for n in model.graph.node if n.name.startswith("blda/top")}
    assert sum(node.op_type == "Exp" for node in model.graph.node) == 1


def test_a_class_without_statistics_does_not_stretch_the_grid():
    """Its mixtures are what they were before any logit came: near 0, wherever the others lie."""
    stats = statistics(3, 1, unseen=(1,))
    far = stats.rows.means + 300.0
    far[1] = 0.0
    moved = ShiftStatistics(
        Mixture(stats.rows.weights, far, stats.rows.variances),
        Mixture(stats.anchors.weights, stats.anchors.means + 300.0, stats.anchors.variances),
        stats.seen,
    )
    table, plain = (lookup_table(s, 0.2) for s in (moved, stats))
    assert table.start > 250 and table.bins == plain.bins


def test_a_shift_whose_exponential_float32_does_not_hold_is_folded_too():
    stats = statistics(2, 0)
    # One component of the negative anchor is far off: the shifts of a row's other logits differ by 200.
    means = stats.anchors.means + torch.tensor([[0.0] * 5, [0.0] * 4 + [200.0]])
    far = Mixture(stats.anchors.weights, means, stats.anchors.variances)
    wide = ShiftStatistics(stats.rows, far, stats.seen)
    model = fold(logits_as_pixels(2), card(2), Strength(wide, "", 1.0, error_bound=0.1), Extras(scores=True))
    logits = np.random.default_rng(0).uniform(-6, 10, (1, 2, 8, 8)).astype(np.float32)
    exact = oracle_scores(wide, as_rows(logits), 1.0)
    assert exact.min() < -100
    bound = graph_info(model, "").correction.error_bound
    assert np.abs(as_rows(correction_alone(model, logits)) - exact).max() <= bound + 1e-3
