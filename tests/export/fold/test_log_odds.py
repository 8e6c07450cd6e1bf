"""The fold's scores are log-odds: exact where they are large, finite everywhere, told from older files'."""

import numpy as np
import onnx
import pytest
from log_odds import upsampled
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

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from adapt.errors import InputError
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info
from export.fold.rows import MAX_EXPONENT, NOTHING
from export.pipeline import export_onnx
from export.verification.check import check_file
from serve.card import LOG_ODDS, LOG_PROBABILITIES, Key
from serve.inference.segmenter import Segmenter

SCORES = Extras(scores=True)


def scores_of(stats: ShiftStatistics, logits: np.ndarray, tau: float) -> np.ndarray:
    """[P, C] by the fold, of logits [P, C]."""
    C = logits.shape[1]
    model = fold(logits_as_pixels(C), card(C), Strength(stats, "", tau), SCORES)
    return as_rows(correction_alone(model, logits.T.reshape(1, C, 1, -1).astype(np.float32)))


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_sure_pixels_keep_their_odds(tau):
    """Left out of a sum that it dominates 10^20 times, the own term must not be subtracted from it."""
    stats = statistics(3, 2)
    logits = np.array([[44.0, -4.0, -3.0], [-2.0, 50.0, 1.0], [0.0, 0.5, 30.0]])
    best = np.eye(3, dtype=bool)  # the others' sums hold a logit above the grid
    exact = oracle_scores(stats, logits, tau)[best]
    assert exact.max() > 40
    assert np.abs(scores_of(stats, logits, tau)[best] - exact).max() <= 0.02


def test_the_own_term_adds_nothing_however_weak_the_correction():
    """As long as tau is above 0, what its exponential is of lies far below any logit."""
    for tau in (1e-30, 1e-6, 2.0):
        assert np.exp(np.float32(tau) * np.float32(NOTHING)) == 0 and np.isfinite(
            np.float32(tau) * np.float32(NOTHING)
        )
    logits = np.random.default_rng(0).normal(0, 3, (50, 4))
    others = [np.delete(logits, c, axis=1) for c in range(4)]
    plain = logits - np.stack([np.log(np.exp(rest).sum(1)) for rest in others], axis=1)
    model = fold(logits_as_pixels(4), card(4), Strength(statistics(4), "", 0.2, runtime=True), SCORES)
    weak = np.float32(1e-6)
    next(t for t in model.graph.initializer if t.name == "tau").CopyFrom(
        onnx.numpy_helper.from_array(weak, "tau")
    )
    found = as_rows(correction_alone(model, logits.T.reshape(1, 4, 1, -1).astype(np.float32)))
    assert np.abs(found - plain).max() <= 0.02


def test_sums_at_the_edge_of_float32_are_right():
    """Shifts as wide as are folded, logits at both ends of the grid: no sum is nothing, none overflows."""
    stats = statistics(3, 1)
    means = stats.anchors.means.clone()
    means[1, 0] += 90.0
    far = Mixture(stats.anchors.weights, means, stats.anchors.variances)
    wide = ShiftStatistics(stats.rows, far, stats.seen)
    tau = 1.0
    model = fold(logits_as_pixels(3), card(3), Strength(wide, "", tau, error_bound=0.1), SCORES)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    between = constants["blda/shift_knots"]
    reach = np.abs(between[between > -1e30]).max()
    half = constants["blda/bins_to"] * constants["blda/bin_width"] / 2
    assert 0.8 * MAX_EXPONENT < tau * reach + half <= MAX_EXPONENT
    logits = np.random.default_rng(0).uniform(-8, 10, (400, 3))
    logits[:3] = [[40, -20, -20], [-20, -20, -20], [40, 40, 40]]
    found = as_rows(correction_alone(model, logits.T.reshape(1, 3, 1, -1).astype(np.float32)))
    assert np.isfinite(found).all()
    exact = oracle_scores(wide, logits, tau)
    others = np.stack([np.delete(logits, c, axis=1).max(1) for c in range(3)], axis=1)
    on_grid = (others > -6) & (others < 10)
    assert np.abs(found - exact)[on_grid].max() <= graph_info(model, "").correction.error_bound + 1e-3


def test_labels_between_pixels_are_those_of_the_oracle():
    stats = statistics(4, 5)
    image = pictures(1, 64, 64)
    out = run(fold(plain_segmenter(4), card(4), Strength(stats, "", 1.0), Extras(True, False)), image)
    bare = run(fold(plain_segmenter(4), card(4), None, SCORES), image)["scores"]
    exact = oracle_scores(stats, as_rows(bare), 1.0)
    full = upsampled(exact.T.reshape(4, 16, 16), 4)
    first, second = np.sort(full, axis=0)[:-3:-1]
    clear = first - second > 0.05
    assert clear.mean() > 0.9 and (out["labels"][0] == full.argmax(0))[clear].all()


# ---- files of before --------------------------------------------------------------------------------------


def older(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file as it was made when scores were log-probabilities: with the own term, and no key about it."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    constants = {t.name: t for t in copy.graph.initializer}
    shift, own = (
        onnx.numpy_helper.to_array(constants[f"blda/{name}_knots"]).copy() for name in ("shift", "own")
    )
    classes = np.arange(len(shift))
    shift[classes, :, classes] = own[:, :, 0]
    constants["blda/shift_knots"].CopyFrom(onnx.numpy_helper.from_array(shift, "blda/shift_knots"))
    copy.metadata_props.remove(next(p for p in copy.metadata_props if p.key == Key.SCORES))
    return copy


@pytest.fixture
def of_before(tmp_path):
    file = tmp_path / "older.onnx"
    onnx.save(older(made()), file)
    return file


def made() -> onnx.ModelProto:
    return fold(plain_segmenter(4), card(4), Strength(statistics(4, 1), "a run", 0.5), SCORES)


def test_older_files_still_run_and_are_told_apart(of_before):
    segmenter = Segmenter(of_before)
    assert segmenter.runtime.info.scores == LOG_PROBABILITIES
    said = segmenter(pictures(1, 64, 64)[0], extras=True)
    assert said.labels.shape == (64, 64) and said.scores.max() <= 0.05, "log-probabilities are at most 0"


def test_the_check_of_an_older_file_says_what_it_is_and_what_to_do(of_before):
    before = of_before.read_bytes()
    with pytest.raises(InputError, match=r"older\.onnx was made when scores were log-.*`blda export onnx`"):
        check_file(of_before, None, None)
    assert of_before.read_bytes() == before


def test_an_own_term_in_the_sum_does_not_pass_for_log_odds(of_before):
    model = onnx.load(of_before)
    model.metadata_props.add(key=Key.SCORES, value=f'"{LOG_ODDS}"')
    onnx.save(model, of_before)
    check = check_file(of_before, None, None)
    assert not check.passed and "scores differ by" in check.report()


def test_an_older_file_is_made_anew_from_itself(of_before, tmp_path):
    export_onnx(of_before, tmp_path / "new.onnx", tau=0.5)
    model = onnx.load(tmp_path / "new.onnx")
    assert graph_info(model, "").scores == LOG_ODDS
    assert check_file(tmp_path / "new.onnx", None, None).passed
    stats, image = statistics(4, 1), pictures(1, 64, 64)
    logits = run(fold(plain_segmenter(4), card(4), None, SCORES), image)["scores"]
    folded = run(fold(model, card(4), Strength(stats, "", 0.5), SCORES), image)["scores"]
    assert np.abs(as_rows(folded) - oracle_scores(stats, as_rows(logits), 0.5)).max() <= 0.02


def test_scores_that_nobody_knows_are_an_altered_file():
    model = fold(plain_segmenter(2), card(2), Strength(statistics(2), ""))
    next(p for p in model.metadata_props if p.key == Key.SCORES).value = '"odds"'
    with pytest.raises(InputError, match="altered"):
        graph_info(model, "file")


def test_an_uncorrected_file_says_nothing_of_scores():
    model = fold(plain_segmenter(2), card(2), None)
    assert Key.SCORES not in {p.key for p in model.metadata_props}
