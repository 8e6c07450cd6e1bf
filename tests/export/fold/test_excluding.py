"""What takes no part in the correction: the folded graph, its check and its card."""

import log_odds
import numpy as np
import onnx
import pytest
import torch
from onnx_segmenters import (
    as_rows,
    card,
    correction_alone,
    logits_as_pixels,
    pictures,
    plain_segmenter,
    run,
    statistics,
)

from adapt.balance.correction import excluding
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import folded_statistics, graph_info
from export.sources.reference import bare_reference
from export.verification.parity import verify

SCORES, C = Extras(scores=True), 5


def without(stats: ShiftStatistics, *classes: int) -> ShiftStatistics:
    return excluding(stats, torch.isin(torch.arange(C), torch.tensor(classes)))


def of_oracle(stats: ShiftStatistics, logits: np.ndarray, tau: float) -> np.ndarray:
    rows, anchors = (tuple(p.double().numpy() for p in m) for m in (stats.rows, stats.anchors))
    seen, out = stats.seen.numpy(), stats.excluded.numpy()
    return log_odds.scores_excluding(rows, anchors, seen, out, logits.astype(np.float64), tau)


@pytest.mark.parametrize("runtime", [False, True])
@pytest.mark.parametrize("classes", [(0,), (1, 4)])
def test_folded_scores_agree_with_the_oracle(classes, runtime):
    stats = without(statistics(C, 2), *classes)
    model = fold(logits_as_pixels(C), card(C), Strength(stats, "", 0.5, runtime), SCORES)
    logits = np.random.default_rng(0).uniform(-5, 9, (1, C, 16, 16)).astype(np.float32)
    logits[0, classes[0], 0] = -1e9
    found, exact = as_rows(correction_alone(model, logits)), of_oracle(stats, as_rows(logits), 0.5)
    bound = graph_info(model, "").correction.error_bound * (2.5 if runtime else 1)
    shown = exact > -1e8
    assert np.abs(found - exact)[shown].max() <= bound + 1e-3
    assert (found[~shown] < -1e8).all()


def test_exponents_beyond_float32_are_summed_without_it_too():
    plain = statistics(C, 3)
    rows, anchors = (
        Mixture(m.weights, 30.0 * m.means, 900.0 * m.variances) for m in (plain.rows, plain.anchors)
    )
    stats = without(ShiftStatistics(rows, anchors, plain.seen), 0, 3)
    model = fold(logits_as_pixels(C), card(C), Strength(stats, "", 1.0, error_bound=1.0), SCORES)
    logits = np.random.default_rng(0).uniform(-150, 250, (1, C, 9, 11)).astype(np.float32)
    found = as_rows(correction_alone(model, logits))
    assert np.abs(found - of_oracle(stats, as_rows(logits), 1.0)).max() <= 1.01


def test_labels_of_it_are_those_of_before_and_the_check_sees_that():
    stats = without(statistics(C, 4), 2)
    extras = Extras(scores=True, uncorrected_labels=True)
    model = fold(plain_segmenter(C), card(C), Strength(stats, "", 1.0), extras)
    image = pictures(1, 64, 96)
    out = run(model, image)
    plain = run(fold(plain_segmenter(C), card(C), None, SCORES), image)["scores"].argmax(1)
    assert np.array_equal(plain == 2, out["scores"].argmax(1) == 2)
    assert (out["labels"] != out["uncorrected_labels"]).mean() > 0.02
    checked = verify(model, "file", bare_reference(model, "file"), "", list(pictures(2, 70, 90)), "noise")
    assert checked.passed, checked.report()
    correction = graph_info(model, "").correction
    assert correction.excluded == ("class2",) and correction.uncorrected == ()
    assert folded_statistics(model).excluded.tolist() == [False, False, True, False, False]


def test_the_check_notices_that_it_was_raised():
    stats = without(statistics(C, 4), 2)
    model = fold(plain_segmenter(C), card(C), Strength(stats, "", 1.0), SCORES)
    node = next(n for n in model.graph.node if n.name == "blda/beside_best")
    raised = onnx.numpy_helper.from_array(np.float32(0.2), "blda/raise")
    model.graph.initializer.append(raised)
    name, node.output[0] = node.output[0], "blda/lower"
    place = list(model.graph.node).index(node)
    more = onnx.helper.make_node("Add", ["blda/lower", "blda/raise"], [name], name="blda/raised")
    model.graph.node.insert(place + 1, more)
    checked = verify(model, "file", bare_reference(model, "file"), "", list(pictures(2, 70, 90)), "noise")
    assert not checked.passed and "scores differ" in checked.report()
