"""Scores of labels against ground truth, and their table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from adapt.balance.bias import bias_with_labels
from adapt.data.classes import IGNORE
from adapt.data.known_classes import SYNTHIA16, SYNTHIA_UNCOUNTED
from adapt.errors import InputError


@dataclass(frozen=True, eq=False)
class Scores:
    """Quality of a prediction. Shares, not per cent.

    A class absent from the ground truth has NaN as IoU and accuracy and is left out of every mean; predicting
    it still costs the other classes. Its bias is the share of pixels wrongly given to it (see
    adapt.balance.bias).
    """

    iou: np.ndarray
    """[C] intersection over union."""
    accuracy: np.ndarray
    """[C] share of a class's pixels that are predicted as it (recall)."""
    bias: np.ndarray
    """[C] over-prediction (positive) or under-prediction (negative); sums to 0."""
    mean_iou: float
    mean_accuracy: float
    std_iou: float
    """Standard deviation of the IoU over the classes: the less, the more even."""
    sum_abs_bias: float
    pixel_accuracy: float
    confusion: np.ndarray
    """[C, C] pixel counts that all of this comes from, row = ground truth, column = prediction."""

    @staticmethod
    def from_confusion(confusion: np.ndarray) -> "Scores":
        """Scores of pixel counts [C, C], row = ground truth, column = prediction.

        Raises:
            InputError: no pixel has ground truth.
        """
        counts = confusion.astype(np.float64)
        hits, truth, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        if truth.sum() == 0:
            raise InputError(
                "No pixel of the evaluation data has a label that counts; "
                "check the class file's ids and its ignore value."
            )
        present = truth > 0
        iou = np.divide(hits, truth + predicted - hits, out=np.full(len(hits), np.nan), where=present)
        accuracy = np.divide(hits, truth, out=np.full(len(hits), np.nan), where=present)
        bias = bias_with_labels(torch.from_numpy(counts)).numpy()
        return Scores(
            iou=iou,
            accuracy=accuracy,
            bias=bias,
            mean_iou=float(np.nanmean(iou)),
            mean_accuracy=float(np.nanmean(accuracy)),
            std_iou=float(np.nanstd(iou)),
            sum_abs_bias=float(np.abs(bias).sum()),
            pixel_accuracy=float(hits.sum() / truth.sum()),
            confusion=confusion,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, without the confusion matrix; NaN, which JSON has not, becomes None."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        del named["confusion"]
        return {
            name: [None if math.isnan(v) else float(v) for v in value]
            if isinstance(value, np.ndarray)
            else value
            for name, value in named.items()
        }


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixel counts int64 [C, C], row = ground truth, column = prediction. Add those of several pictures.

    Args:
        labels: integers of any shape, 0..C-1 or IGNORE (which does not count).
        predicted: integers 0..C-1 of the same shape.
        num_classes: C.

    Raises:
        ValueError: the shapes differ, or a value that counts is outside 0..C-1.
    """
    if labels.shape != predicted.shape:
        raise ValueError(f"labels have shape {labels.shape}, the prediction has {predicted.shape}")
    counted = labels != IGNORE
    truth, guess = labels[counted].astype(np.int64), predicted[counted].astype(np.int64)
    if truth.size and not 0 <= min(truth.min(), guess.min()) <= max(truth.max(), guess.max()) < num_classes:
        raise ValueError(f"labels or prediction hold values outside 0..{num_classes - 1}")
    return np.bincount(truth * num_classes + guess, minlength=num_classes**2).reshape(num_classes, -1)


def format_scores(classes: Sequence[str], columns: Mapping[str, Scores]) -> str:
    """A plain-text table: IoU and accuracy of every class for every column, then the summary.

    Args:
        classes: names [C].
        columns: title and scores of each column, e.g. {"uncorrected": ..., "corrected": ...}.
    """
    scores = list(columns.values())
    names = max(14, *(len(name) for name in classes))
    wide = max(6, *(len(title) for title in columns))
    block = len(columns) * (wide + 2)

    def line(name: str, *groups: Sequence[str]) -> str:
        cells = ["".join(f"{cell:>{wide + 2}}" for cell in group) for group in groups]
        return f"{name:<{names}}" + "   ".join(cells)

    rule = "-" * (names + 2 * block + 3)
    lines = [
        f"{'':<{names}}{'IoU %':>{block}}   {'accuracy %':>{block}}",
        line("class", list(columns), list(columns)),
        rule,
    ]
    lines += [
        line(name, [_per_cent(s.iou[c]) for s in scores], [_per_cent(s.accuracy[c]) for s in scores])
        for c, name in enumerate(classes)
    ]
    lines += [rule, line("mIoU", [_per_cent(s.mean_iou) for s in scores])]
    if tuple(classes) == SYNTHIA16.names:
        counted = [c for c, name in enumerate(classes) if name not in SYNTHIA_UNCOUNTED]
        lines.append(line("mIoU of 13", [_per_cent(float(np.nanmean(s.iou[counted]))) for s in scores]))
    lines += [
        line("mAcc", [_per_cent(s.mean_accuracy) for s in scores]),
        line("pixel accuracy", [_per_cent(s.pixel_accuracy) for s in scores]),
        line("std of IoU", [_per_cent(s.std_iou) for s in scores]),
        line("sum |Bias|", [f"{s.sum_abs_bias:.3f}" for s in scores]),
    ]
    return "\n".join(lines)


def format_summary(rows: Mapping[str, Scores]) -> str:
    """A plain-text table of the means alone, a line for every title."""
    return aligned(
        ("", "mIoU", "mAcc", "pixel accuracy", "std of IoU", "sum |Bias|"),
        [
            [
                title,
                *map(_per_cent, (s.mean_iou, s.mean_accuracy, s.pixel_accuracy, s.std_iou)),
                f"{s.sum_abs_bias:.3f}",
            ]
            for title, s in rows.items()
        ],
    )


def aligned(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as text in columns: the first one flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            [f"{row[0]:<{widths[0]}}"]
            + [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in (titles, *rows)
    )


def _per_cent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"
