"""What a check of a deployable file counts, says, and calls a pass."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapt.evaluation.scores import confusion_matrix
from export.fold.session import Labels, unlike
from export.verification.band import Band
from export.verification.exact import Exact
from export.verification.labelled import Labelled, labelled
from export.verification.probable import probable
from serve.card import Card

AGREEMENT = 0.9999
"""Least share of equal labels away from near-ties."""
CLASS_AGREEMENT = 0.998
"""The same for every class with more than CLASS_SHARE of the pixels: a mean hides what a rare class loses."""
CLASS_SHARE = 0.001
MOST_NEAR_TIES = 0.25
"""Largest share of near-ties. Where several labels are right, labels that are wrong pass too, so with much
left open, agreement on the rest would be said of a file that was hardly looked at. A pixel is one if its two
best scores are nearer than twice what is allowed, about 0.05 logits at the default bound: 2 % of the pixels
of a network whose two best are 3 logits apart in the mean. Measured on 4 and 19 classes, colour fields and
noise: 0.3 % uncorrected, 0.5 to 2 % corrected, up to 10 % with a class masked. A quarter is reached where the
mean distance is about 0.2 logits, by networks that tell nothing apart. It is the share at the file's own
strength that counts: a table for all strengths is made for 0.2, and allows ten times as much at 2, where
scores are compared all the same. Without scores, labels are all there is, and it is the share at all."""


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
    """|score - exact score| in logits, where it is largest beside what is allowed there. None of an engine
    without scores."""
    tolerance: float
    """What is allowed there (export/verification/exact.py), in logits."""
    agreement: float
    """Share of equal labels among the pixels that are not near-ties; 0 if all are."""
    near_ties: float
    """Share of pixels where several classes may be best within what is allowed, at all strengths together."""
    own_near_ties: float
    """The same at the first strength, the file's own."""
    tied_agreement: float
    """Share of the near-ties whose label is one of those classes."""
    class_agreement: dict[str, float]
    """Agreement per class of the reference, of classes with more than CLASS_SHARE of the pixels."""
    labelled: Labelled | None = None
    """At the first strength; None without ground truth."""
    faults: tuple[str, ...] = ()
    """What keeps the two from being compared at all, in words: sizes, types, another network."""
    profiles: tuple[str, ...] = ()
    """Corrections of the file that were compared, one after the other; empty if it has one or none."""
    profile: str = ""
    """Which of them all the other numbers are of: the first one, or the first one that failed."""

    @property
    def passed(self) -> bool:
        return not self.failures()

    def failures(self) -> list[str]:
        """Why it is not passed, a sentence each."""
        found = list(self.faults)
        if self.score_difference is not None and not self.score_difference <= self.tolerance:
            found.append(
                f"scores differ by {self.score_difference:.2g} where {self.tolerance:.2g} is allowed"
            )
        ties = self.near_ties if self.score_difference is None else self.own_near_ties
        if ties > MOST_NEAR_TIES:
            found.append(
                f"{ties:.0%} of the pixels are near-ties, where several labels count as right, so "
                f"labels were hardly compared (at most {MOST_NEAR_TIES:.0%} may be): on these pictures the "
                "network tells classes apart by less than the check can see. Give pictures of what it was "
                "trained for with --data; if they are, export with a smaller --error-bound (0.001, say), or "
                "train the network"
            )
        if self.near_ties < 1 and self.agreement < AGREEMENT:
            found.append(f"{1 - self.agreement:.2%} of the labels are others")
        if self.tied_agreement < AGREEMENT:
            found.append(
                f"{1 - self.tied_agreement:.2%} of the near-ties have a label that is none of the tied"
            )
        worse = [name for name, share in self.class_agreement.items() if share < CLASS_AGREEMENT]
        if worse:
            found.append(f"too many labels differ in {', '.join(worse)}")
        if self.score_difference is None and len(self.class_agreement) == 1 and self.near_ties < 1:
            found.append(
                f"without scores {next(iter(self.class_agreement))} is all that was compared, which what "
                "always says so would pass; give pictures of several classes with --data"
            )
        if self.labelled is not None and not self.labelled.passed:
            found.append("mIoU or bias changed")
        return found

    def record(self) -> dict[str, object]:
        """For the graph's metadata."""
        return {**dataclasses.asdict(self), "passed": self.passed}

    def report(self) -> str:
        """For a person."""
        under = ""
        if self.profiles:
            under = f", profiles {', '.join(self.profiles)}; numbers are of {self.profile}"
        rarest = min(self.class_agreement.items(), key=lambda item: item[1], default=("none", 0.0))
        strengths = ", ".join(f"{tau:g}" for tau in self.strengths)
        difference = "no scores to compare"
        if self.score_difference is not None:
            difference = (
                f"largest difference of scores {self.score_difference:.2g}, tolerance {self.tolerance:.2g}"
            )
        equal = "no label compared, all pixels are near-ties"
        own = f" ({self.own_near_ties:.2%} at tau {self.strengths[0]:g})" * (len(self.strengths) > 1)
        if self.near_ties < 1:
            equal = (
                f"equal labels {self.agreement:.4%} of all but {self.near_ties:.2%} near-ties{own}; least by "
                f"class {rarest[1]:.4%} ({rarest[0]}), {len(self.class_agreement)} classes compared"
            )
        failures = self.failures()
        lines = [
            f"{'FAILED' if failures else 'passed'}: against {self.against}",
            f"  on {self.frames} {self.pictures}, tau {strengths}{under}",
            *([] if self.faults else [f"  {difference}", f"  {equal}"]),
            *([f"  {line}" for line in self._labelled_lines()]),
            *(f"  not passed: {failure}." for failure in failures),
        ]
        return "\n".join(lines)

    def _labelled_lines(self) -> list[str]:
        if self.labelled is None:
            return []
        return [line for line in (self.labelled.words(), self.labelled.verdict(self.strengths[0])) if line]


class Tally:
    """Adds up the comparison, picture by picture."""

    def __init__(self, card: Card) -> None:
        self.card = card
        C = len(card.classes)
        self.worst: tuple[float, float] | None = None
        """Difference of scores and what is allowed, where the two have the largest ratio."""
        self.faults: dict[str, None] = {}
        self.pixels, self.near, self.tied = 0, 0, 0
        self.own_pixels, self.own_near = 0, 0
        self.confusion, self.expected_confusion, self.plain_confusion = np.zeros((3, C, C), np.int64)
        self.counted, self.equal = np.zeros((2, C), np.int64)

    def add(
        self,
        right: Exact,
        labels: Labels,
        scores: Tensor | None,
        size: tuple[int, int],
        truth: Labels | None = None,
        own: bool = True,
        band: Band | None = None,
    ) -> None:
        """Count pictures of one size.

        Args:
            right: of the reference, in the band.
            labels: [N, H, W] of the file.
            scores: [N, C, h, w] of the file, if it gives any.
            size: (height, width) of the pictures.
            truth: [N, H, W] ground truth, if it counts.
            own: whether they are at the file's own strength.
            band: decoder rows that are compared; None is all. With ground truth, it is all.
        """
        N, C, h, w = right.scores.shape
        band = band or Band(slice(0, h), h)
        faults = unlike(labels, (len(right.scores), *size), self.card)
        if scores is not None and scores.shape != (N, C, band.height, w):
            faults.append(f"scores are {list(scores.shape)}, not {[N, C, band.height, w]}")
        self.faults |= dict.fromkeys(faults)
        if faults:
            return
        if scores is not None:
            self._compare(right, scores[:, :, band.rows])
        labels = labels[:, band.pixels(self.card)]
        near, pixels = self.near, self.pixels
        values, allowed = self._values(right)
        for n in range(len(labels)):
            expected = self._count(values[n], allowed[n], labels[n], band)
            if truth is not None:
                self.confusion += confusion_matrix(truth[n], labels[n], C)
                self.expected_confusion += confusion_matrix(truth[n], expected, C)
        if own:
            self.own_near += self.near - near
            self.own_pixels += self.pixels - pixels

    def add_plain(self, logits: Tensor, truth: Labels) -> None:
        """Count what the reference says without the correction: logits [N, C, h, w], truth [N, H, W]."""
        values, _ = self._values(Exact(logits.double(), torch.zeros(logits.shape), plain=True))
        for image, labels in zip(values, truth, strict=True):
            plain = self._upsampled(image, labels.shape).argmax(0).numpy()
            self.plain_confusion += confusion_matrix(labels, plain, len(self.card.classes))

    def _compare(self, right: Exact, scores: Tensor) -> None:
        difference = (right.scores - scores).abs().flatten()
        ratio = torch.nan_to_num(difference / right.allowed.flatten().clamp_min(1e-30), nan=torch.inf)
        at = int(ratio.argmax())
        found = float(torch.nan_to_num(difference[at], nan=torch.inf)), float(right.allowed.flatten()[at])
        if self.worst is None or found[0] * self.worst[1] >= self.worst[0] * found[1]:
            self.worst = found

    def _values(self, right: Exact) -> tuple[Tensor, Tensor]:
        """What is upsampled [N, C, h, w], and most that a right graph's may differ."""
        if self.card.upsampling.of == "probabilities" and self.card.output_stride > 1:
            return probable(right, self.card.upsampling.uncorrected)
        return right.scores, right.allowed

    def _count(self, values: Tensor, allowed: Tensor, labels: Labels, band: Band) -> Labels:
        """Compare labels [H, W] in a band with values [C, h, w] known up to `allowed`; gives the right."""
        C, said = len(values), torch.from_numpy(labels.astype(np.int64))[None]
        full, above = (self._upsampled(x, labels.shape, band) for x in (values, allowed))
        best, expected = full.max(0, keepdim=True)
        least = best - above.gather(0, expected)  # the best class has at least this
        above += full  # and each class this at most
        possible = (above.gather(0, said) >= least)[0].numpy()
        clear = (above.scatter_(0, expected, -torch.inf).amax(0) < least[0]).numpy()
        right: Labels = expected[0].numpy()
        self.pixels += clear.size
        self.near += int((~clear).sum())
        self.tied += int((~clear & possible).sum())
        self.counted += np.bincount(right[clear], minlength=C)
        self.equal += np.bincount(right[clear & (right == labels)], minlength=C)
        return right

    def _upsampled(self, x: Tensor, size: tuple[int, ...], band: Band | None = None) -> Tensor:
        """[C, h, w] to [C, H, W], as the graph should do it; of a band, the rows that depend on it alone."""
        return (band or Band(slice(0, x.shape[1]), x.shape[1])).upsampled(x, self.card)[
            :, : size[0], : size[1]
        ]

    def result(
        self,
        against: str,
        pictures: str,
        frames: int,
        strengths: tuple[float, ...],
        faults: tuple[str, ...] = (),
    ) -> Verification:
        total = int(self.counted.sum())
        shares = {
            name: float(equal / counted)
            for name, equal, counted in zip(self.card.classes, self.equal, self.counted, strict=True)
            if counted > CLASS_SHARE * self.pixels
        }
        difference, tolerance = self.worst or (None, 0.0)
        return Verification(
            against=against,
            pictures=pictures,
            frames=frames,
            strengths=strengths,
            score_difference=difference,
            tolerance=tolerance,
            agreement=float(self.equal.sum() / total) if total else 0.0,
            near_ties=self.near / self.pixels if self.pixels else 1.0,
            own_near_ties=self.own_near / self.own_pixels if self.own_pixels else 1.0,
            tied_agreement=self.tied / self.near if self.near else 1.0,
            class_agreement=shares,
            labelled=labelled(self.confusion, self.expected_confusion, self.plain_confusion),
            faults=(*faults, *self.faults),
        )
