"""What a check of a deployable file counts, says, and calls a pass."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.evaluate import Scores, confusion_matrix
from adapt.segmenter import labels_from_scores
from serve.card import Card

Labels = NDArray[Any]

AGREEMENT = 0.9999
"""Least share of equal labels away from near-ties."""
CLASS_AGREEMENT = 0.998
"""The same for every class with more than CLASS_SHARE of the pixels: a mean hides what a rare class loses."""
CLASS_SHARE = 0.001
IOU_CHANGE = 0.002
"""Most that the mean IoU may differ from the reference's, on pictures with labels."""
BIAS_CHANGE = 0.01
"""Most that the sum of |Bias| may."""


@dataclass(frozen=True)
class Labelled:
    """Scores against ground truth, and what they differ by from the reference's; shares, not per cent."""

    mean_iou: float
    mean_iou_change: float
    sum_abs_bias: float
    sum_abs_bias_change: float

    @property
    def passed(self) -> bool:
        return abs(self.mean_iou_change) <= IOU_CHANGE and abs(self.sum_abs_bias_change) <= BIAS_CHANGE

    def words(self) -> str:
        return (
            f"mIoU {self.mean_iou:.2%} ({100 * self.mean_iou_change:+.2f} points), sum of |Bias| "
            f"{self.sum_abs_bias:.4f} ({self.sum_abs_bias_change:+.4f})"
        )


@dataclass(frozen=True)
class Verification:
    """What was compared, and how far apart the two were."""

    against: str
    """Reference, in words."""
    pictures: str
    """Which pictures, in words."""
    frames: int
    strengths: tuple[float, ...]
    """Values of tau that were checked."""
    score_difference: float | None
    """Largest |score - reference score| in logits; of further strengths in proportion to tolerance. None
    of an engine without scores."""
    tolerance: float
    """Proven bound of the knots plus rounding, in logits."""
    agreement: float
    """Share of equal labels among the pixels that are not near-ties."""
    near_ties: float
    """Share of pixels whose two best reference scores lie within twice the tolerance: either is right."""
    class_agreement: dict[str, float]
    """Agreement per class of the reference, of classes with more than CLASS_SHARE of the pixels."""
    labelled: Labelled | None = None
    """At the first strength; None without ground truth."""

    @property
    def passed(self) -> bool:
        return (
            (self.score_difference is None or self.score_difference <= self.tolerance)
            and self.agreement >= AGREEMENT
            and all(share >= CLASS_AGREEMENT for share in self.class_agreement.values())
            and (self.labelled is None or self.labelled.passed)
        )

    def record(self) -> dict[str, object]:
        """For the graph's metadata."""
        return {**dataclasses.asdict(self), "passed": self.passed}

    def report(self) -> str:
        """For a person."""
        rarest = min(self.class_agreement.items(), key=lambda item: item[1], default=("none", 1.0))
        strengths = ", ".join(f"{tau:g}" for tau in self.strengths)
        difference = "no scores to compare"
        if self.score_difference is not None:
            difference = f"largest difference of scores {self.score_difference:.2g}"
        lines = [
            f"{'passed' if self.passed else 'FAILED'}: against {self.against}",
            f"  on {self.frames} {self.pictures}, tau {strengths}",
            f"  {difference}, tolerance {self.tolerance:.2g}",
            f"  equal labels {self.agreement:.4%} of all but {self.near_ties:.2%} near-ties; "
            f"least by class {rarest[1]:.4%} ({rarest[0]})",
        ]
        return "\n".join([*lines, *([f"  {self.labelled.words()}"] if self.labelled else [])])


class Tally:
    """Adds up the comparison frame by frame."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.excess: float | None = None
        self.pixels, self.near = 0, 0
        C = len(card.classes)
        self.confusion, self.expected_confusion = np.zeros((2, C, C), np.int64)
        self.counted = np.zeros(len(card.classes), np.int64)
        self.equal = np.zeros(len(card.classes), np.int64)

    def add(
        self,
        exact: Tensor,
        scores: Tensor | None,
        labels: Labels,
        tolerance: float,
        truth: Labels | None = None,
    ) -> None:
        """Count one picture.

        Args:
            exact, scores: [1, C, h, w] of the reference and of the file, if it gives any.
            labels: [1, H, W] of the file.
            tolerance: of the scores, in logits.
            truth: [H, W] ground truth, if it counts.
        """
        if scores is not None:
            difference = float((exact - scores).abs().max())
            excess = difference / tolerance if np.isfinite(difference) else np.inf
            self.excess = max(self.excess or 0.0, excess)
        height, width = labels.shape[1:]
        scale = self.card.output_stride
        expected = labels_from_scores(exact, scale, height, width).numpy()
        full = torch.nn.functional.interpolate(
            exact, scale_factor=float(scale), mode="bilinear", align_corners=False
        )[:, :, :height, :width]
        best = full.topk(2, dim=1).values
        clear = (best[:, 0] - best[:, 1] > 2 * tolerance).numpy()
        self.pixels += clear.size
        self.near += int((~clear).sum())
        C = len(self.card.classes)
        self.counted += np.bincount(expected[clear], minlength=C)
        self.equal += np.bincount(expected[clear & (expected == labels)], minlength=C)
        if truth is not None:
            self.confusion += confusion_matrix(truth, labels[0], C)
            self.expected_confusion += confusion_matrix(truth, expected[0], C)

    def result(
        self, against: str, pictures: str, frames: int, strengths: tuple[float, ...], tolerance: float
    ) -> Verification:
        total = int(self.counted.sum())
        shares = {
            name: float(equal / counted)
            for name, equal, counted in zip(self.card.classes, self.equal, self.counted, strict=True)
            if counted > CLASS_SHARE * self.pixels
        }
        return Verification(
            against=against,
            pictures=pictures,
            frames=frames,
            strengths=strengths,
            score_difference=None if self.excess is None else self.excess * tolerance,
            tolerance=tolerance,
            agreement=float(self.equal.sum() / total) if total else 1.0,
            near_ties=self.near / self.pixels,
            class_agreement=shares,
            labelled=self._labelled(),
        )

    def _labelled(self) -> Labelled | None:
        if not self.confusion.any():
            return None
        found, expected = map(Scores.from_confusion, (self.confusion, self.expected_confusion))
        return Labelled(
            found.mean_iou,
            found.mean_iou - expected.mean_iou,
            found.sum_abs_bias,
            found.sum_abs_bias - expected.sum_abs_bias,
        )
