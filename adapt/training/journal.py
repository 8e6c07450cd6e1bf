"""What a training run writes down to be looked at, while it runs and afterwards.

RUN/metrics.jsonl         a line per `training.log_every` iterations: losses and the rate
RUN/watch.jsonl           as often, of self-training: what is seen of it without labels of the target
RUN/guard.jsonl           a line per checkpoint, without a source: what its guard measured
RUN/evaluations.jsonl     a line per evaluation: scores on the labelled target set
RUN/tensorboard/          the same as curves, learning rates, the statistics' state, and pictures
RUN/report/album/         a few moments, for `adapt report` (adapt/training/album.py)

It only looks: no random number is drawn and nothing of the training is changed.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from adapt.augmentation.augment import Mixed
from adapt.balance.logit_statistics import LogitStatistics, range_warning
from adapt.data.classes import ClassList
from adapt.evaluation.scores import Scores
from adapt.run.cards import Card, Evaluated, altered
from adapt.run.run import write_text
from adapt.training.album import moments, picture_of, unmixed, write_moment
from adapt.training.step import Step
from adapt.training.watching.watch import Seen
from serve.media.progress import Bar

METRICS, EVALUATIONS, WATCH = "metrics.jsonl", "evaluations.jsonl", "watch.jsonl"
GUARD = "guard.jsonl"
SUMMARY = ("mean_iou", "mean_accuracy", "std_iou", "sum_abs_bias", "pixel_accuracy")


class Journal:
    """Open while a run is trained: a context."""

    def __init__(
        self,
        folder: Path,
        classes: ClassList,
        iterations: int,
        every: int,
        done: int,
        writes: bool,
        board: bool = True,
        log: Callable[[dict[str, float], int], None] | None = None,
    ) -> None:
        """Args:
        folder: the run.
        classes: for the pictures' colours.
        iterations: of the whole run, over which the album's moments are spread.
        every: iterations between TensorBoard's pictures.
        done: iterations that were done before; TensorBoard hides what an interrupted run wrote after them.
        writes: False for all but the first rank: then nothing is written.
        board: whether there is a TensorBoard.
        log: takes all values of an iteration by name, for other trackers.
        """
        self._folder = folder
        self._classes = classes
        self._every = every
        self._moments = moments(iterations)
        self._warned = False
        self._board: Any = None
        self._log = log
        self.writes = writes
        if writes and board:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def losses(
        self,
        iteration: int,
        losses: Mapping[str, float],
        rate: float,
        learning_rates: Mapping[str, float],
        statistics: LogitStatistics | None,
    ) -> None:
        """Write down one iteration.

        Args:
            iteration: iterations done.
            losses: by name.
            rate: iterations per second so far.
            learning_rates: by name of what learns.
            statistics: the running ones, of online balancing.
        """
        if not self.writes:
            return
        self._append(METRICS, {"iteration": iteration, "iterations_per_second": round(rate, 4), **losses})
        curves = {f"train/{name}": value for name, value in losses.items()}
        curves |= {f"learning_rate/{name}": value for name, value in learning_rates.items()}
        curves["speed/iterations_per_second"] = rate
        if statistics is not None:
            curves |= {
                "statistics/classes_seen_source": float(statistics.source.seen.sum()),
                "statistics/classes_seen_target": float(statistics.target.seen.sum()),
                "statistics/share_of_logits_out_of_range": statistics.outside_share,
            }
            self._warn(statistics)
        self._draw(curves, iteration)

    def watched(self, iteration: int, seen: Seen) -> None:
        """Write down what was seen without labels after this iteration, and say what is new about it."""
        if not self.writes:
            return
        record: dict[str, Any] = {"iteration": iteration, "agreement": seen.agreement, "bias": seen.bias}
        record |= {"turned": seen.turned, "faded": [self._classes.names[c] for c in seen.faded]}
        self._append(WATCH, record | {"shares": list(seen.shares)})
        curves = {"watch/agreement": seen.agreement, "watch/sum_abs_bias": seen.bias}
        for name, share in zip(self._classes.names, seen.shares, strict=True):
            curves[f"watch_shares/{name}"] = share
        self._draw(curves, iteration)
        for sentence in seen.news:
            self.say(iteration, sentence)

    def guarded(self, iteration: int, bias: float, halves: float, why: str | None) -> None:
        """Write down what the guard of a training without a source has measured, and say why it ends it."""
        if not self.writes:
            return
        self._append(GUARD, {"iteration": iteration, "bias": bias, "halves": halves})
        self._draw({"guard/sum_abs_bias": bias, "guard/agreement_of_halves": halves}, iteration)
        if why is not None:
            self.say(iteration, f"self-training drifts, so it ends here: {why}.")

    def say(self, iteration: int, sentence: str) -> None:
        """On standard error, as the progress is."""
        if self.writes:
            Bar.write(f"iteration {iteration}: {sentence}", file=sys.stderr)

    def _warn(self, statistics: LogitStatistics) -> None:
        """Say once that logits lie beyond the range of the histograms, where that is so."""
        low, high = (float(end) for end in (statistics.bins.low, statistics.bins.high))
        warning = range_warning(statistics.outside_share, (low, high))
        if warning and not self._warned:
            Bar.write(warning, file=sys.stderr)
            self._warned = True

    def shows(self, iteration: int) -> bool:
        """Whether `show` is to be called after the iteration of this number, counted from 1."""
        return self.writes and (iteration in self._moments or iteration % self._every == 0)

    def show(
        self, iteration: int, mixed: Mixed, confidence: Tensor | None, statistics: LogitStatistics | None
    ) -> None:
        """Keep what the network was shown: for TensorBoard, and at the album's moments for the report.

        Args:
            iteration: iterations done.
            mixed: the pictures of the last batch.
            confidence: [N, H, W] of the teacher in its labels, if it has said so.
            statistics: the running ones, of online balancing.
        """
        picture = picture_of(mixed, confidence, self._classes)
        if self._board is not None:
            self._board.add_image("mixed/image_labels_confidence", picture, iteration, dataformats="HWC")
        if iteration in self._moments:
            write_moment(album_of(self._folder), iteration, picture, statistics)

    def evaluation(self, iteration: int, scores: Mapping[float, Scores]) -> None:
        """Write down scores by strength of the post-hoc correction, and say the uncorrected ones."""
        if not self.writes:
            return
        best = scores[0.0]
        Bar.write(
            f"iteration {iteration}: mIoU {best.mean_iou:.1%}, mAcc {best.mean_accuracy:.1%}, "
            f"sum of |Bias| {best.sum_abs_bias:.3f} (uncorrected)",
            file=sys.stderr,
        )
        by_tau = {f"{tau:g}": value.to_dict() for tau, value in scores.items()}
        self._append(EVALUATIONS, {"iteration": iteration, "tau": by_tau})
        curves: dict[str, float] = {}
        for tau, value in scores.items():
            title = "uncorrected" if tau == 0 else f"tau_{tau:g}"
            curves |= {f"evaluation_{title}/{name}": getattr(value, name) for name in SUMMARY}
            for name, share in zip(self._classes.names, value.iou.tolist(), strict=True):
                if not np.isnan(share):
                    curves[f"iou_{title}/{name}"] = share
        self._draw(curves, iteration)

    def _draw(self, curves: dict[str, float], iteration: int) -> None:
        """A point of each curve, for TensorBoard and other trackers."""
        if self._board is not None:
            for name, value in curves.items():
                self._board.add_scalar(name, value, iteration)
        if self._log is not None:
            self._log(curves, iteration)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()

    def _append(self, name: str, record: dict[str, Any]) -> None:
        try:
            with (self._folder / name).open("a") as lines:
                lines.write(json.dumps(record) + "\n")
        except OSError as error:  # a full disk does not say which file it was
            raise OSError(error.errno, error.strerror, str(self._folder / name)) from error


def shown(step: Step) -> tuple[Mixed, Tensor | None]:
    """What a step showed the network, and the teacher's confidence in its labels, [N, H, W], if any."""
    if step.mixed is None:
        return unmixed(step.pair), None
    return step.mixed, step.pseudo.confidence


def album_of(folder: Path) -> Path:
    """Where a run has its album."""
    return folder / "report" / "album"


def last_evaluation(folder: Path, card: Card, iteration: int) -> Evaluated:
    """The newest scores of a run that goes on after `iteration`: those in its card, or written down since."""
    found = Evaluated()
    if (card.evaluated_at or card.iterations) <= iteration:
        found = Evaluated(card.evaluation, card.evaluated_at)
    for record in read_lines(folder / EVALUATIONS):
        if (found.evaluated_at or 0) <= record["iteration"] <= iteration:
            by_tau = {str(float(tau)): scores for tau, scores in record["tau"].items()}
            found = Evaluated(by_tau, record["iteration"])
    return found


def rewind(folder: Path, iteration: int) -> None:
    """Drop lines from after the checkpoint of this iteration, and a last one that a kill cut off."""
    for name in (METRICS, EVALUATIONS, WATCH, GUARD):
        if (folder / name).exists():
            kept = [record for record in read_lines(folder / name) if record["iteration"] <= iteration]
            write_text(folder / name, "".join(json.dumps(record) + "\n" for record in kept))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of one of the .jsonl files up to the first one that was cut off; none without a file.

    Raises:
        InputError: a line holds what was not written here.
    """
    records: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not _is_record(record, path.name):
            raise altered(path, f"line {number} is none of its records: {line.decode()[:60]}")
        records.append(record)
    return records


def _is_record(record: object, name: str) -> bool:
    if not isinstance(record, dict) or type(record.get("iteration")) is not int:
        return False
    if name == METRICS:
        return "iterations_per_second" in record and all(map(_is_number, record.values()))
    if name == GUARD:
        return all(_is_number(record.get(key)) for key in ("bias", "halves"))
    if name == WATCH:
        shares = record.get("shares")
        measures = all(_is_number(record.get(key)) for key in ("agreement", "bias"))
        return measures and isinstance(shares, list) and all(map(_is_number, shares))
    scores = record.get("tau")
    return (
        isinstance(scores, dict)
        and "0" in scores
        and all(text.replace(".", "", 1).isdigit() for text in scores)
        and all(
            isinstance(part, dict) and all(_is_number(part.get(key)) for key in SUMMARY)
            for part in scores.values()
        )
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
