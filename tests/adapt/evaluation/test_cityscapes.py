"""Evaluation agrees with Cityscapes' own scripts (the package cityscapesScripts) on made-up predictions."""

import copy
from pathlib import Path

import dataset_trees as trees
import numpy as np
import pytest

from adapt.data.classes import IGNORE, ClassList
from adapt.data.domains import open_labelled
from adapt.data.known_classes import CITYSCAPES19, CITYSCAPES19_TRAIN_IDS, SYNTHIA16
from adapt.evaluation.scores import Scores, confusion_matrix, format_scores

official = pytest.importorskip(
    "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
    reason="`make test` installs cityscapesScripts",
)


def official_scores(pairs: list[tuple[Path, Path]]) -> tuple[dict[str, float], float]:
    """IoU of each class, and their mean, of (prediction, ground truth) files in label ids."""
    settings = copy.copy(official.args)
    settings.evalInstLevelScore = False
    settings.quiet = True
    confusion = official.generateMatrix(settings)
    instances = official.generateInstanceStats(settings)
    for prediction, truth in pairs:
        official.evaluatePair(str(prediction), str(truth), confusion, instances, {}, settings)
    iou = {
        official.id2label[label].name: official.getIouScoreForLabel(label, confusion, settings)
        for label in settings.evalLabels
    }
    return iou, official.getScoreAverage(iou, settings)


def our_scores(root: Path, classes: ClassList, predictions: list[np.ndarray]) -> Scores:
    dataset = open_labelled(root, classes, None)
    confusion = sum(
        confusion_matrix(dataset[i].labels, prediction, len(classes))
        for i, prediction in enumerate(predictions)
    )
    return Scores.from_confusion(np.asarray(confusion))


def make(
    root: Path, truth_ids: list[int], pictures: int = 3
) -> tuple[list[np.ndarray], list[tuple[Path, Path]]]:
    """A val split of random labels, and predictions that are right on about half of the pixels."""
    trees.cityscapes(root, val=pictures)
    rng = np.random.default_rng(5)
    predictions, pairs = [], []
    for i in range(pictures):
        truth = rng.choice(truth_ids, trees.SIZE).astype(np.uint8)
        stem = f"lindau_{i:06}_000019"
        labels = trees.write(root / "gtFine/val/lindau" / f"{stem}_gtFine_labelIds.png", truth)
        right = CITYSCAPES19.code.encode(truth)
        guess = rng.integers(0, 19, trees.SIZE)
        train_ids = np.where((right == IGNORE) | (rng.random(trees.SIZE) < 0.5), guess, right)
        predictions.append(train_ids)
        written = np.array(CITYSCAPES19.ids, np.uint8)[train_ids]
        pairs.append((trees.write(root / "results" / f"{stem}_pred.png", written), labels))
    return predictions, pairs


def test_iou_per_class_and_mean_are_the_official_ones(tmp_path):
    predictions, pairs = make(tmp_path, truth_ids=list(range(34)))
    expected, expected_mean = official_scores(pairs)
    scores = our_scores(tmp_path, CITYSCAPES19, predictions)
    for name, iou in zip(CITYSCAPES19.names, scores.iou, strict=True):
        assert iou == pytest.approx(expected[name], abs=1e-9), name
    assert scores.mean_iou == pytest.approx(expected_mean, abs=1e-9)
    assert 0.1 < expected_mean < 0.9  # there is something to compare


def test_a_class_that_is_not_there_costs_nothing_by_itself(tmp_path):
    """Departure: the official script gives 0 to a class that is only ever predicted; ours leaves it out.

    On Cityscapes' validation set all classes occur, and both agree; on a part of it, the mean stays one over
    the classes that are there.
    """
    truth_ids = [value for value in range(34) if value != 31]  # no train
    predictions, pairs = make(tmp_path, truth_ids)
    expected, _ = official_scores(pairs)
    scores = our_scores(tmp_path, CITYSCAPES19, predictions)
    assert expected["train"] == 0
    assert np.isnan(scores.iou[CITYSCAPES19.names.index("train")])
    others = [expected[name] for name in CITYSCAPES19.names if name != "train"]
    assert scores.mean_iou == pytest.approx(np.mean(others), abs=1e-9)


def test_our_table_of_classes_is_the_official_one():
    evaluated = [label for label in official.labels if not label.ignoreInEval]
    assert CITYSCAPES19.names == tuple(label.name for label in evaluated)
    assert CITYSCAPES19.ids == tuple(label.id for label in evaluated)
    assert CITYSCAPES19.palette == tuple(label.color for label in evaluated)
    assert CITYSCAPES19_TRAIN_IDS.ids == tuple(label.trainId for label in evaluated)
    void = {label.id for label in official.labels if label.ignoreInEval and label.id >= 0}
    assert {value for value in CITYSCAPES19.ignore if isinstance(value, int)} == void | {34}
    colors = {label.color for label in official.labels} - {(0, 0, 0)}
    assert colors <= set(CITYSCAPES19.code.colors)


def test_synthias_second_mean_leaves_three_small_classes_out():
    rng = np.random.default_rng(3)
    scores = Scores.from_confusion(rng.integers(1, 99, (16, 16)) + 400 * np.eye(16, dtype=int))
    text = format_scores(SYNTHIA16.names, {"x": scores})
    kept = [
        i
        for name, i in zip(SYNTHIA16.names, scores.iou, strict=True)
        if name not in ("wall", "fence", "pole")
    ]
    shown = {line.split("  ")[0]: line.split()[-1] for line in text.splitlines() if line.startswith("mIoU")}
    assert len(kept) == 13
    assert shown == {"mIoU": f"{100 * scores.mean_iou:.1f}", "mIoU of 13": f"{100 * np.mean(kept):.1f}"}
    assert shown["mIoU"] != shown["mIoU of 13"]
    nineteen = Scores.from_confusion(np.eye(19, dtype=int))
    assert "of 13" not in format_scores(CITYSCAPES19.names, {"x": nineteen})
