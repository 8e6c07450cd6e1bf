"""The data of a run opened for training, and what is said of it."""

import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from adapt.augmentation.draws import part_shares
from adapt.augmentation.pairs import Domains, LabelledTarget, TrainingPairs
from adapt.config.settings import Config
from adapt.config.unused import differences
from adapt.data.classes import ClassList
from adapt.data.datasets import (
    LabelledImages,
    LabelReport,
    UnlabelledImages,
    check_labels,
    open_target,
    read_picture,
)
from adapt.data.domains import Unpaired, open_labelled, open_source
from adapt.data.folders.target import TargetPart, describe_target
from adapt.data.frames import check_video
from adapt.data.values.averaged import describe_averaged
from adapt.data.values.ignored import describe_ignored


def check_openable(parts: list[TargetPart]) -> None:
    """Open every video and the first picture of every folder; all of them are read later.

    Raises:
        InputError: one cannot be read.
    """
    for part in parts:
        if part.pictures:
            read_picture(part.pictures[0])
        for video in part.videos:
            check_video(video)


def open_sources(config: Config, classes: ClassList) -> LabelledImages | None:
    """The labelled sources of the settings; None where there are none."""
    return open_source(config.data, classes) if config.data.source else None


def open_unlabelled(config: Config, folder: Path) -> UnlabelledImages | None:
    """The target of the settings, with frames of videos in the run folder; None where there is none."""
    if not config.data.target:
        return None
    return open_target(config.data.target, folder / "frames", config.data.frames, config.data.size)


def open_evaluation(
    config: Config, classes: ClassList, unpaired: Unpaired | None = None
) -> LabelledImages | None:
    """The labelled data of the target domain in the settings; None where there is none.

    unpaired: as of `find_pairs`.
    """
    if config.data.evaluate is None:
        return None
    return open_labelled(config.data.evaluate, classes, config.data.size, keep_labels=True, unpaired=unpaired)


def open_labelled_target(
    config: Config, classes: ClassList, unpaired: Unpaired | None = None
) -> LabelledImages | None:
    """The labelled pictures of the target to train on, if there are some; `unpaired` as of `find_pairs`."""
    if config.data.target_labels is None:
        return None
    place = config.data.target_labels
    return open_labelled(place, classes, config.data.size, split="train", unpaired=unpaired)


def training_domains(
    config: Config,
    source: LabelledImages | None,
    target: UnlabelledImages | None,
    evaluation: LabelledImages | None,
    class_pixels: np.ndarray | None,
    labelled: LabelledTarget | None,
) -> Domains:
    """All data of a training, with the pairs drawn from it; class_pixels [images, C] of a source."""
    pairs = TrainingPairs(
        source,
        target if config.method.self_training else None,
        class_pixels,
        crop=config.data.crop,
        rare_class_temperature=config.method.rare_class_temperature,
        seed=config.training.seed,
        source_weights=config.data.source_weights,
        target_weights=config.data.target_weights,
        labelled=labelled,
    )
    pictures = None if labelled is None else labelled.pictures
    return Domains(source, target, evaluation, pairs, pictures)


def checked_labels(domain: str, dataset: LabelledImages, said: Collection[str] = ()) -> LabelReport:
    """Read it all, and say what of it does not count or looks averaged, unless it has been said.

    Raises:
        InputError: as `check_labels`.
    """
    report = check_labels(dataset)
    for line in (*describe_ignored(domain, dataset, report), *describe_averaged(domain, dataset)):
        if line not in said:
            say(line)
    return report


def say_draws(config: Config, source: LabelledImages | None, target: UnlabelledImages | None) -> None:
    """Where there are several sources or targets, how often each is drawn from."""
    data = config.data
    sizes = [] if source is None else source.sizes
    for line in _draws("source", data.source, data.source_weights, sizes):
        say(line)
    if target is not None and config.method.self_training:
        for line in _draws("target", data.target, data.target_weights, target.sizes):
            say(line)


def _draws(
    domain: str, paths: tuple[Path, ...], weights: tuple[float | None, ...], sizes: list[int]
) -> Iterator[str]:
    if len(paths) < 2:
        return
    shares = part_shares(weights, sizes)
    told = [
        f"{path} {100 * share:.3g} % ({size} pictures)"
        for path, share, size in zip(paths, shares, sizes, strict=True)
    ]
    yield f"{domain}, drawn from: {', '.join(told)}"


def say_target(parts: list[TargetPart], target: UnlabelledImages, said: Collection[str] = ()) -> None:
    """One line: what of the target is used, and what is not, unless it has been said."""
    frames = len(target) - sum(len(part.pictures) for part in parts)
    line = f"target: {describe_target(parts, frames)}"
    if line not in said:
        say(line)


def say(line: str) -> None:
    """On standard error, as progress is."""
    print(line, file=sys.stderr)


def say_differences(config: Config, preset: str | None) -> None:
    """What was set: settings pass through a preset, a file and options, and the run is long."""
    found = differences(config, preset)
    if found:
        start = "the defaults" if preset is None else f"the preset {preset}"
        print(f"settings that differ from {start}:", file=sys.stderr)
        for change in found:
            print(f"  {change.key}: {change.before} -> {change.after}", file=sys.stderr)


def warn_of_twice(
    labelled: LabelledImages, target: UnlabelledImages | None, evaluation: LabelledImages | None
) -> None:
    """Say which labelled pictures of the target are used elsewhere too; only the same files can be told."""
    files = {path.resolve() for path in labelled.image_paths}
    if target is not None and (twice := sum(path.resolve() in files for path in target.paths)):
        print(
            f"{twice} of the {len(labelled)} labelled target pictures are unlabelled ones too: there the "
            "teacher labels them, and their labels are not used.",
            file=sys.stderr,
        )
    if evaluation is not None and (twice := sum(path.resolve() in files for path in evaluation.image_paths)):
        print(
            f"warning: {twice} of the {len(evaluation)} pictures to evaluate on are trained on with their "
            "labels, so scores come out too high; evaluate on others.",
            file=sys.stderr,
        )


def warn_of_absent(classes: ClassList, class_pixels: np.ndarray) -> None:
    """Name the classes that the source never shows, and what follows."""
    pixels = class_pixels.sum(0)
    absent = [name for name, number in zip(classes.names, pixels, strict=True) if number == 0]
    if absent:
        print(
            f"warning: no label of the source is {', '.join(absent)}; rare-class sampling never draws such a "
            "class, the network does not learn it, its source mixtures are never fitted, and where it is not "
            "predicted either its logits stay uncorrected. If that is not meant, check the ids in the class "
            "file.",
            file=sys.stderr,
        )
