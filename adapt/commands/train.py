"""What `adapt train` does, for programs."""

import errno
from collections.abc import Sequence
from pathlib import Path

from adapt.commands.resuming import Places, resumed_trainer
from adapt.commands.start import new_trainer
from adapt.config.presets import AUTO, SOURCE_FREE
from adapt.config.settings import Config, load_config
from adapt.config.weights import split_weights
from adapt.errors import InputError
from adapt.run.run import Run, load_run
from adapt.training.trainer import Trainer


def train(
    output: Path | str,
    *,
    source: Path | str | Sequence[Path | str] = (),
    target: Sequence[Path | str] = (),
    start: Path | str | None = None,
    weights: Path | str | None = None,
    target_labels: Path | str | None = None,
    evaluate: Path | str | None = None,
    classes: Path | str | None = None,
    label_map: Path | str | None = None,
    images: str | None = None,
    labels: str | None = None,
    label_suffix: str | None = None,
    repair_labels: str | None = None,
    preset: str | None = AUTO,
    config: Path | str | None = None,
    settings: Sequence[str] = (),
    force: bool = False,
) -> Run:
    """Train on a labelled source and an unlabelled target, with balanced learning (Li et al. 2025).

    With `start`, training begins with somebody's network, and needs no source.

    SIGINT, SIGTERM and SIGHUP end it after the step in work, with everything saved: `run.card.finished` is
    false then, and `resume` goes on. Progress is on standard error.

    Args:
        output: the run folder to write.
        source: labelled data set, or a part of it; or several. FOLDER=0.3 gives it that share of the draws.
        target: data sets, folders of images, or videos; weighted alike.
        start: a run, a folder of `transformers`, or `file.py:function`, whose network to begin with. Without
            a source and a preset, the preset is source-free.
        weights: state dict for the module of a `file.py:function`.
        target_labels: labelled data set of the target domain, a few pictures to train on too.
        evaluate: labelled data set of the target domain, for evaluation only.
        classes: class file; None takes the one that comes with the source.
        label_map: YAML file `id: class`, if the source's labels have other ids.
        images, labels: glob patterns of the source's pictures and label files, below its folder.
        label_suffix: how its label files' names end after their pictures'.
        repair_labels: "nearest" takes unknown colours in its labels for the nearest known ones, and ids that
            averaging made at edges back.
        preset: named starting point of the settings (`adapt presets`); AUTO chooses encoder, crop and
            iterations from data and machine, as far as the settings leave them open, None nothing.
        config: YAML file of settings, over the preset.
        settings: "section.key=value" texts, over both.
        force: replace the run folder if it exists.

    Raises:
        InputError: anything wrong with the settings, the data or the place of the run.
    """
    preset = preset_of(preset, start, source)
    loaded = settings_of(
        source=source,
        target=target,
        start=start,
        weights=weights,
        target_labels=target_labels,
        evaluate=evaluate,
        classes=classes,
        label_map=label_map,
        images=images,
        labels=labels,
        label_suffix=label_suffix,
        repair_labels=repair_labels,
        preset=preset,
        config=config,
        settings=settings,
    )
    trainer = new_trainer(loaded, Path(output), force, preset)
    return _trained(trainer)


def preset_of(
    preset: str | None, start: Path | str | None, source: Path | str | Sequence[Path | str]
) -> str | None:
    """The named preset; instead of AUTO the source-free one where a model is given and no source."""
    return SOURCE_FREE if preset == AUTO and start is not None and not source else preset


def settings_of(
    *,
    source: Path | str | Sequence[Path | str] = (),
    target: Sequence[Path | str] = (),
    start: Path | str | None = None,
    weights: Path | str | None = None,
    preset: str | None = AUTO,
    config: Path | str | None = None,
    settings: Sequence[str] = (),
    **data: Path | str | None,
) -> Config:
    """The settings that `train` makes of its arguments; `data` are those about places and labels.

    Raises:
        InputError: unknown keys, or values out of range.
    """
    sources, source_weights = split_weights(
        [source] if isinstance(source, str | Path) else source, "--source"
    )
    targets, target_weights = split_weights(target, "--target")
    named = {
        "source": sources or None,
        "source_weights": source_weights or None,
        "target": targets or None,
        "target_weights": target_weights or None,
        **data,
    }
    given = {key: value for key, value in named.items() if value is not None}
    begun = {"start": None if start is None else str(start), "weights": weights}
    model = {key: value for key, value in begun.items() if value is not None}
    over = {"data": given, "model": model}
    return load_config(preset, None if config is None else Path(config), tuple(settings), over)


def resume(
    run: Path | str,
    settings: Sequence[str] = (),
    *,
    source: Sequence[Path | str] = (),
    target: Sequence[Path | str] = (),
    target_labels: Path | str | None = None,
    evaluate: Path | str | None = None,
) -> Run:
    """Continue a run where it was interrupted; returns and ends as `train` does.

    Args:
        run: the run folder.
        settings: "section.key=value" texts, to change from here on.
        source: where its sources are now, if they have moved: each of them, with the same files.
        target: the same of the targets.
        target_labels, evaluate: the same of labelled pictures of the target, and of those to evaluate on.

    Raises:
        InputError: not a run, already finished, changes that would make it another run, or its data has
            changed or gone.
    """
    labelled, evaluation = (None if path is None else Path(path) for path in (target_labels, evaluate))
    places = Places((*map(Path, source),), (*map(Path, target),), labelled, evaluation)
    trainer = resumed_trainer(Path(run), tuple(settings), places)
    return _trained(trainer)


def _trained(trainer: Trainer) -> Run:
    """Train to the end, or to what stops it."""
    try:
        trainer.train()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"{error.filename or trainer.folder} could not be written: {error.strerror}; the last checkpoint "
            f"is whole, so free some space and go on with `adapt train --resume {trainer.folder}`."
        ) from error
    return load_run(trainer.folder)
