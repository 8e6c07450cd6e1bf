"""Files that upsample probabilities: made, checked, made back, and run by what serves them."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import onnx
import pytest
import torch
from onnx_segmenters import card, logits_as_pixels, pictures, plain_segmenter, same_bytes, statistics
from onnx_segmenters import run as outputs

from adapt.balance.correction import excluding, shift_table
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
from serve.video.segment import segment_video

C = 5
COORDINATES = ("half_pixel", "align_corners", "asymmetric")
ALL = Extras(scores=True, uncorrected_labels=True)


def probable(of: Card, kind: str = "softmax", coordinates: str = "half_pixel") -> Card:
    return replace(of, upsampling=Upsampling("probabilities", kind, coordinates))


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
    assert "probabilities (softmax where not corrected), 4 times" in describe(
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
    stats = excluding(statistics(C, 3), torch.arange(C) == 2)
    image, of = pictures(1, 64, 48), probable(card(C), "softmax", coordinates)
    labels = outputs(fold(plain_segmenter(C), of, Strength(stats, "", tau)), image)["labels"][0]
    logits = torch.from_numpy(outputs(fold(plain_segmenter(C), card(C), None, ALL), image)["scores"])
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


def test_of_a_run_too_against_its_network_in_torch(run, tmp_path):
    out = tmp_path / "model.onnx"
    export_onnx(run, out, upsample="probabilities", tau=0.5)
    assert graph_info(onnx.load(out), "").card.upsampling.of == "probabilities"
    assert check_file(out, run, None).passed
    scores = tmp_path / "scores.onnx"
    export_onnx(run, scores, tau=0.5)
    frame = pictures(1, 96, 128)[0]
    assert (Segmenter(out)(frame).labels != Segmenter(scores)(frame).labels).any()
