"""Labelled pictures whose truth is what a run says uncorrected: there any correction can only do harm."""

import shutil
from pathlib import Path

import cv2

from adapt.data.datasets import LabelledFolder
from adapt.evaluation.prediction import predict
from adapt.run.run import Run


def write_agreeing(run: Run, pictures: Path, out: Path) -> Path:
    """Copy a labelled folder to `out`, with the run's own plain labels in the place of the truth."""
    shutil.copytree(pictures, out)
    dataset, segmenter = LabelledFolder(out, run.classes), run.segmenter()
    for index, path in enumerate(dataset.label_paths):
        cv2.imwrite(str(path), predict(segmenter, dataset[index].image))
    return out
