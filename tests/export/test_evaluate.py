"""`blda export eval`: a file scores as the run that it came from, and what it can't do is said."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner, Result

from adapt.cli import main as adapt_main
from adapt.data.domains import open_labelled
from adapt.data.images import resize_image, resize_labels
from adapt.evaluation.prediction import labels_of_logits, picture_logits
from adapt.evaluation.scores import confusion_matrix
from adapt.run.run import load_run
from export.cli.commands import main
from serve.inference.segmenter import Segmenter

TIE = 1e-3
"""Where the best two logits are closer than this, either label is right: float32 sums in another order."""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def files(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plain.onnx: nothing but labels. both.onnx: also uncorrected labels. slider.onnx: any strength."""
    folder = tmp_path_factory.mktemp("files")
    for name, words in (
        ("plain", ("--without-correction",)),
        ("both", ("--tau", "0.7", "--uncorrected-labels")),
        ("slider", ("--tau", "0.2", "--runtime-tau")),
    ):
        result = call("onnx", run, "-o", folder / f"{name}.onnx", *words)
        assert result.exit_code == 0, result.output
    return folder


def scores(result: Result, file: Path) -> dict[str, np.ndarray]:
    """Confusion matrices by strength, from the JSON that a command wrote."""
    assert result.exit_code == 0, result.output
    return {tau: np.array(part["confusion"]) for tau, part in json.loads(file.read_text())["tau"].items()}


def test_a_file_scores_as_its_run(domains: Path, run: Path, files: Path, tmp_path: Path) -> None:
    data = domains / "target_eval"
    words = ["eval", str(run), "--data", str(data), "--tau", "0"]
    said = CliRunner().invoke(adapt_main, [*words, "--json", str(tmp_path / "run.json")])
    of_run = scores(said, tmp_path / "run.json")
    result = call("eval", files / "both.onnx", "--data", data, "--json", tmp_path / "file.json")
    of_file = scores(result, tmp_path / "file.json")
    assert set(of_file) == {"0", "0.7"} and "mIoU" in result.output
    assert np.abs(of_file["0"] - of_run["0"]).sum() / 2 <= near_ties(run, data)
    # corrected, it is what the file says: how near that is to the exact correction, `export verify` tells
    assert (of_file["0.7"] == served(run, data, files / "both.onnx", None)).all()
    assert (of_file["0.7"] != of_file["0"]).any()


def served(run: Path, data: Path, file: Path, tau: float | None) -> np.ndarray:
    """Confusion of the labels that a file gives to those who serve it."""
    dataset, segmenter = open_labelled(data, load_run(run).classes, None), Segmenter(file)
    samples = [dataset[index] for index in range(len(dataset))]
    return np.sum([confusion_matrix(s.labels, segmenter(s.image, tau).labels, 3) for s in samples], axis=0)


def test_uncorrected_labels_are_the_runs_to_the_pixel(domains: Path, run: Path, files: Path) -> None:
    """But where two classes are as good as equal."""
    opened, segmenter = load_run(run), Segmenter(files / "both.onnx")
    dataset = open_labelled(domains / "target_eval", opened.classes, None)
    network = opened.segmenter()
    for index in range(len(dataset)):
        image = dataset[index].image
        logits = picture_logits(network, image)
        expected = labels_of_logits(logits, network.output_stride, image.shape[:2], None, 0.0)
        found = segmenter(image, extras=True).uncorrected_labels
        assert found is not None
        assert not ((found != expected) & ~tied(logits, network.output_stride, image)).any()


def near_ties(run: Path, data: Path) -> int:
    opened = load_run(run)
    network, dataset = opened.segmenter(), open_labelled(data, opened.classes, None)
    images = [dataset[index].image for index in range(len(dataset))]
    return sum(
        int(tied(picture_logits(network, image), network.output_stride, image).sum()) for image in images
    )


def tied(logits: torch.Tensor, stride: int, image: np.ndarray) -> np.ndarray:
    up = torch.nn.functional.interpolate(logits, scale_factor=float(stride), mode="bilinear")
    best, second = up[0, :, : image.shape[0], : image.shape[1]].topk(2, 0).values
    close: np.ndarray = (best - second < TIE).numpy()
    assert close.mean() < 0.05, "so many ties that nothing would be tested"
    return close


def test_a_file_with_any_strength_is_scored_at_those_wanted(
    domains: Path, run: Path, files: Path, tmp_path: Path
) -> None:
    words = ("--data", domains / "target_eval", "--tau", "0", "--tau", "0.7", "--json")
    found = scores(call("eval", files / "slider.onnx", *words, tmp_path / "s.json"), tmp_path / "s.json")
    for tau in (0.0, 0.7):
        expected = served(run, domains / "target_eval", files / "slider.onnx", tau)
        assert (found[f"{tau:g}"] == expected).all()
    assert (found["0"] != found["0.7"]).any()
    default = scores(
        call("eval", files / "slider.onnx", *words[:2], "--json", tmp_path / "d.json"), tmp_path / "d.json"
    )
    assert set(default) == {"0", "0.2"}


def test_pictures_are_brought_to_a_size_and_judged_at_their_own(
    domains: Path, run: Path, files: Path, tmp_path: Path
) -> None:
    data, out, size = domains / "target_eval", tmp_path / "scores.json", (64, 96)
    result = call("eval", files / "plain.onnx", "--data", data, "--size", "64x96", "--json", out)
    (confusion,) = scores(result, out).values()
    assert confusion.sum() == 6 * tiny.SERVED_SIZE[0] * tiny.SERVED_SIZE[1]
    dataset, segmenter = open_labelled(data, load_run(run).classes, None), Segmenter(files / "plain.onnx")
    expected = np.zeros((3, 3), np.int64)
    for image, truth in (dataset[index] for index in range(len(dataset))):
        labels = segmenter(resize_image(image, size)).labels
        expected += confusion_matrix(truth, resize_labels(labels, tiny.SERVED_SIZE), 3)
    assert (confusion == expected).all()


def test_with_statistics_any_network_is_scored(domains: Path, run: Path, files: Path, tmp_path: Path) -> None:
    """The uncorrected column is the run's; the others are corrected with what the calibration found."""
    data, stats = domains / "target_eval", tmp_path / "stats.safetensors"
    foreign = tmp_path / "theirs.onnx"
    export_bare(run, foreign)
    refused = call("eval", foreign, "--data", data)
    assert refused.exit_code == 2 and "blda export calibrate" in refused.output
    normalised = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    result = call(
        *("calibrate", foreign, "--target", domains / "target", "-o", stats, *normalised, "--stride", 32),
        *("--classes", domains / "classes.yaml"),
    )
    assert result.exit_code == 0, result.output
    out = tmp_path / "scores.json"
    words = ("--data", data, "--json")
    found = scores(call("eval", foreign, "--stats", stats, *words, out), out)
    assert set(found) == {"0", "0.5", "1"}
    plain = scores(call("eval", files / "plain.onnx", *words, tmp_path / "p.json"), tmp_path / "p.json")
    assert np.abs(found["0"] - plain["0"]).sum() / 2 <= near_ties(run, data)
    assert (found["1"] != found["0"]).any()


def export_bare(run: Path, path: Path) -> None:
    """The network alone, as others would export it: normalised pixels in, logits out, no metadata of ours."""
    import onnx

    from export.sources.network import logits_graph

    model = logits_graph(load_run(run).segmenter())
    del model.metadata_props[:]
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("file", "words", "said"),
    [
        ("both.onnx", ("--tau", "0.5"), "has labels of tau 0 and 0.7 only, not of 0.5; leave --tau out"),
        ("plain.onnx", ("--tau", "1"), "--runtime-tau"),
        ("none.onnx", (), "none.onnx"),
    ],
)
def test_what_a_file_cannot_do_is_said(
    domains: Path, files: Path, file: str, words: tuple[str, ...], said: str
) -> None:
    result = call("eval", files / file, "--data", domains / "target_eval", *words)
    assert result.exit_code == 2 and said in result.output


def test_a_run_is_sent_on(domains: Path, run: Path) -> None:
    result = call("eval", run, "--data", domains / "target_eval")
    assert result.exit_code == 2 and "adapt eval" in result.output


def test_nothing_is_overwritten_unasked(domains: Path, files: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("mine")
    words = ("eval", files / "plain.onnx", "--data", domains / "target_eval", "--json", tmp_path / "s.json")
    assert call(*words).exit_code == 2 and (tmp_path / "s.json").read_text() == "mine"
    assert call(*words, "--force", "--confusion", tmp_path / "c.png").exit_code == 0
    assert (tmp_path / "c.png").is_file()
