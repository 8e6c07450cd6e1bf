"""Score a graph file on labelled pictures: what is shipped, through the code that serves it.

A file of ours is run by `serve.Segmenter`, as it stands. Any other segmenter is run as the calibration knows
it (layout, normalisation, size, stride), and corrected with the calibration's statistics in torch.

The baselines need logits. Any other segmenter gives them in the same pass; a shipped file gives labels, so
the network inside it is run once more, alone, for all baselines together.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.balance.correction import ShiftTable, shift_table
from adapt.data.datasets import LabelledImages
from adapt.data.domains import open_labelled
from adapt.data.images import resize_image, resize_labels
from adapt.errors import InputError
from adapt.evaluation.baselines import Adjustment, ShareCount, Shares, adjusted, adjustments
from adapt.evaluation.comparison import Counter, Counts, Way, baselines_of, strengths_of
from adapt.evaluation.scores import confusion_matrix
from adapt.reporting.scorecard import Scorecard
from adapt.run.cards import DEFAULT_TAU
from export.fold.folded import metadata_of
from export.fold.session import Labels
from export.sources.calibrated import is_ours, open_calibrated
from export.sources.pictures import classes_of, target_pictures
from export.sources.reference import Reference, bare_reference, labels_of
from export.sources.source import read_model
from serve.card import Card, Key
from serve.inference.segmenter import Segmenter
from serve.inference.sizes import fit, unfit
from serve.media.progress import Bar

DEFAULT_TAUS = (0.0, DEFAULT_TAU, 1.0)

Image = NDArray[np.uint8]
Offsets = Mapping[Adjustment, Tensor]
Labeller = Callable[[Image, Offsets], dict[Way, Labels]]
"""A picture [H, W, 3] to labels [H, W] by strength and baseline."""


class Counted(NamedTuple):
    """A file held against labels."""

    classes: tuple[str, ...]
    ways: dict[Way, Counts]
    """Strengths, then baselines."""
    shares: Shares | None
    """What the baselines are adjusted by."""


def score_file(
    file: Path,
    data: Path,
    taus: Sequence[float],
    stats: Path | None,
    size: tuple[int, int] | None,
    other_model: bool = False,
    target: Sequence[Path] = (),
    profile: str | None = None,
) -> Scorecard:
    """Scores by strength of the correction, and of the baselines; arguments as of `count_file`."""
    counted = count_file(file, data, taus, stats, size, other_model, target, profile)
    counts = counted.ways
    return Scorecard(counted.classes, strengths_of(counts), baselines_of(counts), counted.shares)


def count_file(
    file: Path,
    data: Path,
    taus: Sequence[float],
    stats: Path | None,
    size: tuple[int, int] | None,
    other_model: bool = False,
    target: Sequence[Path] = (),
    profile: str | None = None,
) -> Counted:
    """What every strength of the correction, and every baseline, gets right, picture by picture.

    Args:
        file: a graph of ours; with `stats` any segmenter.
        data: labelled folder.
        taus: strengths. Empty takes what the file itself can do: without and with its folded strength; with
            `stats` 0, 0.5 and 1.
        stats: what `calibrate` wrote for the file; without it, the file is one of ours.
        size: (height, width) that pictures are brought to first; None keeps their own. Labels keep theirs:
            the file's are brought to them.
        other_model: take `stats` though they are of another graph.
        target: unlabelled pictures or videos that the baselines' shares are counted on; empty has none.
        profile: which correction of a file of ours that holds several; None is its first.

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
        segmenter = Segmenter(file, profile=profile)
        card = segmenter.card
        logits = _network_inside(file) if target else None
        labeller = _shipped(segmenter, taus, logits)
    else:
        source, given = open_calibrated(file, stats)
        strength = source.strength(given, 0.0, False, other_model=other_model)
        if given.note:
            click.echo(given.note, err=True)
        card, table, logits = source.card, shift_table(strength.statistics), source.reference()
        labeller = _calibrated(logits, card, table, taus or DEFAULT_TAUS)
    dataset = open_labelled(data, classes_of(card), size, keep_labels=True)
    shares = _shares(logits, card, target, size) if logits is not None and target else None
    offsets = {} if shares is None else adjustments(shares)
    counts = {way: c.counts() for way, c in _counters(labeller, dataset, len(card.classes), offsets).items()}
    return Counted(card.classes, counts, shares)


def _network_inside(file: Path) -> Reference:
    """The logits of a file of ours. Raises InputError if it does not say where its network ends."""
    model = read_model(file)
    if Key.ENDS not in metadata_of(model):
        raise InputError(
            f"{file} does not say where its network ends, so it gives no logits to adjust for the baselines; "
            "export it again, or leave --baselines out."
        )
    return bare_reference(model, str(file))


def _shares(logits: Reference, card: Card, target: Sequence[Path], size: tuple[int, int] | None) -> Shares:
    """Shares of the classes on unlabelled pictures, as the network sees them."""
    count = ShareCount(len(card.classes))
    with target_pictures(target, size) as images:
        for index in Bar(range(len(images)), desc="shares of the target", unit="image"):
            image = images[index]
            inside = card.size or image.shape[:2]  # what is padded does not count
            count.add(torch.as_tensor(logits(fit(card, image[None]))), card.output_stride, inside)
    return count.shares()


def _shipped(segmenter: Segmenter, taus: Sequence[float], logits: Reference | None) -> Labeller:
    """The file's own labels, those of other strengths as far as it can give them, and of the baselines."""
    own = _shipped_strengths(segmenter, taus)

    def label(image: Image, offsets: Offsets) -> dict[Way, Labels]:
        by_way: dict[Way, Labels] = dict(own(image).items())
        if logits is None or not offsets:
            return by_way
        card = segmenter.card
        seen = fit(card, image[None])
        found = _baselines(torch.as_tensor(logits(seen)), card, seen.shape[1:3], offsets)
        for way, labels in found.items():
            by_way[way] = unfit(card, labels[None], *image.shape[:2])[0]
        return by_way

    return label


def _shipped_strengths(
    segmenter: Segmenter, taus: Sequence[float]
) -> Callable[[Image], Mapping[float, Labels]]:
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

    def label(image: Image) -> Mapping[float, Labels]:
        said = segmenter(image, extras={"uncorrected_labels"} if both else False)
        plain = {} if said.uncorrected_labels is None else {0.0: said.uncorrected_labels}
        return plain | {folded: said.labels}

    wanted = tuple(taus) or able
    return lambda image: {tau: labels for tau, labels in label(image).items() if tau in wanted}


def _calibrated(logits: Reference, card: Card, table: ShiftTable, taus: Sequence[float]) -> Labeller:
    def label(image: Image, offsets: Offsets) -> dict[Way, Labels]:
        seen = image if card.size is None else resize_image(image, card.size)
        found = torch.as_tensor(logits(seen[None]))
        by_way: dict[Way, Labels] = {tau: labels_of(found, card, seen.shape[:2], table, tau) for tau in taus}
        by_way.update(_baselines(found, card, seen.shape[:2], offsets).items())
        return {way: resize_labels(labels, image.shape[:2]) for way, labels in by_way.items()}

    return label


def _baselines(
    logits: Tensor, card: Card, size: tuple[int, ...], offsets: Offsets
) -> dict[Adjustment, Labels]:
    """Labels of every baseline, in the size (height, width) that the network saw."""
    return {way: labels_of(adjusted(logits, offset), card, size) for way, offset in offsets.items()}


def _counters(
    labeller: Labeller, dataset: LabelledImages, num_classes: int, offsets: Offsets
) -> dict[Way, Counter]:
    counters: dict[Way, Counter] = {}
    for index in Bar(range(len(dataset)), desc="evaluate", unit="image"):
        image, truth = dataset[index]
        for way, labels in labeller(image, offsets).items():
            counted = confusion_matrix(truth, resize_labels(labels, truth.shape[:2]), num_classes)
            counters.setdefault(way, Counter(num_classes)).add(counted)
    return counters
