"""What the commands eval and tau do: a run on labelled pictures, other runs and baselines beside it."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from adapt.balance.correction import shift_table
from adapt.data.datasets import open_target
from adapt.data.domains import open_labelled
from adapt.errors import InputError
from adapt.evaluation.baselines import Adjustment, Shares, adjustments, target_shares
from adapt.evaluation.bootstrap import changes
from adapt.evaluation.comparison import Counts, Way, baselines_of, compare, strengths_of
from adapt.evaluation.prediction import evaluate, seen_pictures
from adapt.evaluation.scores import Scores
from adapt.evaluation.sweep import SWEEP, Sweep, Wish, estimate
from adapt.model.device import best_device
from adapt.model.window import Window, check_window
from adapt.reporting.scorecard import Scorecard
from adapt.run.run import Run, write_card


def score(
    run: Run,
    data: Path,
    taus: Sequence[float],
    which: str = "student",
    window: Window | None = None,
    baselines: bool = False,
    target: Sequence[Path] = (),
    beside: Sequence[Run] = (),
) -> Scorecard:
    """Scores of a run on a labelled folder for several strengths of the post-hoc correction.

    Args:
        run: the run.
        data: labelled folder.
        taus: strengths; empty takes 0, the run's and 1, or 0 alone if the run has no statistics.
        which: "student" or "teacher".
        window: cut the pictures up; None looks at them whole.
        baselines: also score plain logit adjustment.
        target: unlabelled pictures or videos for its shares; empty takes the run's own target.
        beside: other runs of the same classes, scored uncorrected.

    Raises:
        InputError: data, runs or target that can't be used.
    """
    if not taus:
        taus = tuple(dict.fromkeys((0.0, run.tau, 1.0))) if run.corrects else (0.0,)
    named = _names([run, *beside])
    others = {name: _beside(run, other, data, window) for name, other in zip(named[1:], beside, strict=True)}
    shares = shares_of(run, target, which) if baselines else None
    ways = _ways(run, data, taus, which, window, shares)
    return Scorecard(
        run.classes.names, strengths_of(ways), baselines_of(ways), shares, others, named[0] if others else ""
    )


def strengths(run: Run, data: Path | None, baselines: bool = False, target: Sequence[Path] = ()) -> Sweep:
    """Bias over a range of strengths, estimated without labels, and measured where there are some.

    Args:
        run: the run; its own strength is looked at too.
        data: labelled folder; None has the estimate alone.
        baselines, target: as `score` has them.

    Raises:
        InputError: no statistics, or data or target that can't be used.
    """
    taus = tuple(sorted({*SWEEP, run.tau}))
    estimated = estimate(run.shift_statistics(), taus)
    if data is None:
        return estimated
    shares = shares_of(run, target, "student") if baselines else None
    ways = _ways(run, data, taus, "student", None, shares)
    margins = {way: counts.margins for way, counts in ways.items()}
    return Sweep(
        taus,
        estimated.estimated,
        list(strengths_of(ways).values()),
        changes(margins, 0.0),
        baselines_of(ways),
        int((margins[0.0][:, 1].sum(1) > 0).sum()),
    )


def shares_of(run: Run, target: Sequence[Path], which: str) -> Shares:
    """Shares of the classes on unlabelled pictures or videos; without any, on the run's own target.

    Raises:
        InputError: they are not there.
    """
    settings = run.config.data
    paths = tuple(target) or settings.target
    if not paths or not all(path.exists() for path in paths):
        missing = ", ".join(str(path) for path in paths if not path.exists())
        raise InputError(
            f"the baselines take their shares from unlabelled target pictures, and {run.path} "
            f"{f'had {missing}, which is not here' if missing else 'has none'}; name some with --target."
        )
    images = open_target(paths, run.path / "frames", settings.frames, settings.size)
    return target_shares(run.segmenter(which), images, len(run.classes), best_device())


def write_tau(run: Run, tau: float) -> str:
    """Make a strength the run's own, which exports and evaluations start from; says what it was before."""
    card = run.card.model_copy(update={"tau": tau})
    write_card(run.path, card)
    before = f"{run.tau:g}" if run.card.tau is not None else f"{run.tau:g}, the default"
    return f"wrote tau {tau:g} to {run.path}; it was {before}"


def check_writable(run: Run) -> None:
    """Raises InputError if nothing can be written to the run."""
    if not os.access(run.path, os.W_OK):
        raise InputError(f"{run.path} cannot be written, and the strength goes there; copy the run first.")


def settle(run: Run, sweep: Sweep, by: Wish) -> str:
    """Write the strength that is best on the labelled pictures if that is better than noise; says so."""
    choice = sweep.choose(by, run.tau)
    if choice.tau == run.tau:
        return f"nothing to write: {run.path} has tau {run.tau:g}, which is best for {by} here"
    if not choice.proven:
        return (
            f"nothing was written: what is best for {by} here is not better than noise, so {run.path} keeps "
            f"tau {run.tau:g}; give more labelled pictures, or write a strength of your own with --tau"
        )
    return write_tau(run, choice.tau)


def _ways(
    run: Run,
    data: Path,
    taus: Sequence[float],
    which: str,
    window: Window | None,
    shares: Shares | None,
) -> dict[Way, Counts]:
    segmenter = run.segmenter(which)
    if window is not None:
        check_window(window, segmenter.stride)
    dataset = open_labelled(data, run.classes, run.config.data.size, keep_labels=True)
    table = shift_table(run.shift_statistics()) if any(taus) else None
    offsets: dict[Adjustment, Tensor] = {} if shares is None else adjustments(shares)
    seen = seen_pictures(segmenter, dataset, best_device(), window)
    return compare(seen, len(run.classes), table, taus, offsets)


def _beside(run: Run, other: Run, data: Path, window: Window | None) -> Scores:
    """Another run on the same pictures, uncorrected."""
    if other.classes.names != run.classes.names:
        raise InputError(
            f"{other.path} has the classes {', '.join(other.classes.names)}, but {run.path} has "
            f"{', '.join(run.classes.names)}; runs beside one another have the same ones, in one order."
        )
    segmenter = other.segmenter()
    if window is not None:
        check_window(window, segmenter.stride)
    dataset = open_labelled(data, other.classes, other.config.data.size, keep_labels=True)
    return evaluate(segmenter, dataset, len(other.classes), device=best_device(), window=window)[0.0]


def _names(runs: Sequence[Run]) -> list[str]:
    """The runs' folders by their last part, or by their whole path where that is not enough."""
    last = [run.path.absolute().name for run in runs]
    return last if len(set(last)) == len(last) else [str(run.path) for run in runs]
