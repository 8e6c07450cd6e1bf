"""What the watch said of a training without labels, beside what labels say of it.

The watch compares student and teacher on the target (adapt/training/watching). It was right in warning where
the run ended below training on the source alone, and right in keeping RUN/best where those weights score
above the last ones.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from evidence_results import Result
from evidence_shifts import Pictures
from evidence_summary import Key, Runs, Spread, less, mean, spread, value

from adapt.data.domains import open_labelled
from adapt.evaluation.prediction import labels_of_logits, picture_logits
from adapt.evaluation.scores import Scores, confusion_matrix
from adapt.evaluation.sweep import rank_correlation
from adapt.run.run import Run, load_run
from adapt.training.watching.best import best_of


def watched(run: Run, pictures: Pictures) -> dict[str, Any]:
    """Of a finished run: empty where nothing was watched.

    `agreement`, `bias`: of the last look, and `highest`, of all looks, the highest agreement; `turned` and
    `faded`: whether the agreement was on its way down, and how many classes were given up, at the end;
    `warned`: whether either was ever so; `best_at`: iterations of RUN/best, None where the last weights are
    the best ones; `best_iou`, `best_accuracy`: its plain scores.
    """
    path = run.path / "watch.jsonl"
    if not path.exists():
        return {}
    looks = [json.loads(line) for line in path.read_text().splitlines()]
    last = looks[-1]
    found = {
        "agreement": last["agreement"],
        "bias": last["bias"],
        "highest": max(look["agreement"] for look in looks),
        "turned": last["turned"],
        "faded": len(last["faded"]),
        "warned": any(look["turned"] or look["faded"] for look in looks),
        "best_at": None,
    }
    best = best_of(run.path)
    if best.exists():
        scores = plain_scores(load_run(best), pictures)
        found |= {
            "best_at": load_run(best).card.iterations,
            "best_iou": scores.mean_iou,
            "best_accuracy": scores.mean_accuracy,
        }
    return found


@torch.inference_mode()
def plain_scores(run: Run, pictures: Pictures) -> Scores:
    """Of a run's weights, without a correction."""
    segmenter, classes = run.segmenter(), len(run.classes)
    evaluation = open_labelled(pictures.evaluate, run.classes, run.config.data.size)
    confusion = np.zeros((classes, classes), np.int64)
    for i in range(len(evaluation)):
        image, truth = evaluation[i]
        logits = picture_logits(segmenter, image)
        labels = labels_of_logits(logits, segmenter.output_stride, image.shape[:2], None, 0.0)
        confusion += confusion_matrix(truth, labels, classes)
    return Scores.from_confusion(confusion)


@dataclass(frozen=True)
class Watched:
    """What warnings and kept weights were worth."""

    runs: int
    """With self-training that was watched, and source-only training of the same shift and seed to compare."""
    below: int
    """Of these, how many ended below source-only training, in mIoU."""
    warned_below: int
    warned_above: int
    """How many of the one and the other kind were warned of."""
    kept: int
    """How many kept earlier weights as the best ones."""
    kept_better: int
    kept_gain: Spread | None
    """mIoU of the kept weights less that of the last."""
    agreement: float
    """Rank correlation of the last agreement with the gain over source-only training; within shifts, mean."""


def judged_watch(runs: Runs, shifts: Sequence[str]) -> Watched:
    """Hold the watch of all self-training against labels."""
    found: list[tuple[Key, float, Result]] = []
    for key, run in sorted(runs.items()):
        source = runs.get((key[0], "source", key[2]))
        gain = None if source is None else less(value(run, "mean_iou"), value(source, "mean_iou"))
        if key[0] in shifts and key[1] != "source" and run.watch and gain is not None:
            found.append((key, gain, run))
    kept = [
        run.watch["best_iou"] - (value(run, "mean_iou") or 0) for *_, run in found if run.watch["best_at"]
    ]
    inner = []
    for shift in shifts:
        pairs = np.array([(run.watch["agreement"], gain) for key, gain, run in found if key[0] == shift])
        if len(pairs) >= 3:
            inner.append(rank_correlation(pairs[:, 0], pairs[:, 1]))
    return Watched(
        runs=len(found),
        below=sum(gain < 0 for _, gain, _ in found),
        warned_below=sum(gain < 0 and run.watch["warned"] for _, gain, run in found),
        warned_above=sum(gain >= 0 and run.watch["warned"] for _, gain, run in found),
        kept=len(kept),
        kept_better=sum(gain > 0 for gain in kept),
        kept_gain=spread(kept),
        agreement=mean([one for one in inner if one == one]),
    )
