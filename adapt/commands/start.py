"""Start a run, or open one again: check the data, build the network, write the folder's first state."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adapt.augmentation.pairs import LabelledTarget
from adapt.commands.auto import Chosen, choose_encoder
from adapt.commands.beginning import absolute, begin, without_source
from adapt.commands.looking import look_first
from adapt.commands.notes import say_differences, warn_of_absent, warn_of_twice
from adapt.commands.opening import (
    check_openable,
    checked_labels,
    open_evaluation,
    open_labelled_target,
    open_unlabelled,
    say,
    say_draws,
    say_target,
    training_domains,
)
from adapt.config.changes import check_resumable
from adapt.config.presets import AUTO
from adapt.config.settings import Config, with_assignments
from adapt.data.classes import ClassList
from adapt.data.datasets import LabelledImages, Sample, UnlabelledImages, check_images, check_labels
from adapt.data.domains import open_source
from adapt.data.folders.target import find_target
from adapt.data.images import write_png
from adapt.data.survey.sets import Opened
from adapt.data.survey.words import describe_sets
from adapt.errors import InputError
from adapt.model.build import COPY, Built
from adapt.model.device import best_device
from adapt.run.anchors import keep_anchors, read_anchors
from adapt.run.checkpoint import has_checkpoint
from adapt.run.fingerprint import describe_changes, fingerprint, moved, read_fingerprint, write_fingerprint
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
from adapt.training.checks import check_machine, check_network, check_settings
from adapt.training.journal import last_evaluation, rewind
from adapt.training.ranks import join_ranks
from adapt.training.trainer import Trainer
from adapt.training.watching.start import set_to_target
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
    auto = preset == AUTO and config.model.start is None
    config, reasons = choose_encoder(config) if auto else Chosen(config, [])
    if preset != AUTO:  # which says all of them
        say_differences(config, preset)
    config = without_source(absolute(config))
    torch.manual_seed(config.training.seed)
    begun = begin(config, preset)
    built, classes = begun.built, begun.classes
    config = config.model_copy(update={"model": begun.model})
    source = _open_source(config, classes)
    labelled, evaluation = open_labelled_target(config, classes), open_evaluation(config, classes)
    parts = find_target(config.data.target)
    check_openable(parts)
    said: list[str] = []
    if source is None:
        check_network(config, built.segmenter)
    else:
        opened = Opened(source, parts, labelled, evaluation)
        config, said = look_first(config, preset, opened, built.segmenter, reasons)
    # From here on everything is read, which takes long: the shortest first.
    with creating(out, replace=force) as folder:
        if evaluation is not None:
            checked_labels("evaluation", evaluation, said)
        target = open_unlabelled(config, folder)
        if target is not None:
            say_target(parts, target, said)
            check_images(target)
        if labelled is not None:
            pixels = checked_labels("labelled target", labelled, said).class_pixels
            _write_pixels(folder / TARGET_PIXELS, pixels)
            warn_of_twice(labelled, target, evaluation)
        if source is not None:
            class_pixels = checked_labels("source", source, said).class_pixels
            warn_of_absent(classes, class_pixels)
            _write_pixels(folder / SOURCE_PIXELS, class_pixels)
        say_draws(config, source, target)
        if config.method.anchors is not None:
            keep_anchors(folder, read_anchors(config.method.anchors, config.method.components))
        if config.source_free and target is not None:
            set_to_target(built.segmenter, target, config, best_device())
        write_fingerprint(folder, fingerprint(config.data.source, source, parts))
        write_text(folder / "config.yaml", config.to_yaml())
        if built.factory is not None:
            shutil.copyfile(built.factory, folder / COPY)
        _keep_frames(folder, target, source)
        write_tensors(folder / "model.safetensors", prefixed("student", built.segmenter.state_dict()))
        if config.method.feature_distance > 0:
            write_tensors(folder / PRETRAINED, built.segmenter.encoder.state_dict())
        write_card(folder, new_card(built, classes, config.training.seed))


def resumed_trainer(
    path: Path, assignments: tuple[str, ...] = (), source: Sequence[Path] = (), target: Sequence[Path] = ()
) -> Trainer:
    """Open a run folder to continue its training.

    Args:
        path: the run.
        assignments: "section.key=value" texts, settings to change from here on.
        source: where its sources are now, if they have moved; each of them, in order.
        target: the same of the targets.

    Raises:
        InputError: not a run, already finished, changes that would make it another run, or its data has
            changed or gone.
    """
    run = load_run(path)
    changed = with_assignments(run.config, assignments)
    for change in check_resumable(run.config, changed):
        print(f"from iteration {run.card.iterations} on: {change}", file=sys.stderr)
    if run.card.stopped_at is not None:
        raise InputError(
            f"{path} was ended by its guard at iteration {run.card.stopped_at}, since self-training drifted; "
            "start a new run with lower learning rates or fewer iterations, or with method.guard=false."
        )
    if run.card.finished and changed.training.iterations <= run.card.iterations:
        raise InputError(
            f"{path} is finished ({run.card.iterations} iterations); there is nothing to resume. To "
            "train on, raise training.iterations with --set."
        )
    changed = _moved(changed, source, target)
    factory = path / COPY if "factory" in run.card.model.encoder else None
    built = Built(run.segmenter(), run.card.recipe, factory, run.card.license_note)
    check_machine(changed)
    check_network(changed, built.segmenter)
    trainer = _trainer(replace(run, config=changed), built, compare=bool(source or target))
    if trainer.domains.evaluation is not None and changed.data.evaluate != run.config.data.evaluate:
        check_labels(trainer.domains.evaluation)  # as at the start of a run, not hours later
    kept = changed.model_copy(update={"data": changed.data.model_copy(update={"changed": "refuse"})})
    if kept != run.config:  # only now: a run must not be left with settings that it cannot be resumed with
        write_text(path / "config.yaml", kept.to_yaml())
    if has_checkpoint(path / "last"):
        trainer.resume()
    if trainer.accelerator.is_main_process:  # the others write nothing down
        rewind(path, trainer.iteration)
        trainer.evaluated = last_evaluation(path, run.card, trainer.iteration)
    return trainer


def _moved(config: Config, source: Sequence[Path], target: Sequence[Path]) -> Config:
    """The same with data in other places.

    Raises:
        InputError: more or fewer than there are, or data that is not where it is said to be.
    """
    data = config.data
    places = {"source": moved(data.source, source, "source"), "target": moved(data.target, target, "target")}
    for domain, paths in places.items():
        if gone := [path for path in paths if not path.exists()]:
            raise InputError(
                f"the {domain} {gone[0]} is not there; bring it back, or if it has moved, name its new place "
                f"with --{domain} beside --resume."
            )
    return config.model_copy(update={"data": data.model_copy(update=places)})


def _trainer(run: Run, built: Built, compare: bool) -> Trainer:
    """A trainer over an existing run folder, whose data is as it was, or has been accepted as it is.

    compare: whether data was named that must be what the run knows.
    """
    config = run.config
    source = _open_source(config, run.classes)
    parts = find_target(config.data.target)
    accept = config.data.changed == "accept"
    now = fingerprint(config.data.source, source, parts)
    before = read_fingerprint(run.path)
    found = [] if before is None else describe_changes(before, now)
    if before is None and compare and not accept:
        raise InputError(
            f"{run.path} was started by a version that did not note its data, so the named one cannot be "
            "compared with it; if it is the same, add --set data.changed=accept."
        )
    if found and not accept:
        raise InputError(
            f"the data of {run.path} is not as it was when it was started: {'; '.join(found)}; bring it "
            "back, or go on with what is there with --set data.changed=accept."
        )
    if found or (before is None and accept):
        say(f"accepted: {'; '.join(found) or 'the data, as it is'}")
        if source is not None:
            _recount(run, source)
    elif accept:
        say("data.changed=accept was not needed: the data is as it was")
    if before != now:  # changed, moved, or not noted yet
        write_fingerprint(run.path, now)
    pixels = None
    if source is not None:
        what = f"the source {', '.join(map(str, config.data.source))}"
        pixels = _class_pixels(run, SOURCE_PIXELS, source, what)
    target = open_unlabelled(config, run.path)
    if found and target is not None:
        check_images(target)
    labelled = None
    if (pictures := open_labelled_target(config, run.classes)) is not None:
        what = f"the labelled target {config.data.target_labels}"
        counted = _class_pixels(run, TARGET_PIXELS, pictures, what)
        labelled = LabelledTarget(pictures, counted, config.method.labelled_share)
    evaluation = open_evaluation(config, run.classes)
    domains = training_domains(config, source, target, evaluation, pixels, labelled)
    return Trainer(run.path, config, built, run.classes, domains)


def _open_source(config: Config, classes: ClassList) -> LabelledImages | None:
    return open_source(config.data, classes) if config.data.source else None


def _class_pixels(run: Run, name: str, pictures: LabelledImages, what: str) -> np.ndarray:
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


def _recount(run: Run, source: LabelledImages) -> None:
    """Read the source's labels anew, for rare-class sampling."""
    for line in describe_sets("source", source):
        say(line)
    class_pixels = checked_labels("source", source).class_pixels
    warn_of_absent(run.classes, class_pixels)
    _write_pixels(run.path / SOURCE_PIXELS, class_pixels)


def _write_pixels(path: Path, pixels: np.ndarray) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, pixels)


def _keep_frames(folder: Path, target: UnlabelledImages | None, source: LabelledImages | None) -> None:
    """Put a few pictures, evenly spread over the target (the source, without one), into report/frames."""
    place = folder / "report" / "frames"
    place.mkdir(parents=True)
    pictures = source if target is None else target
    assert pictures is not None, "there is one of the two"
    count = len(pictures)
    for number, index in enumerate(np.linspace(0, count - 1, min(FRAMES, count)).astype(int)):
        picture = pictures[index]
        write_png(place / f"{number}.png", picture.image if isinstance(picture, Sample) else picture)
