"""Open a run again to train on: with the settings that may change, on data that is what it was."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapt.augmentation.pairs import LabelledTarget
from adapt.commands.opening import (
    checked_labels,
    open_evaluation,
    open_labelled_target,
    open_sources,
    open_unlabelled,
    say,
    training_domains,
    warn_of_absent,
)
from adapt.config.changes import check_resumable
from adapt.config.settings import Config, with_assignments
from adapt.data.datasets import LabelledImages, check_images, check_labels
from adapt.data.folders.target import find_target
from adapt.data.survey.words import describe_sets
from adapt.errors import InputError
from adapt.model.build import COPY, Built
from adapt.run.checkpoint import has_checkpoint
from adapt.run.fingerprint import (
    Fingerprint,
    describe_changes,
    fingerprint,
    moved,
    read_fingerprint,
    write_fingerprint,
)
from adapt.run.run import Run, load_run, write_text
from adapt.run.stored import read_class_pixels
from adapt.training.checks import check_machine, check_network
from adapt.training.journal import last_evaluation, rewind
from adapt.training.trainer import Trainer
from serve.media.whole import replacing

SOURCE_PIXELS, TARGET_PIXELS = "class_pixels.npy", "target_class_pixels.npy"
"""Pixels of each class in each labelled picture, of the source and of the target."""


class Places(NamedTuple):
    """Where the data of a run is now; empty or None where it has not moved."""

    source: tuple[Path, ...] = ()
    target: tuple[Path, ...] = ()
    target_labels: Path | None = None
    evaluate: Path | None = None


NOWHERE_ELSE = Places()


def resumed_trainer(path: Path, assignments: tuple[str, ...] = (), places: Places = NOWHERE_ELSE) -> Trainer:
    """Open a run folder to continue its training.

    Args:
        path: the run.
        assignments: "section.key=value" texts, settings to change from here on.
        places: of its data, if it has moved; several sources or targets in their order.

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
    other = changed.data.evaluate != run.config.data.evaluate  # another one to evaluate on, as is free
    changed = _moved(changed, places)
    factory = path / COPY if "factory" in run.card.model.encoder else None
    built = Built(run.segmenter(), run.card.recipe, factory, run.card.license_note)
    check_machine(changed)
    check_network(changed, built.segmenter)
    trainer = _trainer(replace(run, config=changed), built, any(places), other)
    if trainer.domains.evaluation is not None and other:
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


def _moved(config: Config, places: Places) -> Config:
    """The same with data in other places.

    Raises:
        InputError: more or fewer than there are, or data that is not where it is said to be.
    """
    data = config.data
    now = {"source": moved(data.source, places.source, "source")}
    now["target"] = moved(data.target, places.target, "target")
    for key in ("target_labels", "evaluate"):
        own, given = getattr(data, key), getattr(places, key)
        if own is None and given is not None:
            begin = f"; --set data.evaluate={given} begins to evaluate" if key == "evaluate" else ""
            raise InputError(f"the run has no {_CALLED[key]} that could have moved to {given}{begin}.")
        now[key] = moved(_listed(own), _listed(given), key.replace("_", "-"))
    for key, paths in now.items():
        if gone := [path for path in paths if not path.exists()]:
            option = key.replace("_", "-")
            raise InputError(
                f"the {_CALLED[key]} {gone[0]} is not there; bring it back, or if it has moved, name its new "
                f"place with --{option} beside --resume."
            )
    single = {key: (now.pop(key) or (None,))[0] for key in ("target_labels", "evaluate")}
    return config.model_copy(update={"data": data.model_copy(update={**now, **single})})


_CALLED = {
    "source": "source",
    "target": "target",
    "target_labels": "labelled target",
    "evaluate": "data to evaluate on",
}


def _listed(path: Path | None) -> tuple[Path, ...]:
    return () if path is None else (path,)


def _trainer(run: Run, built: Built, compare: bool, other_evaluation: bool) -> Trainer:
    """A trainer over an existing run folder, whose data is as it was, or has been accepted as it is.

    compare: whether data was named that must be what the run knows.
    other_evaluation: whether other pictures to evaluate on have been set.
    """
    config = run.config
    source = open_sources(config, run.classes)
    parts = find_target(config.data.target)
    pictures, evaluation = open_labelled_target(config, run.classes), open_evaluation(config, run.classes)
    now = fingerprint(config.data, source, parts, pictures, evaluation)
    changed = _compared(run, now, compare, other_evaluation)
    if "source" in changed and source is not None:
        _recount(run, source, "source", SOURCE_PIXELS)
    if "labelled target" in changed and pictures is not None:
        _recount(run, pictures, "labelled target", TARGET_PIXELS)
    if "evaluation" in changed and evaluation is not None:
        check_labels(evaluation)
    pixels = None
    if source is not None:
        what = f"the source {', '.join(map(str, config.data.source))}"
        pixels = _class_pixels(run, SOURCE_PIXELS, source, what)
    target = open_unlabelled(config, run.path)
    if "target" in changed and target is not None:
        check_images(target)
    labelled = None
    if pictures is not None:
        what = f"the labelled target {config.data.target_labels}"
        counted = _class_pixels(run, TARGET_PIXELS, pictures, what)
        labelled = LabelledTarget(pictures, counted, config.method.labelled_share)
    domains = training_domains(config, source, target, evaluation, pixels, labelled)
    return Trainer(run.path, config, built, run.classes, domains)


def _compared(run: Run, now: Fingerprint, compare: bool, other_evaluation: bool) -> set[str]:
    """Hold the data against what the run notes, and note it; which of it has changed and was accepted.

    Raises:
        InputError: it has changed, or cannot be compared, and that is not accepted.
    """
    accept = run.config.data.changed == "accept"
    before = read_fingerprint(run.path)
    if before is not None and other_evaluation:
        before = before._replace(evaluation=None)
    found = [] if before is None else describe_changes(before, now)
    if compare and not accept and (before is None or before.incomplete(now)):
        raise InputError(
            f"{run.path} was started by a version that did not note its data, so the named one cannot be "
            "compared with it; if it is the same, add --set data.changed=accept."
        )
    if found and not accept:
        raise InputError(
            f"the data of {run.path} is not as it was when it was started: "
            f"{'; '.join(change.words for change in found)}; bring it back, or go on with what is there with "
            "--set data.changed=accept."
        )
    everything = before is None and accept
    if found or everything:
        say(f"accepted: {'; '.join(change.words for change in found) or 'the data, as it is'}")
    elif accept:
        say("data.changed=accept was not needed: the data is as it was")
    if before != now:  # changed, moved, or not noted yet
        write_fingerprint(run.path, now)
    return {*now.domains} if everything else {change.domain for change in found}


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


def _recount(run: Run, pictures: LabelledImages, domain: str, name: str) -> None:
    """Read labels anew, for rare-class sampling."""
    for line in describe_sets(domain, pictures):
        say(line)
    class_pixels = checked_labels(domain, pictures).class_pixels
    if domain == "source":
        warn_of_absent(run.classes, class_pixels)
    write_pixels(run.path / name, class_pixels)


def write_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write pixels of each class [pictures, C] atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, pixels)
