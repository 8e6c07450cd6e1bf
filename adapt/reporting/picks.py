"""The best and the worst pictures of a data set, and the scores over all of it, in one pass.

With labels a picture is judged by its own mIoU; without, by the network's mean confidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapt.balance.correction import ShiftTable
from adapt.data.datasets import LabelledImages, UnlabelledImages
from adapt.evaluation.prediction import confusions, picture_logits, predict
from adapt.evaluation.scores import Scores
from adapt.model.device import best_device
from adapt.model.segmenter import Segmenter
from adapt.reporting.pictures import Example
from serve.media.progress import Bar

EACH = 3
"""Pictures at either end."""
MOST_UNLABELLED = 100
"""Unlabelled pictures that are looked at, evenly spread."""


@dataclass(frozen=True)
class Pick:
    """One picture, and why it was picked."""

    name: str
    """Its file's stem."""
    value: float
    """mIoU of the uncorrected labels, or the mean confidence, in [0, 1]."""
    corrected_value: float | None
    """mIoU of the corrected labels; None without labels."""
    example: Example


@dataclass(frozen=True)
class Picks:
    """Both ends of a data set."""

    best: list[Pick]
    """From the best one on."""
    worst: list[Pick]
    """From the worst one on; none of the best."""
    scores: dict[float, Scores] | None
    """Over all pictures, by strength; None without labels."""


def pick_labelled(
    segmenter: Segmenter, dataset: LabelledImages, num_classes: int, table: ShiftTable | None, tau: float
) -> Picks:
    """The ends of a labelled set. tau: strength of the correction; 0 (or no table) leaves it out.

    Raises:
        InputError: no pixel has ground truth.
    """
    taus = (0.0,) if table is None or tau == 0 else (0.0, tau)
    totals = {each: np.zeros((num_classes, num_classes), np.int64) for each in taus}
    values: list[tuple[float, float | None]] = []
    for counted in confusions(segmenter, dataset, num_classes, table, taus, best_device()):
        for each, confusion in counted.items():
            totals[each] += confusion
        labelled = counted[0.0].any()
        shares = [
            Scores.from_confusion(counted[each]).mean_iou if labelled else float("nan") for each in taus
        ]
        values.append((shares[0], shares[1] if len(taus) > 1 else None))

    def pick(index: int) -> Pick:
        image, truth = dataset[index]
        example = _example(segmenter, image, table, taus[-1], truth)
        return Pick(dataset.names[index], *values[index], example)

    best, worst = ends(np.array([value for value, _ in values]))
    scores = {each: Scores.from_confusion(total) for each, total in totals.items()}
    return Picks([pick(i) for i in best], [pick(i) for i in worst], scores)


def pick_unlabelled(
    segmenter: Segmenter, images: UnlabelledImages, table: ShiftTable | None, tau: float
) -> Picks:
    """The ends of an unlabelled set, by the mean over a picture of the largest softmax probability."""
    segmenter.to(best_device())
    count = min(MOST_UNLABELLED, len(images))
    indices = np.linspace(0, len(images) - 1, count).round().astype(int).tolist()
    values = [
        float(picture_logits(segmenter, images[index]).softmax(1).amax(1).mean())
        for index in Bar(indices, desc="confidence", unit="image")
    ]

    def pick(position: int) -> Pick:
        image = images[indices[position]]
        example = _example(segmenter, image, table, tau, None)
        return Pick(images.names[indices[position]], values[position], None, example)

    best, worst = ends(np.array(values))
    return Picks([pick(i) for i in best], [pick(i) for i in worst], None)


def ends(values: np.ndarray) -> tuple[list[int], list[int]]:
    """Positions of the highest and of the lowest values, EACH at most, none in both; NaN is in neither."""
    order: Sequence[int] = [int(i) for i in np.argsort(-values, kind="stable") if not np.isnan(values[i])]
    best = list(order[: min(EACH, -(-len(order) // 2))])
    worst = list(reversed(order[len(best) :][-EACH:]))
    return best, worst


def _example(
    segmenter: Segmenter, image: np.ndarray, table: ShiftTable | None, tau: float, truth: np.ndarray | None
) -> Example:
    uncorrected = predict(segmenter, image)
    corrected = uncorrected if table is None or tau == 0 else predict(segmenter, image, table, tau)
    return Example(image, uncorrected, corrected, truth)
