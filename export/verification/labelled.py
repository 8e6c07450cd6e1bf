"""What ground truth says of a file, beside its reference, and of its correction."""

from dataclasses import dataclass, replace

from adapt.evaluation.scores import Scores
from adapt.evaluation.verdict import Difference, harm
from export.fold.session import Labels

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
    uncorrected_mean_iou: float | None = None
    """Of the reference without the correction; None of a file without one."""
    mean_iou_gain: float | None = None
    mean_accuracy_gain: float | None = None
    """What the reference's correction adds to its own uncorrected scores."""

    @property
    def passed(self) -> bool:
        return abs(self.mean_iou_change) <= IOU_CHANGE and abs(self.sum_abs_bias_change) <= BIAS_CHANGE

    def words(self) -> str:
        return (
            f"mIoU {self.mean_iou:.2%} ({100 * self.mean_iou_change:+.2f} points), sum of |Bias| "
            f"{self.sum_abs_bias:.4f} ({self.sum_abs_bias_change:+.4f})"
        )

    def verdict(self, tau: float) -> str:
        """One sentence if the correction lowers the scores, at the strength that they are of; else ""."""
        if self.mean_iou_gain is None or self.mean_accuracy_gain is None:
            return ""
        return harm({tau: Difference(self.mean_iou_gain, self.mean_accuracy_gain)})


def labelled(found: Labels, expected: Labels, plain: Labels) -> Labelled | None:
    """From pixel counts [C, C] of the file, of its reference, and of that without the correction.

    None if no pixel has ground truth; `plain` is all 0 of a file without a correction.
    """
    if not found.any():
        return None
    said, right = map(Scores.from_confusion, (found, expected))
    compared = Labelled(
        said.mean_iou,
        said.mean_iou - right.mean_iou,
        said.sum_abs_bias,
        said.sum_abs_bias - right.sum_abs_bias,
    )
    if not plain.any():
        return compared
    uncorrected = Scores.from_confusion(plain)
    return replace(
        compared,
        uncorrected_mean_iou=uncorrected.mean_iou,
        mean_iou_gain=right.mean_iou - uncorrected.mean_iou,
        mean_accuracy_gain=right.mean_accuracy - uncorrected.mean_accuracy,
    )
