"""Labels of upsampled probabilities: those of torch's softmax and interpolate; corrected, the oracle's."""

from dataclasses import replace

import log_odds
import numpy as np
import onnx
import pytest
import torch
from onnx_segmenters import (
    as_rows,
    card,
    logits_as_pixels,
    oracle_scores,
    pictures,
    plain_segmenter,
    run,
    statistics,
)

from adapt.balance.correction import excluding
from export.fold.fold import Extras, Strength, fold
from serve.card import Card, Upsampling
from serve.inference.sizes import Behind, probabilities

C = 5
COORDINATES = ("half_pixel", "align_corners", "asymmetric")
ALL = Extras(scores=True, uncorrected_labels=True)


def probable(of: Card, kind: str = "softmax", coordinates: str = "half_pixel") -> Card:
    return replace(of, upsampling=Upsampling("probabilities", kind, coordinates))


def apart(values: np.ndarray, margin: float | np.ndarray) -> np.ndarray:
    """Where the two best of [C, H, W] are further apart than `margin`."""
    first, second = np.sort(values, axis=0)[:-3:-1]
    return first - second > margin


def logits_of(image: np.ndarray, classes: int = C, spread: float = 0.8) -> np.ndarray:
    """[C, h, w] of the network that the tests fold."""
    folded = fold(plain_segmenter(classes, spread=spread), card(classes), None, Extras(scores=True))
    return run(folded, image)["scores"][0]


# ---- without a correction ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("align", [False, True])
def test_uncorrected_labels_are_those_of_torch(scale, align):
    """As a user computes them: softmax, interpolate, argmax."""
    logits = torch.randn(2, C, 9, 13, generator=torch.Generator().manual_seed(scale)) * 3
    full = torch.nn.functional.interpolate(
        logits.softmax(1), scale_factor=float(scale), mode="bilinear", align_corners=align or None
    )
    model = behind(scale, "softmax", "align_corners" if align else "half_pixel")
    labels = session_of(model).run(["labels"], {"y": logits.numpy()})[0]
    first, second = full.topk(2, 1).values.unbind(1)
    clear = (first - second > 1e-6).numpy()
    assert (labels == full.argmax(1).numpy())[clear].all() and clear.mean() > 0.999
    scores = torch.nn.functional.interpolate(logits, scale_factor=float(scale), mode="bilinear")
    assert (labels != scores.argmax(1).numpy()).mean() > 0.01, "upsampled logits say something else"


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "exp"])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_uncorrected_labels_are_those_of_the_oracle(kind, coordinates):
    image = pictures(1, 60, 44)
    logits = logits_of(image)
    labels = run(fold(plain_segmenter(C), probable(card(C), kind, coordinates), None), image)["labels"][0]
    small = log_odds.of_logits(as_rows(logits[None]).astype(np.float64), kind).T.reshape(logits.shape)
    full = log_odds.upsampled(small, 4, coordinates)[:, :60, :44]
    clear = apart(full, 1e-5 * full.max(0))
    assert clear.mean() > 0.999 and (labels == full.argmax(0))[clear].all()


def behind(scale: int, kind: str, coordinates: str) -> onnx.ModelProto:
    """The nodes from logits y to labels."""
    of = replace(probable(card(C), kind, coordinates), stride=1, output_stride=scale)
    model = fold(logits_as_pixels(C), of, None)
    return onnx.utils.Extractor(model).extract_model(["y"], ["labels"])


def session_of(model: onnx.ModelProto):
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


# ---- corrected --------------------------------------------------------------------------------------------


def expected(stats, logits: np.ndarray, tau: float, coordinates: str) -> np.ndarray:
    """Probabilities [C, H, W] by the oracle, of logits [C, h, w]."""
    rows = as_rows(logits[None]).astype(np.float64)
    if stats.excluded is None:
        odds, out = oracle_scores(stats, rows, tau), ()
    else:
        parts = [tuple(p.double().numpy() for p in mixture) for mixture in (stats.rows, stats.anchors)]
        mask = stats.excluded.numpy()
        odds = log_odds.scores_excluding(*parts, stats.seen.numpy(), mask, rows, tau)
        out = tuple(np.flatnonzero(mask).tolist())
    return log_odds.upsampled(log_odds.probabilities(odds, out).T.reshape(logits.shape), 4, coordinates)


@pytest.mark.parametrize("excluded", [(), (0,), (1, 4)])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_corrected_labels_are_those_of_the_oracle(excluded, coordinates):
    stats = statistics(C, 3)
    if excluded:
        stats = excluding(stats, torch.isin(torch.arange(C), torch.tensor(excluded)))
    image = pictures(1, 64, 48)
    model = fold(plain_segmenter(C), probable(card(C), "softmax", coordinates), Strength(stats, "", 1.0), ALL)
    out = run(model, image)
    full = expected(stats, logits_of(image), 1.0, coordinates)
    clear = apart(full, 0.02)  # of a quarter of the logits' exactness
    assert clear.mean() > 0.9 and (out["labels"][0] == full.argmax(0))[clear].all()
    assert len(np.unique(out["labels"])) > 2
    plain = log_odds.of_logits(as_rows(logits_of(image)[None]).astype(np.float64), "softmax")
    plain = log_odds.upsampled(plain.T.reshape(C, 16, 12), 4, coordinates)
    clear = apart(plain, 1e-5)
    assert (out["uncorrected_labels"][0] == plain.argmax(0))[clear].all()


@pytest.mark.parametrize("excluded", [(), (2,)])
def test_a_run_time_strength_of_0_is_the_softmax(excluded):
    stats = statistics(C, 3)
    if excluded:
        stats = excluding(stats, torch.isin(torch.arange(C), torch.tensor(excluded)))
    image, of = pictures(1, 64, 48), probable(card(C))
    model = fold(plain_segmenter(C), of, Strength(stats, "", 0.5, runtime=True), ALL)
    off, on = run(model, image, tau=0.0), run(model, image)
    np.testing.assert_array_equal(off["labels"], off["uncorrected_labels"])
    fixed = run(fold(plain_segmenter(C), of, Strength(stats, "", 0.5)), image)
    assert (on["labels"] == fixed["labels"]).mean() > 0.999, "a table for all strengths is another one"
    assert (on["labels"] != off["labels"]).mean() > 0.02


def test_profiles_have_each_their_own():
    stats, image = statistics(C, 3), pictures(1, 64, 48)
    of = probable(card(C))
    night = Strength(statistics(C, 4), "", 1.0, profile="night")
    alone = [run(fold(plain_segmenter(C), of, s), image)["labels"] for s in (Strength(stats, "", 0.0), night)]
    both = fold(plain_segmenter(C), of, Strength(stats, "", 0.0, profile="day", others=(night,)))
    for number, labels in enumerate(alone):
        np.testing.assert_array_equal(run(both, image, profile=number)["labels"], labels)


@pytest.mark.parametrize("excluded", [(), (3,)])
@pytest.mark.parametrize(("lowest", "highest"), [(-8, 8), (18, 90), (-90, -18), (-200, 200)])
def test_at_the_decoder_s_pixels_the_best_class_stays_the_best(lowest, highest, excluded):
    """Also where several classes are certain, each under its own hypothesis, or none is likely at all."""
    stats = statistics(C, 3)
    if excluded:
        stats = excluding(stats, torch.isin(torch.arange(C), torch.tensor(excluded)))
    of = probable(card(C), "softmax", "asymmetric")  # which keeps the decoder's pixels as they are
    model = fold(plain_segmenter(C), of, Strength(stats, "", 1.0))
    name = "blda/with_excluded" if excluded else "blda/corrected"
    known = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model))
    labelling = session_of(known.extract_model([name, "image"], ["labels"]))
    scores = np.random.default_rng(0).uniform(lowest, highest, (1, C, 24, 32)).astype(np.float32)
    feed = {name: scores, "image": np.zeros((1, 96, 128, 3), np.uint8)}
    labels = labelling.run(["labels"], feed)[0][0]
    assert (labels[::4, ::4] == scores[0].argmax(0))[apart(scores[0], 0.01)].all()
    made = probabilities(scores[0], Behind(of.upsampling, True, excluded))
    assert (made.argmax(0) == scores[0].argmax(0))[apart(scores[0], 0.01)].all()
    exact = log_odds.probabilities(as_rows(scores).astype(np.float64), excluded)
    np.testing.assert_allclose(as_rows(made[None]), exact, rtol=1e-4, atol=1e-6)
