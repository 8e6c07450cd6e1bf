"""Start a run: check the data, build the network, write the folder's first state."""

import shutil
from pathlib import Path

import numpy as np
import torch

from adapt.commands.auto import Chosen, choose_encoder
from adapt.commands.beginning import absolute, begin, without_source
from adapt.commands.looking import look_first
from adapt.commands.opening import (
    check_openable,
    checked_labels,
    open_evaluation,
    open_labelled_target,
    open_sources,
    open_unlabelled,
    say_differences,
    say_draws,
    say_target,
    warn_of_absent,
    warn_of_twice,
)
from adapt.commands.resuming import SOURCE_PIXELS, TARGET_PIXELS, resumed_trainer, write_pixels
from adapt.config.presets import AUTO
from adapt.config.settings import Config
from adapt.data.datasets import LabelledImages, Sample, UnlabelledImages, check_images
from adapt.data.folders.target import find_target
from adapt.data.images import write_png
from adapt.data.survey.sets import Opened
from adapt.model.build import COPY
from adapt.model.device import best_device
from adapt.run.anchors import keep_anchors, read_anchors
from adapt.run.fingerprint import fingerprint, write_fingerprint
from adapt.run.run import (
    PRETRAINED,
    claim,
    new_card,
    prefixed,
    write_card,
    write_tensors,
    write_text,
)
from adapt.training.alone import alone
from adapt.training.checks import check_settings
from adapt.training.ranks import join_ranks
from adapt.training.trainer import Trainer
from adapt.training.watching.start import set_to_target
from serve.media.whole import creating

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
    source = open_sources(config, classes)
    labelled, evaluation = open_labelled_target(config, classes), open_evaluation(config, classes)
    parts = find_target(config.data.target)
    check_openable(parts)
    opened = Opened(classes, source, parts, labelled, evaluation)
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
            write_pixels(folder / TARGET_PIXELS, pixels)
            warn_of_twice(labelled, target, evaluation)
        if source is not None:
            class_pixels = checked_labels("source", source, said).class_pixels
            warn_of_absent(classes, class_pixels)
            write_pixels(folder / SOURCE_PIXELS, class_pixels)
        say_draws(config, source, target)
        if config.method.anchors is not None:
            keep_anchors(folder, read_anchors(config.method.anchors, config.method.components))
        if config.source_free and target is not None:
            set_to_target(built.segmenter, target, config, best_device())
        write_fingerprint(folder, fingerprint(config.data, source, parts, labelled, evaluation))
        write_text(folder / "config.yaml", config.to_yaml())
        if built.factory is not None:
            shutil.copyfile(built.factory, folder / COPY)
        _keep_frames(folder, target, source)
        write_tensors(folder / "model.safetensors", prefixed("student", built.segmenter.state_dict()))
        if config.method.feature_distance > 0:
            write_tensors(folder / PRETRAINED, built.segmenter.encoder.state_dict())
        write_card(folder, new_card(built, classes, config.training.seed))


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
