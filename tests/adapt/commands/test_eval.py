"""`adapt eval`: what it prints, writes and refuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result

from adapt.cli import main
from adapt.data.domains import open_labelled
from adapt.evaluation.prediction import predict
from adapt.evaluation.scores import Scores, confusion_matrix
from adapt.model.window import Window
from adapt.reporting.confusion import draw_confusions, row_shares
from adapt.run.run import load_run


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


@pytest.fixture(scope="module")
def run(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eval") / "run"
    result = adapt(*tiny.train_arguments(domains, folder, "method.balance=posthoc"))
    assert result.exit_code == 0, result.output
    return folder


def test_json_holds_the_scores_and_what_they_come_from(domains: Path, run: Path, tmp_path: Path) -> None:
    data, file = domains / "target_eval", tmp_path / "scores.json"
    result = adapt("eval", str(run), "--data", str(data), "--tau", "0", "--tau", "0.7", "--json", str(file))
    assert result.exit_code == 0, result.output
    written = json.loads(file.read_text())
    assert written["classes"] == ["ground", "sky", "box"]
    confusion = np.array(written["tau"]["0"].pop("confusion"))
    opened = load_run(run)
    pictures = open_labelled(data, opened.classes, None)
    segmenter = opened.segmenter()
    expected = sum(
        confusion_matrix(truth, predict(segmenter, image), 3)
        for image, truth in (pictures[index] for index in range(len(pictures)))
    )
    assert (confusion == expected).all()
    assert written["tau"]["0"] == Scores.from_confusion(confusion).to_dict()
    assert set(written["tau"]) == {"0", "0.7"}


def test_windows_are_those_of_the_prediction(domains: Path, run: Path, tmp_path: Path) -> None:
    data, file = domains / "target_eval", tmp_path / "scores.json"
    words = ("--tau", "0", "--window", "32x32", "--overlap", "0.25", "--json", str(file))
    result = adapt("eval", str(run), "--data", str(data), "--teacher", *words)
    assert result.exit_code == 0, result.output
    opened = load_run(run)
    pictures = open_labelled(data, opened.classes, None)
    teacher = opened.segmenter("teacher")
    expected = sum(
        confusion_matrix(truth, predict(teacher, image, window=Window((32, 32), 0.25)), 3)
        for image, truth in (pictures[index] for index in range(len(pictures)))
    )
    assert json.loads(file.read_text())["tau"]["0"]["confusion"] == expected.tolist()


def test_confusion_picture(domains: Path, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "confusion.png"
    result = adapt("eval", str(run), "--data", str(domains / "target_eval"), "--confusion", str(file))
    assert result.exit_code == 0, result.output
    assert f"wrote {file}" in result.output
    picture = cv2.imread(str(file))
    assert picture is not None and picture.std() > 1


def test_what_is_there_is_not_overwritten_unasked(domains: Path, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text("mine")
    words = ("eval", str(run), "--data", str(domains / "target_eval"), "--tau", "0", "--json", str(file))
    refused = adapt(*words)
    assert refused.exit_code == 2 and "exists; choose" in refused.output and file.read_text() == "mine"
    assert adapt(*words, "--force").exit_code == 0
    assert json.loads(file.read_text())["classes"]
    assert adapt(*words[:-1], str(tmp_path / "new" / "scores.json")).exit_code == 0
    assert json.loads((tmp_path / "new" / "scores.json").read_text())["classes"]
    nowhere = adapt(*words[:-1], str(file / "scores.json"))
    assert nowhere.exit_code == 2 and "is a file, so nothing can be written below" in nowhere.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--window", "40x32"), "multiples of 32; give 32x32"),
        (("--window", "512"), "not a size such as 512x1024"),
        (("--overlap", "0.5"), "give --window"),
    ],
)
def test_windows_that_make_no_sense(domains: Path, run: Path, words: tuple[str, ...], said: str) -> None:
    result = adapt("eval", str(run), "--data", str(domains / "target_eval"), *words)
    assert result.exit_code == 2 and said in result.output


def test_an_exported_file_is_sent_on(tmp_path: Path) -> None:
    result = adapt("eval", "model.onnx", "--data", str(tmp_path))
    assert result.exit_code == 2 and "blda export eval model.onnx" in result.output


def test_rows_of_a_confusion_are_shares_of_the_truth() -> None:
    shares = row_shares(np.array([[3, 1, 0], [0, 0, 0], [1, 1, 2]]))
    assert shares[0].tolist() == [0.75, 0.25, 0] and shares[2].tolist() == [0.25, 0.25, 0.5]
    assert np.isnan(shares[1]).all()


@pytest.mark.parametrize("classes", [2, 19, 60])
def test_confusion_pictures_of_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    confusion = np.random.default_rng(0).integers(1, 100, (classes, classes)) + 500 * np.eye(
        classes, dtype=int
    )
    confusion[1] = 0
    names = [f"a class called {index}" for index in range(classes)]
    draw_confusions(names, {"uncorrected": confusion, "tau 0.2": confusion}, tmp_path / "c.png")
    height, width, _ = cv2.imread(str(tmp_path / "c.png")).shape
    assert classes * 25 < height < width < 6000
