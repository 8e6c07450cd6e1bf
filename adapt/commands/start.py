"""Start a run, or open one again: check the data, build the network, write the folder's first state."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adapt.augmentation.pairs import Domains, LabelledTarget, TrainingPairs
from adapt.commands.notes import say, say_differences, warn_of_absent, warn_of_twice
from adapt.config.changes import check_resumable
from adapt.config.settings import Config, with_assignments
from adapt.data.classes import ClassList
from adapt.data.datasets import LabelledFolder, UnlabelledImages, check_images, check_labels, open_target
from adapt.data.domains import find_classes, open_labelled, open_source
from adapt.data.finding import TargetPart, describe_target, find_target
from adapt.data.frames import check_video
from adapt.data.images import write_png
from adapt.errors import InputError
from adapt.model.build import COPY, Built, build
from adapt.run.run import (
    PRETRAINED,
    Run,
    claim,
    load_run,
    new_card,
    prefixed,
    write_card,
    write_tensors,
    write_text,
)
from adapt.run.stored import read_class_pixels
from adapt.training.alone import alone
from adapt.training.checks import check_classes, check_machine, check_network, check_settings
from adapt.training.journal import last_evaluation, rewind
from adapt.training.ranks import join_ranks
from adapt.training.trainer import Trainer
from serve.media.images import read_image
from serve.media.whole import creating, replacing

SOURCE_PIXELS, TARGET_PIXELS = "class_pixels.npy", "target_class_pixels.npy"
"""Pixels of each class in each labelled picture, of the source and of the target."""
FRAMES = 4
"""Target pictures kept in the run for checks and reports."""


def new_trainer(config: Config, out: Path, force: bool, preset: str | None = None) -> Trainer:
    """Check everything, then create the run folder, which appears complete (untrained) or not at all.

    Args:
        config: settings.
        out: the run folder.
        force: replace a run that is there.
        preset: name of the preset that the settings began with.

    Raises:
        InputError: anything wrong with the settings, the data or the place of the run.
    """
    # Of several ranks the first one checks and creates; a refusal there ends them all.
    join_ranks()
    alone(lambda: _create(config, out, force, preset))
    # A new run is one resumed from iteration 0: there is only one way into training.
    return resumed_trainer(out)


def _create(config: Config, out: Path, force: bool, preset: str | None) -> None:
    """Write a run folder with untrained weights."""
    claim(out, force)
    check_settings(config, preset)
    say_differences(config, preset)
    config = _absolute(config)
    assert config.data.source is not None
    classes = find_classes(config.data.source, config.data.classes)
    check_classes(config, preset, classes)
    source = open_source(config.data, classes)
    labelled, evaluation = _labelled(config, classes), _evaluation(config, classes)
    parts = find_target(config.data.target)
    _check_openable(parts)
    torch.manual_seed(config.training.seed)
    built = build(config.model, len(classes))
    check_network(config, built.segmenter)
    # From here on everything is read, which takes long: the shortest first.
    with creating(out, replace=force) as folder:
        if evaluation is not None:
            say("evaluation", evaluation)
            check_labels(evaluation)
        target = _target(config, folder)
        if target is not None:
            frames = len(target) - sum(len(part.pictures) for part in parts)
            print(f"target: {describe_target(parts, frames)}", file=sys.stderr)
            check_images(target)
        if labelled is not None:
            say("labelled target", labelled)
            _write_pixels(folder / TARGET_PIXELS, check_labels(labelled).class_pixels)
            warn_of_twice(labelled, target, evaluation)
        say("source", source)
        class_pixels = check_labels(source).class_pixels
        warn_of_absent(classes, class_pixels)
        write_text(folder / "config.yaml", config.to_yaml())
        _write_pixels(folder / SOURCE_PIXELS, class_pixels)
        if built.factory is not None:
            shutil.copyfile(built.factory, folder / COPY)
        _keep_frames(folder, target, source)
        write_tensors(folder / "model.safetensors", prefixed("student", built.segmenter.state_dict()))
        if config.method.feature_distance > 0:
            write_tensors(folder / PRETRAINED, built.segmenter.encoder.state_dict())
        write_card(folder, new_card(built, classes, config.training.seed))


def _check_openable(parts: list[TargetPart]) -> None:
    """Open every video and the first picture of every folder; all of them are read later.

    Raises:
        InputError: one cannot be read.
    """
    for part in parts:
        if part.is_video:
            check_video(part.path)
        else:
            read_image(part.pictures[0])


def resumed_trainer(path: Path, assignments: tuple[str, ...] = ()) -> Trainer:
    """Open a run folder to continue its training.

    Args:
        path: the run.
        assignments: "section.key=value" texts, settings to change from here on.

    Raises:
        InputError: not a run, already finished, changes that would make it another run, or its data has
            changed or gone.
    """
    run = load_run(path)
    changed = with_assignments(run.config, assignments)
    for change in check_resumable(run.config, changed):
        print(f"from iteration {run.card.iterations} on: {change}", file=sys.stderr)
    if run.card.finished and changed.training.iterations <= run.card.iterations:
        raise InputError(
            f"{path} is finished ({run.card.iterations} iterations); there is nothing to resume. To "
            "train on, raise training.iterations with --set."
        )
    factory = path / COPY if "factory" in run.card.model.encoder else None
    built = Built(run.segmenter(), run.card.recipe, factory, run.card.license_note)
    check_machine(changed)
    check_network(changed, built.segmenter)
    trainer = _trainer(replace(run, config=changed), built)
    if trainer.domains.evaluation is not None and changed.data.evaluate != run.config.data.evaluate:
        check_labels(trainer.domains.evaluation)  # as at the start of a run, not hours later
    if assignments:  # only now: a run must not be left with settings that it cannot be resumed with
        write_text(path / "config.yaml", changed.to_yaml())
    if any((path / "last").glob("*.safetensors")):
        trainer.resume()
    if trainer.accelerator.is_main_process:  # the others write nothing down
        rewind(path, trainer.iteration)
        trainer.evaluated = last_evaluation(path, run.card, trainer.iteration)
    return trainer


def _trainer(run: Run, built: Built) -> Trainer:
    """A trainer over an existing run folder."""
    config = run.config
    source, labelled = open_source(config.data, run.classes), _labelled(config, run.classes)
    target = _target(config, run.path)
    share = config.method.labelled_share
    pairs = TrainingPairs(
        source,
        target if config.method.self_training else None,
        _class_pixels(run, SOURCE_PIXELS, source, f"the source {config.data.source}"),
        crop=config.data.crop,
        rare_class_temperature=config.method.rare_class_temperature,
        seed=config.training.seed,
        labelled=None
        if labelled is None
        else LabelledTarget(
            labelled,
            _class_pixels(run, TARGET_PIXELS, labelled, f"the labelled target {config.data.target_labels}"),
            share,
        ),
    )
    domains = Domains(source, target, _evaluation(config, run.classes), pairs, labelled)
    return Trainer(run.path, config, built, run.classes, domains)


def _class_pixels(run: Run, name: str, pictures: LabelledFolder, what: str) -> np.ndarray:
    """How many pixels of each class each picture has, as it was counted at the start of the run.

    Raises:
        InputError: there are more or fewer pictures now.
    """
    pixels = read_class_pixels(run.path / name, len(run.classes))
    if len(pixels) != len(pictures):
        raise InputError(
            f"{what} had {len(pixels)} images when {run.path} was started and has {len(pictures)} now; bring "
            "it back as it was, or start a new run."
        )
    return pixels


def _write_pixels(path: Path, pixels: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, pixels)


def _target(config: Config, folder: Path) -> UnlabelledImages | None:
    if not config.data.target:
        return None
    return open_target(config.data.target, folder / "frames", config.data.frames, config.data.size)


def _labelled(config: Config, classes: ClassList) -> LabelledFolder | None:
    """The labelled pictures of the target to train on, if there are some."""
    if config.data.target_labels is None:
        return None
    return open_labelled(config.data.target_labels, classes, config.data.size, split="train")


def _evaluation(config: Config, classes: ClassList) -> LabelledFolder | None:
    if config.data.evaluate is None:
        return None
    return open_labelled(config.data.evaluate, classes, config.data.size, keep_labels=True)


def _keep_frames(folder: Path, target: UnlabelledImages | None, source: LabelledFolder) -> None:
    """Put a few pictures, evenly spread over the target, into report/frames."""
    place = folder / "report" / "frames"
    place.mkdir(parents=True)
    count = len(source) if target is None else len(target)
    for number, index in enumerate(np.linspace(0, count - 1, min(FRAMES, count)).astype(int)):
        image = source[index].image if target is None else target[index]
        write_png(place / f"{number}.png", image)


def _absolute(config: Config) -> Config:
    """Paths that mean the same from any working folder, so that a run can be resumed from anywhere."""
    data = config.data
    paths = {
        "source": data.source and data.source.absolute(),
        "target": tuple(path.absolute() for path in data.target),
        "target_labels": data.target_labels and data.target_labels.absolute(),
        "classes": data.classes and data.classes.absolute(),
        "label_map": data.label_map and data.label_map.absolute(),
        "evaluate": data.evaluate and data.evaluate.absolute(),
    }
    return config.model_copy(update={"data": data.model_copy(update=paths)})
