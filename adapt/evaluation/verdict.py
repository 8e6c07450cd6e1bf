"""What is to be said where labels show that the correction does harm."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from adapt.evaluation.scores import Scores

LEAST = 0.0005
"""A change of a score that counts: half of the last digit that tables show."""


class Difference(NamedTuple):
    """What a corrected prediction's scores differ by from those of the plain one; shares, not per cent."""

    mean_iou: float
    mean_accuracy: float

    @property
    def harmful(self) -> bool:
        """Whether one of the two falls."""
        return min(self) <= -LEAST

    def words(self) -> str:
        return f"mIoU {100 * self.mean_iou:+.1f}, mAcc {100 * self.mean_accuracy:+.1f}"


def differences(scores: Mapping[float, Scores]) -> dict[float, Difference]:
    """Of every strength above 0 from the plain prediction; empty if that was not scored."""
    plain = scores.get(0.0)
    if plain is None:
        return {}
    return {
        tau: Difference(s.mean_iou - plain.mean_iou, s.mean_accuracy - plain.mean_accuracy)
        for tau, s in scores.items()
        if tau > 0
    }


def recorded(evaluation: Mapping[str, Mapping[str, Any]], tau: float) -> dict[float, Difference]:
    """The difference at one strength from what a run's card keeps; empty if that was not scored."""
    scores = {float(key): value for key, value in evaluation.items()}
    if tau == 0 or not {0.0, tau} <= set(scores):
        return {}
    iou, accuracy = (scores[tau][name] - scores[0.0][name] for name in ("mean_iou", "mean_accuracy"))
    return {tau: Difference(iou, accuracy)}


def harm(found: Mapping[float, Difference]) -> str:
    """One sentence on the strengths at which the correction lowers scores; "" if there are none."""
    bad = {tau: difference for tau, difference in found.items() if difference.harmful}
    if not bad:
        return ""
    listed = "; ".join(f"at tau {tau:g} {difference.words()}" for tau, difference in bad.items())
    rises = any(max(difference) >= LEAST for difference in bad.values())
    unless = ", unless what rises is what counts" if rises else ""
    return f"the correction lowers scores on these labels ({listed} points): leave it out there{unless}."
