"""What the watch said of a training without labels, beside what labels say of it.

The watch compares student and teacher on the target (adapt/training/watching). It was right in warning where
the run ended below training on the source alone, and right in keeping RUN/best where those weights score
above the last ones.
"""

import json
from typing import Any

import numpy as np
import torch
from evidence_shifts import Pictures

from adapt.data.domains import open_labelled
from adapt.evaluation.prediction import labels_of_logits, picture_logits
from adapt.evaluation.scores import Scores, confusion_matrix
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
