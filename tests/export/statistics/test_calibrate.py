"""Anybody's segmenter: whatever it takes and gives, its statistics are the same, and they make it better."""

import json
import shutil
from pathlib import Path

import foreign_segmenters as foreign
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from calibrated_models import NORMALISED, calibrated, call, folded, images_of, oracle_logits
from foreign_segmenters import MEAN, STD, write_pictures, write_segmenter
from onnx import TensorProto

from adapt.balance.bins import Extent, fresh
from adapt.balance.histogram import counted_in_all, logit_histogram
from adapt.balance.logit_statistics import fit_shift_statistics
from adapt.data.classes import load_classes
from adapt.data.datasets import LabelledFolder
from adapt.evaluation.scores import Scores, confusion_matrix
from export.fold.folded import graph_info
from export.sources.statistics_file import read_statistics
from export.statistics.gather import EM_STEPS, MIN_PIXELS, balanced_labels
from serve import Segmenter


def scores(file: Path, folder: Path, tau: float | None) -> Scores:
    data = LabelledFolder(folder, load_classes(folder / "classes.yaml"))
    model = Segmenter(file)
    pairs = (data[i] for i in range(len(data)))
    return Scores.from_confusion(
        sum(confusion_matrix(s.labels, model(s.image, tau).labels, 4) for s in pairs)
    )


def test_statistics_are_those_of_the_models_own_balanced_labels(plain, target):
    logits = np.concatenate([oracle_logits(image).reshape(4, -1) for image in images_of(target)], 1)
    share = np.bincount(logits.argmax(0), minlength=4) / logits.shape[1]
    unit = np.subtract(*np.percentile(logits, [75, 25], axis=1)).mean() / 4
    labels = (logits - 0.1 * unit * np.log(share)[:, None]).argmax(0)
    pixels = torch.tensor(logits, dtype=torch.float32)[None, :, None]
    bins = fresh(Extent(pixels.min(), pixels.max()))
    rows = logit_histogram(pixels, torch.tensor(labels)[None, None], bins=bins)
    expected = fit_shift_statistics(
        rows, rows.anchors("classes", MIN_PIXELS), min_pixels=MIN_PIXELS, steps=EM_STEPS
    )
    found, record = read_statistics(plain[1])
    for name, value in expected.state().items():
        torch.testing.assert_close(found.state()[name], value, rtol=1e-3, atol=1e-3)
    assert record.pixels == tuple(np.bincount(labels, minlength=4))
    assert record.classes == foreign.NAMES
    assert record.palette == tuple(map(tuple, foreign.COLOURS.tolist()))


def test_calibrating_without_labels_balances_a_biased_model(plain, tmp_path):
    """On pictures that it was not calibrated on."""
    others = write_pictures(tmp_path / "others", seed=1)
    off, on = scores(plain[2], others, 0.0), scores(plain[2], others, None)
    assert on.mean_iou > off.mean_iou + 0.01
    assert on.mean_accuracy > off.mean_accuracy + 0.01
    assert on.sum_abs_bias < off.sum_abs_bias - 0.05


def test_without_strength_the_file_says_what_the_model_says(plain, target):
    session = onnxruntime.InferenceSession(plain[0], providers=["CPUExecutionProvider"])
    deployed = Segmenter(plain[2])
    for image in images_of(target)[:2]:
        pixels = ((image / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]
        logits = torch.from_numpy(session.run(None, {"picture": pixels})[0])
        full = torch.nn.functional.interpolate(logits, scale_factor=4.0, mode="bilinear")
        np.testing.assert_array_equal(deployed(image, 0.0).labels, full.argmax(1)[0])


SHAPES = {
    "BGR": ({"order": "BGR"}, (*NORMALISED, "--channel-order", "bgr")),
    "NHWC in": ({"layout": "NHWC"}, NORMALISED),
    "NHWC in and out, BGR": (
        {"layout": "NHWC", "out_layout": "NHWC", "order": "BGR"},
        (*NORMALISED, "--channel-order", "BGR"),
    ),
    "normalises pixels up to 1": ({"inside": 1}, ()),
    "normalises pixels up to 255": ({"inside": 255}, ()),
    "the same, said": ({"inside": 255}, ("--mean", 0, "--std", 1, "--range", 255)),
    "uint8": ({"inside": 255, "dtype": TensorProto.UINT8, "layout": "NHWC"}, ()),
    "softmax at the end": ({"tail": "Softmax"}, NORMALISED),
    "labels at the end": ({"tail": "ArgMax"}, (*NORMALISED, "--output", "value0")),
    "two outputs": ({"tail": "two"}, (*NORMALISED, "--output", "value0")),
    "opset 13": ({"opset": 13}, NORMALISED),
    "one size, one picture": ({"size": (64, 96), "batch": 1}, NORMALISED),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_model_in_another_shape_gives_the_same_file(plain, target, tmp_path, shape):
    settings, options = SHAPES[shape]
    model = write_segmenter(tmp_path / "model.onnx", **settings)
    stats = calibrated(model, target, *options)
    for name, value in read_statistics(plain[1])[0].state().items():
        # Rounding moves the ends of the range a little, and a logit or two into the bin beside theirs.
        torch.testing.assert_close(read_statistics(stats)[0].state()[name], value, rtol=3e-2, atol=1e-2)
    ours, theirs = Segmenter(folded(model, stats)), Segmenter(plain[0].with_name("fixed.onnx"))
    images = np.stack(images_of(target))[:3]
    assert np.mean(ours(images).labels == theirs(images).labels) > 0.9995


def test_a_model_that_upsamples_itself_is_corrected_at_its_own_stride(target, tmp_path):
    model = write_segmenter(tmp_path / "model.onnx", upsample=True, opset=13)
    stats = calibrated(model, target, *NORMALISED, "--classes", target / "classes.yaml")
    assert read_statistics(stats)[1].outlet.output_stride == 1
    file = folded(model, stats, "--runtime-tau")
    info = graph_info(onnx.load(file), "")
    assert info.card.output_stride == 1
    assert info.correction is not None and info.correction.tau == 0.5  # never adapted: more bias to correct
    off, on = scores(file, target, 0.0), scores(file, target, None)
    assert on.mean_iou > off.mean_iou and on.sum_abs_bias < off.sum_abs_bias


def test_odd_pictures_and_a_size_of_ones_own(tmp_path):
    """Sizes that are no multiple of the stride: padded, and what is padded is not counted."""
    odd = write_pictures(tmp_path / "odd", count=2, size=(80, 112))
    model = write_segmenter(tmp_path / "model.onnx")
    stats = calibrated(model, odd, *NORMALISED)
    assert sum(read_statistics(stats)[1].pixels) == 2 * 20 * 28
    model = write_segmenter(tmp_path / "smaller.onnx")
    smaller = calibrated(model, odd, *NORMALISED, "--size", "70x100", "--stride", 4)
    assert (
        sum(read_statistics(smaller)[1].pixels) == 2 * 17 * 25
    )  # the centres of the last row lie on the padding
    assert graph_info(onnx.load(folded(model, smaller)), "").card.size == (70, 100)


def test_a_labelled_source_gives_the_anchors(plain, target, tmp_path):
    source = write_pictures(tmp_path / "source", seed=2)
    model = Path(shutil.copy(plain[0], tmp_path))  # statistics land beside it, where those of others lie
    stats = calibrated(model, target, *NORMALISED, "--source", source)
    data = LabelledFolder(source, load_classes(source / "classes.yaml"))
    logits = [torch.tensor(oracle_logits(data[i].image), dtype=torch.float32) for i in range(len(data))]
    labels = [torch.from_numpy(data[i].labels[2::4, 2::4].copy()) for i in range(len(data))]
    pooled = counted_in_all((f[None], y[None]) for f, y in zip(logits, labels, strict=True))
    expected = fit_shift_statistics(pooled, pooled.anchors("classes", MIN_PIXELS), steps=EM_STEPS).anchors
    found, record = read_statistics(stats)
    for ours, theirs in zip(found.anchors, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert "6 labelled ones of source" in record.source
    torch.testing.assert_close(found.rows.means, read_statistics(plain[1])[0].rows.means)


def test_further_rounds_label_with_the_corrected_model(plain, target, tmp_path):
    model = write_segmenter(tmp_path / "model.onnx")
    before, after = (
        read_statistics(plain[1])[1],
        read_statistics(calibrated(model, target, *NORMALISED, "--rounds", 3))[1],
    )
    # The ground, of which the model misses half, and the sky, which it takes much of it for.
    assert after.pixels[0] > before.pixels[0] and after.pixels[1] < before.pixels[1]
    assert "in 3 rounds" in after.source


def test_a_video_is_a_target(plain, tmp_path):
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 96, 64
        for image in images_of(write_pictures(tmp_path / "frames", count=10)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    model = write_segmenter(tmp_path / "model.onnx")
    record = read_statistics(calibrated(model, tmp_path / "clip.mp4", *NORMALISED, "--frames", 4))[1]
    assert record.source.startswith("4 pictures of clip.mp4") and sum(record.pixels) == 4 * 16 * 24


def test_a_file_of_ours_is_calibrated_for_another_place(plain, tmp_path):
    """It needs no options, and its own statistics are replaced."""
    elsewhere = write_pictures(tmp_path / "elsewhere", seed=3)
    ours = tmp_path / "ours.onnx"
    ours.write_bytes(plain[2].read_bytes())
    stats = calibrated(ours, elsewhere)
    file = folded(ours, stats)
    assert "pictures of elsewhere" in graph_info(onnx.load(file), "").correction.statistics
    assert graph_info(onnx.load(file), "").card.classes == foreign.NAMES
    result = call("calibrate", ours, "--target", elsewhere, *NORMALISED, "-o", tmp_path / "x.safetensors")
    assert result.exit_code == 2 and "says itself what it takes" in result.output


@pytest.mark.filterwarnings("ignore")  # the exporter tells how old it is, at length
def test_a_model_of_transformers_exported_by_plain_torch(target, tmp_path):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=5,
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=16,
    )
    network = SegformerForSemanticSegmentation(config).eval()
    network.decode_head.classifier.weight.data *= 30  # a random network hardly tells one pixel from another

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.network(pixels).logits

    axes = {"pixels": {0: "n", 2: "h", 3: "w"}, "logits": {0: "n", 2: "a", 3: "b"}}
    model = tmp_path / "segformer.onnx"
    torch.onnx.export(
        Logits().eval(),
        (torch.zeros(2, 3, 64, 96),),
        model,
        dynamo=False,  # the exporter that made most of the files there are
        opset_version=17,
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_axes=axes,
    )
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(c): f"thing {c}" for c in range(5)}}))
    preprocessing = {"do_normalize": True, "image_mean": list(MEAN), "image_std": list(STD)}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    stats = calibrated(model, target)
    card = graph_info(onnx.load(folded(model, stats, "--tau", 1)), "").card
    assert card.classes[4] == "thing 4" and len(set(card.palette)) == 5
    assert (card.mean, card.std, card.stride, card.output_stride) == (MEAN, STD, 32, 4)


def test_balanced_labels_favour_the_rare_and_invent_nothing():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 1, 5000, generator=rng) + torch.tensor([2.0, 0.0, 0.0, -50.0]).view(1, 4, 1, 1)
    plain, balanced = logits.argmax(1), balanced_labels(logits)
    assert (balanced == 0).sum() < (plain == 0).sum()
    assert (balanced == 3).sum() == 0
    assert torch.equal(balanced_labels(logits, 0.0), plain)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(order[balanced_labels(logits[:, order])], balanced)


def test_classes_with_too_few_pixels_stay_uncorrected(tmp_path):
    few = write_pictures(tmp_path / "few", count=1, size=(64, 128))
    model = write_segmenter(tmp_path / "model.onnx")
    out = tmp_path / "stats.safetensors"
    result = call("calibrate", model, "--target", few, *NORMALISED, "-o", out)
    assert result.exit_code == 0, result.output
    assert f"uncorrected, with fewer than {MIN_PIXELS} pixels: class3" in result.output
    assert graph_info(onnx.load(folded(model, out)), "").correction.uncorrected == ("class3",)


def test_what_speaks_against_the_correction_is_said(tmp_path, monkeypatch):
    for place in ("calibrate", "checks"):
        monkeypatch.setattr(f"export.statistics.{place}.doubt", lambda statistics, **_: "it may harm")
    few = write_pictures(tmp_path / "few", count=1, size=(64, 128))
    model = write_segmenter(tmp_path / "model.onnx")
    result = call("calibrate", model, "--target", few, *NORMALISED, "-o", tmp_path / "stats.safetensors")
    assert result.exit_code == 0, result.output
    assert "warning: it may harm; a few labelled pictures tell" in result.output
    balanced = call("balance", model, "--target", few, *NORMALISED, "-o", tmp_path / "balanced.onnx")
    assert balanced.exit_code == 0, balanced.output
    assert "they are corrected, but it may harm" in (tmp_path / "balanced.html").read_text()
