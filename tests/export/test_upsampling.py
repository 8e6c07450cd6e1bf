"""Labels of upsampled probabilities: those of torch's softmax and interpolate; corrected, the oracle's."""

from dataclasses import replace
from pathlib import Path

import av
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
    same_bytes,
    statistics,
)

from adapt.balance.correction import excluding
from adapt.errors import InputError
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info, metadata_of
from export.pipeline import export_onnx
from export.show import describe
from export.sources.reference import bare_reference, labels_of
from export.verification.check import check_file
from export.verification.parity import verify
from serve.card import Card, Key, Upsampling, to_metadata
from serve.inference.segmenter import Segmenter
from serve.inference.sizes import Behind, probabilities
from serve.video.segment import segment_video

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


# ---- the file, its check, and what runs it ----------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file that upsamples scores, with its scores as an output."""
    path = tmp_path_factory.mktemp("made") / "scores.onnx"
    onnx.save(fold(plain_segmenter(C), card(C), Strength(statistics(C, 3), "a run", 0.5), ALL), path)
    return path


@pytest.mark.parametrize("options", [{}, {"correct": False}, {"runtime_tau": True}, {"tau": 0.0}])
def test_a_file_is_made_checked_and_made_back(made, options, tmp_path):
    export_onnx(made, tmp_path / "p.onnx", upsample="probabilities", scores=True, **options)
    model = onnx.load(tmp_path / "p.onnx")
    assert graph_info(model, "").card.upsampling == Upsampling("probabilities")
    check = check_file(tmp_path / "p.onnx", None, None)
    assert check.passed and check.verification.near_ties < 0.1, check.report()
    assert "Probabilities (softmax where not corrected), 4 times" in describe(
        tmp_path / "p.onnx", model, (64, 64)
    )
    export_onnx(tmp_path / "p.onnx", tmp_path / "again.onnx", scores=True, **options)
    assert graph_info(onnx.load(tmp_path / "again.onnx"), "").card.upsampling.of == "probabilities"
    export_onnx(tmp_path / "p.onnx", tmp_path / "back.onnx", upsample="scores", scores=True, **options)
    export_onnx(made, tmp_path / "plain.onnx", scores=True, **options)
    back, plain = (onnx.load(tmp_path / f"{name}.onnx") for name in ("back", "plain"))
    for model in (back, plain):  # which names the file that it was made from
        model.metadata_props.remove(next(p for p in model.metadata_props if p.key == Key.VERIFICATION))
    assert same_bytes(back, plain)


def test_half_precision_passes_its_gates_and_keeps_the_ends_in_float32(made, tmp_path):
    export_onnx(made, tmp_path / "half.onnx", upsample="probabilities", precision="fp16")
    model = onnx.load(tmp_path / "half.onnx")
    types = {
        v.name: v.type.tensor_type.elem_type
        for v in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    assert types["blda/labels_probabilities_of_odds"] == onnx.TensorProto.FLOAT
    assert check_file(tmp_path / "half.onnx", made, None).passed


@pytest.mark.parametrize("wrong", ["scores for probabilities", "coordinates", "sigmoid"])
def test_a_file_that_upsamples_otherwise_than_it_says_does_not_pass(wrong):
    claims = probable(card(C))
    does = {
        "scores for probabilities": card(C),
        "coordinates": probable(card(C), "softmax", "align_corners"),
        "sigmoid": probable(card(C), "sigmoid"),
    }[wrong]
    strength = None if wrong == "sigmoid" else Strength(statistics(C, 3), "", 0.5)
    model = fold(plain_segmenter(C), does, strength)
    for key in (Key.UPSAMPLING, Key.SCHEMA):
        for entry in [p for p in model.metadata_props if p.key == key]:
            model.metadata_props.remove(entry)
    said = to_metadata(replace(graph_info(fold(plain_segmenter(C), claims, strength), ""), card=claims))
    for key in (Key.UPSAMPLING, Key.SCHEMA):
        model.metadata_props.add(key=key, value=said[key])
    result = verify(model, "file", bare_reference(model, "file"), "it", [*pictures(2, 128, 128)], "noise")
    assert not result.passed and "labels are others" in result.report()


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_a_band_of_rows_is_enough(coordinates):
    model = fold(
        plain_segmenter(C), probable(card(C), "softmax", coordinates), Strength(statistics(C, 3), "", 0.5)
    )
    reference = bare_reference(model, "file")
    frames = [*pictures(3, 128, 128)]
    result = verify(model, "file", reference, "it", frames, "noise", most=C * C * 32 * 8)
    assert result.passed and "a band of rows of each" in result.report(), result.report()


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_labels_of_logits_in_torch_are_the_file_s(coordinates, tau):
    """As `export eval` computes them, of a model with statistics beside it."""
    from adapt.balance.correction import shift_table

    stats = excluding(statistics(C, 3), torch.arange(C) == 2)
    image, of = pictures(1, 64, 48), probable(card(C), "softmax", coordinates)
    labels = run(fold(plain_segmenter(C), of, Strength(stats, "", tau)), image)["labels"][0]
    logits = torch.from_numpy(logits_of(image)[None])
    assert (labels_of(logits, of, (64, 48), shift_table(stats), tau) == labels).mean() > 0.99


def test_files_that_upsample_scores_are_what_they_were(made):
    known = metadata_of(onnx.load(made))
    assert known[Key.SCHEMA] == "1" and Key.UPSAMPLING not in known and "upsampling" not in known[Key.CARD]


def test_where_nothing_is_upsampled_it_is_refused(tmp_path):
    path = tmp_path / "full.onnx"
    onnx.save(fold(logits_as_pixels(3), replace(card(3), stride=1, output_stride=1), None), path)
    with pytest.raises(InputError, match=r"has nothing to upsample: the logits of .*full\.onnx are as large"):
        export_onnx(path, tmp_path / "out.onnx", correct=False, upsample="probabilities")


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("tau", [None, 0.0])
def test_serve_makes_the_same_labels_of_scores(coordinates, tau, tmp_path):
    path = tmp_path / "model.onnx"
    stats = excluding(statistics(C, 3), torch.arange(C) == 2)
    of = probable(card(C), "softmax", coordinates)
    onnx.save(fold(plain_segmenter(C), of, Strength(stats, "", 0.5, runtime=True), ALL), path)
    segmenter = Segmenter(path)
    for size in ((128, 96), (101, 70), (64, 64)):
        said = segmenter(pictures(1, *size)[0], tau, extras=True)
        again = segmenter.labels_of_scores(said.scores, *size, tau)
        assert (again != said.labels).mean() < 1e-3 and again.dtype == said.labels.dtype


def still(path: Path, picture: np.ndarray) -> Path:
    """A lossless video of one picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "bgr0"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("tau", [None, 0.0])
def test_what_is_smoothed_over_time_is_upsampled_alike(tau, tmp_path):
    path, picture = tmp_path / "model.onnx", pictures(1, 64, 96)[0]
    strength = Strength(statistics(C, 3), "", 0.5, runtime=True)
    onnx.save(fold(plain_segmenter(C), probable(card(C)), strength, ALL), path)
    segmenter, video = Segmenter(path), still(tmp_path / "in.mkv", picture)
    segment_video(segmenter, video, tmp_path / "out.mkv", output="labels", smooth=0.5, tau=tau)
    with av.open(str(tmp_path / "out.mkv")) as container:
        smoothed = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    own = segmenter(picture, tau, extras=True)
    assert all((labels != own.labels).mean() < 1e-3 for labels in smoothed) and len(smoothed) == 4
    other = segmenter.labels_of_scores(own.scores, 64, 96, 0.0 if tau is None else 0.5)
    assert (other != own.labels).mean() > 0.01, "which strength scores are of is told"


def test_tiles_say_what_the_whole_picture_says(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(fold(plain_segmenter(C), probable(card(C)), Strength(statistics(C, 3), "", 0.5), ALL), path)
    picture = pictures(1, 200, 300)[0]
    whole, tiled = (Segmenter(path, tile=tile)(picture).labels for tile in (None, 88))
    assert (whole != tiled).mean() < 1e-3
