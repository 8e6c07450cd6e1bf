"""Start a run, or open one again: check the data, build the network, write the folder's first state."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adapt.augmentation.pairs import Domains, TrainingPairs
from adapt.config.changes import check_resumable
from adapt.config.settings import Config, with_assignments
from adapt.config.unused import differences
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
    _say_differences(config, preset)
    config = _absolute(config)
    assert config.data.source is not None
    classes = find_classes(config.data.source, config.data.classes)
    check_classes(config, preset, classes)
    source = open_source(config.data, classes)
    evaluation = _evaluation(config, classes)
    parts = find_target(config.data.target)
    _check_openable(parts)
    torch.manual_seed(config.training.seed)
    built = build(config.model, len(classes))
    check_network(config, built.segmenter)
    # From here on everything is read, which takes long: the shortest first.
    with creating(out, replace=force) as folder:
        if evaluation is not None:
            _say("evaluation", evaluation)
            check_labels(evaluation)
        target = _target(config, folder)
        if target is not None:
            frames = len(target) - sum(len(part.pictures) for part in parts)
            print(f"target: {describe_target(parts, frames)}", file=sys.stderr)
            check_images(target)
        _say("source", source)
        class_pixels = check_labels(source).class_pixels
        _warn_of_absent(classes, class_pixels)
        write_text(folder / "config.yaml", config.to_yaml())
        with replacing(folder / "class_pixels.npy") as temporary, temporary.open("wb") as file:
            np.save(file, class_pixels)
        if built.factory is not None:
            shutil.copyfile(built.factory, folder / COPY)
        _keep_frames(folder, target, source)
        write_tensors(folder / "model.safetensors", prefixed("student", built.segmenter.state_dict()))
        if config.method.feature_distance > 0:
            write_tensors(folder / PRETRAINED, built.segmenter.encoder.state_dict())
        write_card(folder, new_card(built, classes, config.training.seed))


def _say_differences(config: Config, preset: str | None) -> None:
    """What was set: settings pass through a preset, a file and options, and the run is long."""
    found = differences(config, preset)
    if found:
        start = "the defaults" if preset is None else f"the preset {preset}"
        print(f"settings that differ from {start}:", file=sys.stderr)
        for change in found:
            print(f"  {change.key}: {change.before} -> {change.after}", file=sys.stderr)


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
    source = open_source(config.data, run.classes)
    class_pixels = read_class_pixels(run.path / "class_pixels.npy", len(run.classes))
    if len(class_pixels) != len(source):
        raise InputError(
            f"the source {config.data.source} had {len(class_pixels)} images when {run.path} was started and "
            f"has {len(source)} now; bring it back as it was, or start a new run."
        )
    target = _target(config, run.path)
    domains = _domains(config, source, target, _evaluation(config, run.classes), class_pixels)
    return Trainer(run.path, config, built, run.classes, domains)


def _domains(
    config: Config,
    source: LabelledFolder,
    target: UnlabelledImages | None,
    evaluation: LabelledFolder | None,
    class_pixels: np.ndarray,
) -> Domains:
    pairs = TrainingPairs(
        source,
        target if config.method.self_training else None,
        class_pixels,
        crop=config.data.crop,
        rare_class_temperature=config.method.rare_class_temperature,
        seed=config.training.seed,
    )
    return Domains(source, target, evaluation, pairs)


def _target(config: Config, folder: Path) -> UnlabelledImages | None:
    if not config.data.target:
        return None
    return open_target(config.data.target, folder / "frames", config.data.frames, config.data.size)


def _evaluation(config: Config, classes: ClassList) -> LabelledFolder | None:
    if config.data.evaluate is None:
        return None
    return open_labelled(config.data.evaluate, classes, config.data.size, keep_labels=True)


def _say(domain: str, folder: LabelledFolder) -> None:
    """What was found, since layouts and class lists are found by themselves."""
    classes = f"{len(folder.classes)} classes"
    ignored = f"; ignored, since the source lacks them: {', '.join(folder.code.dropped)}"
    print(
        f"{domain}: {len(folder)} images in the layout of {folder.layout}, {classes}"
        f"{ignored if folder.code.dropped else ''}",
        file=sys.stderr,
    )


def _warn_of_absent(classes: ClassList, class_pixels: np.ndarray) -> None:
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
        "classes": data.classes and data.classes.absolute(),
        "label_map": data.label_map and data.label_map.absolute(),
        "evaluate": data.evaluate and data.evaluate.absolute(),
    }
    return config.model_copy(update={"data": data.model_copy(update=paths)})
