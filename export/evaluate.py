"""Score a graph file on labelled pictures: what is shipped, through the code that serves it.

A file of ours is run by `serve.Segmenter`, as it stands. Any other segmenter is run as the calibration knows
it (layout, normalisation, size, stride), and corrected with the calibration's statistics in torch.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from adapt.balance.correction import ShiftTable, shift_table
from adapt.data.datasets import LabelledImages
from adapt.data.domains import open_labelled
from adapt.data.images import resize_image, resize_labels
from adapt.errors import InputError
from adapt.evaluation.prediction import labels_of_logits
from adapt.evaluation.scores import Scores, confusion_matrix
from adapt.reporting.scorecard import Scorecard
from export.fold.tables import DEFAULT_BOUND
from export.sources.calibrated import is_ours, open_calibrated
from export.sources.pictures import classes_of
from export.sources.reference import Reference
from serve.card import Card
from serve.inference.segmenter import Segmenter

DEFAULT_TAUS = (0.0, 0.2, 1.0)

Image = NDArray[np.uint8]
Labeller = Callable[[Image], Mapping[float, NDArray[np.integer]]]
"""A picture [H, W, 3] to labels [H, W] by strength."""


def score_file(
    file: Path,
    data: Path,
    taus: Sequence[float],
    stats: Path | None,
    size: tuple[int, int] | None,
    other_model: bool = False,
) -> Scorecard:
    """Scores by strength of the correction.

    Args:
        file: a graph of ours; with `stats` any segmenter.
        data: labelled folder.
        taus: strengths. Empty takes what the file itself can do: without and with its folded strength; with
            `stats` 0, 0.2 and 1.
        stats: what `calibrate` wrote for the file; without it, the file is one of ours.
        size: (height, width) that pictures are brought to first; None keeps their own. Labels keep theirs:
            the file's are brought to them.
        other_model: take `stats` though they are of another graph.

    Raises:
        InputError: a file that can't be run or can't do a strength, or data that does not fit it.
    """
    if file.is_dir():
        raise InputError(f"{file} is a folder; a run is scored with `adapt eval {file}`.")
    if stats is None:
        if not is_ours(file):
            raise InputError(
                f"{file} was not exported here, so how it takes pictures is not known; run "
                f"`blda export calibrate {file}` (no labels needed) and give its file with --stats."
            )
        segmenter = Segmenter(file)
        card, labeller = segmenter.card, _shipped(segmenter, taus)
    else:
        source, given = open_calibrated(file, stats)
        strength = source.strength(given, 0.0, False, DEFAULT_BOUND, other_model)
        if given.note:
            click.echo(given.note, err=True)
        card, table = source.card, shift_table(strength.statistics)
        labeller = _calibrated(source.reference(), card, table, taus or DEFAULT_TAUS)
    dataset = open_labelled(data, classes_of(card), size, keep_labels=True)
    return Scorecard(card.classes, _scores(labeller, dataset, len(card.classes)))


def _shipped(segmenter: Segmenter, taus: Sequence[float]) -> Labeller:
    """The file's own labels, and those of other strengths as far as it can give them."""
    correction, path = segmenter.correction, segmenter.runtime.path
    both = "uncorrected_labels" in segmenter.extras
    folded = 0.0 if correction is None else correction.tau
    if correction is not None and correction.runtime_tau:
        wanted = tuple(taus) or tuple(dict.fromkeys((0.0, folded)))
        for tau in wanted:
            segmenter.check_tau(tau)
        return lambda image: {tau: segmenter(image, tau).labels for tau in wanted}
    able = (0.0, folded) if both and folded else (folded,)
    if wrong := [tau for tau in taus if tau not in able]:
        more = "--runtime-tau" if wrong[0] else "--uncorrected-labels"
        raise InputError(
            f"{path} has labels of tau {' and '.join(f'{tau:g}' for tau in able)} only, not of {wrong[0]:g}; "
            f"leave --tau out, or export it with {more}."
        )

    def label(image: Image) -> Mapping[float, NDArray[np.integer]]:
        said = segmenter(image, extras={"uncorrected_labels"} if both else False)
        plain = {} if said.uncorrected_labels is None else {0.0: said.uncorrected_labels}
        return plain | {folded: said.labels}

    wanted = tuple(taus) or able
    return lambda image: {tau: labels for tau, labels in label(image).items() if tau in wanted}


def _calibrated(logits: Reference, card: Card, table: ShiftTable, taus: Sequence[float]) -> Labeller:
    def label(image: Image) -> Mapping[float, NDArray[np.integer]]:
        seen = image if card.size is None else resize_image(image, card.size)
        found = torch.as_tensor(logits(seen[None]))
        by_tau = {
            tau: labels_of_logits(found, card.output_stride, seen.shape[:2], table, tau) for tau in taus
        }
        return {tau: resize_labels(labels, image.shape[:2]) for tau, labels in by_tau.items()}

    return label


def _scores(labeller: Labeller, dataset: LabelledImages, num_classes: int) -> dict[float, Scores]:
    totals: dict[float, NDArray[np.int64]] = {}
    for index in tqdm(range(len(dataset)), desc="evaluate", unit="image"):
        image, truth = dataset[index]
        for tau, labels in labeller(image).items():
            counted = confusion_matrix(truth, resize_labels(labels, truth.shape[:2]), num_classes)
            totals[tau] = totals[tau] + counted if tau in totals else counted
    return {tau: Scores.from_confusion(total) for tau, total in totals.items()}
