"""What a correction changes on the footage: shares of the classes, pictures, and what stays as it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adapt.balance.correction import posthoc_scores
from adapt.balance.logit_statistics import range_warning
from adapt.data.datasets import UnlabelledImages
from adapt.evaluation.prediction import labels_of_logits
from export.foreign.endings import Ending
from export.foreign.network import Network
from export.statistics.calibrate import Outcome
from export.statistics.checks import MEASURE
from export.statistics.gather import MIN_PIXELS
from serve.inference.segmenter import Segmenter
from serve.media.progress import Bar

PICTURES = 4
WORK = 2**25
"""Most terms C^2 P of the shares: 93,000 pixels P of 19 classes; of many classes LEAST pixels take more."""
LEAST = 10_000

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Change:
    """Labels of the same pixels before and after."""

    before: Array
    """[C] share of each class."""
    after: Array
    """[C] the same, corrected."""
    changed: float
    """Share of pixels whose label is another one."""
    pixels: int
    """Pixels of the logits that were looked at."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One picture, uint8 [H, W, 3] RGB, and its labels [H, W]."""

    name: str
    image: NDArray[np.uint8]
    before: NDArray[np.integer]
    after: NDArray[np.integer]
    probable: NDArray[np.integer] | None = None
    """Before, if probabilities were upsampled, of a file that does so; None of others."""


def change(outcome: Outcome, tau: float) -> Change:
    """What the correction does to the pixels that the statistics are of."""
    kept = outcome.calibration.logits
    C = kept.shape[1]
    some = kept[..., :: max(1, kept.shape[3] // max(LEAST, WORK // C**2))]
    plain = some.argmax(1).flatten()
    corrected = posthoc_scores(some, outcome.table, tau).argmax(1).flatten()
    before, after = (
        (torch.bincount(labels, minlength=C) / len(labels)).double().numpy() for labels in (plain, corrected)
    )
    return Change(before, after, float((plain != corrected).double().mean()), len(plain))


def pairs(network: Network, target: UnlabelledImages, deployed: Segmenter) -> list[Pair]:
    """Pictures of the target, evenly: what the model says of them, and what the balanced file says."""
    found = []
    for index in Bar(shown(len(target)), desc="before and after", unit="image"):
        image = target[index]
        logits = torch.from_numpy(network.logits(image[None]))
        before = labels_of_logits(logits, network.outlet.output_stride, image.shape[:2], None, 0.0)
        probable = None
        if network.ending.resizes_probabilities:
            scores = _upsampled_by_the_file(logits, network.ending)
            probable = labels_of_logits(scores, network.outlet.output_stride, image.shape[:2], None, 0.0)
        found.append(Pair(target.names[index], image, before, deployed(image).labels, probable))
    return found


def _upsampled_by_the_file(logits: torch.Tensor, ending: Ending) -> torch.Tensor:
    """What a file makes of logits [N, C, h, w] before it upsamples them."""
    if "Sigmoid" in ending.behind:
        return logits.sigmoid()
    return logits.log_softmax(1) if "LogSoftmax" in ending.behind else logits.softmax(1)


def at_borders(pairs: Sequence[Pair]) -> float | None:
    """Share of labels that are others because scores are upsampled, not probabilities; None of most files."""
    both = [(pair.before, pair.probable) for pair in pairs if pair.probable is not None]
    if not both:
        return None
    return float(np.mean(np.concatenate([(a != b).ravel() for a, b in both])))


def uncorrected(outcome: Outcome, tau: float) -> dict[str, str]:
    """Classes that are not corrected, and why; and what of the others is not."""
    names, pixels = outcome.calibrated.classes, outcome.calibration.pixels
    if tau == 0:
        return {"all classes": "strength 0 was chosen, so labels are the model's own"}
    statistics, masked = outcome.calibration.statistics, outcome.calibration.masked
    reasons = {names[c]: f"left as it is, {why}" for c, why in outcome.leave.items()}
    reasons |= {
        names[c]: "its logits lie far below all others: it is masked, so nothing raises it" for c in masked
    }
    reasons |= {
        name: (
            f"only {count} pixels of the logits have that label, and {MIN_PIXELS} are needed: more footage"
            if count
            else "the model never says it on this footage, so nothing is known of how it would"
        )
        for name, count, seen in zip(names, pixels, statistics.seen.tolist(), strict=True)
        if not seen and name not in reasons
    }
    if warning := range_warning(statistics.outside, statistics.logit_range):
        reasons["logits far out"] = warning
    if outcome.doubt:
        reasons["all classes"] = f"they are corrected, but {outcome.doubt}; {MEASURE}"
    return reasons


def shown(count: int) -> list[int]:
    """Which of so many pictures of the target are shown, evenly."""
    return [int(i) for i in np.unique(np.linspace(0, count - 1, PICTURES).round())]
