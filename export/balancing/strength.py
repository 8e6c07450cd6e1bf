"""The strength of the correction: the person's, what labelled pictures choose, or the default.

Without labels nothing says which strength is best: the label-free estimate knows neither mIoU nor mAcc
(adapt/evaluation/sweep.py). So the default is taken, which on networks that were never adapted was as good as
others over a wide range (docs/evidence.md). With labels, another one is taken if it is better than noise, by
the rule of `adapt tau --write`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adapt.evaluation.bootstrap import changes
from adapt.evaluation.comparison import strengths_of
from adapt.evaluation.scores import Scores
from adapt.evaluation.sweep import SWEEP, choose
from adapt.evaluation.verdict import differences, harm
from adapt.reporting.scorecard import Scorecard
from adapt.run.cards import DEFAULT_TAU
from export.evaluate import count_file


@dataclass(frozen=True)
class Chosen:
    """A strength, and why it is that one."""

    tau: float
    why: str
    """In words."""
    classes: tuple[str, ...] = ()
    """Of the scores."""
    scores: Mapping[float, Scores] = field(default_factory=dict)
    """On the labelled pictures, uncorrected and at `tau`; empty without labels."""

    def table(self) -> str:
        """Before and after, and what labels say against the correction; empty without labels."""
        return Scorecard(self.classes, self.scores).report() if self.scores else ""

    @property
    def harm(self) -> str:
        """What labels say against the correction at this strength; empty if nothing."""
        return harm(differences(self.scores))


def choose_strength(
    model: Path, stats: Path, size: tuple[int, int] | None, wanted: float | None, labels: Path | None
) -> Chosen:
    """The strength to fold.

    Args:
        model: any segmenter.
        stats: its statistics on the footage.
        size: (height, width) that the model takes pictures in; None is any.
        wanted: the person's own strength.
        labels: a few labelled pictures of the footage.

    Raises:
        InputError: labels that can't be used.
    """
    default = DEFAULT_TAU if wanted is None else wanted
    given = f"tau {default:g}, as given"
    if wanted is None:
        given = (
            f"tau {default:g}, the default for models that were not adapted; --labels FEW would choose one"
        )
    if labels is None:
        return Chosen(default, given)
    taus = tuple(sorted({0.0, default, *(SWEEP if wanted is None else ())}))
    counted = count_file(model, labels, taus, stats, size)
    scores = strengths_of(counted.ways)
    tau, why = default, given
    if wanted is None:
        margins = {way: counts.margins for way, counts in counted.ways.items()}
        pictures = int((margins[0.0][:, 1].sum(1) > 0).sum())
        choice = choose(scores, changes(margins, 0.0), "mIoU", default, pictures)
        tau = choice.tau if choice.proven else default
        kept = "" if tau == choice.tau else f"; so the default, tau {default:g}, is kept"
        why = f"{choice.words()}{kept}"
    return Chosen(tau, why, counted.classes, {each: scores[each] for each in sorted({0.0, tau})})
