"""Which settings are of use when: one that would do nothing is refused.

A value counts as asked for where it differs from the starting point, which is the preset, or else the
defaults, with the host's own. So a preset or a settings file may carry what it does not need.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from adapt.config.changes import Change, changes
from adapt.config.settings import Config, load_config
from adapt.errors import InputError
from serve.media.files import VIDEO_SUFFIXES


def _holds_videos(target: Path) -> bool:
    return not target.is_dir() or any(file.suffix.lower() in VIDEO_SUFFIXES for file in target.rglob("*"))


class Need(NamedTuple):
    """Something that a setting works on."""

    met: Callable[[Config], bool]
    otherwise: str
    """What is said where it is not there."""


SELF_TRAINING = Need(lambda c: c.method.self_training, "method.host is source")
ONLINE = Need(lambda c: c.method.online, "method.balance is not online")
RUNNING = Need(
    lambda c: c.method.online or c.method.uses_shares, "method.balance keeps no running statistics or shares"
)
ADJUSTED = Need(lambda c: c.method.balance == "logit-adjustment", "method.balance is not logit-adjustment")
WEIGHTED = Need(lambda c: c.method.balance == "class-balanced", "method.balance is not class-balanced")
MASKS = Need(lambda c: c.method.masked_consistency > 0, "method.masked_consistency is 0")
DISTANCE = Need(lambda c: c.method.feature_distance > 0, "method.feature_distance is 0")
VIDEOS = Need(lambda c: any(map(_holds_videos, c.data.target)), "no target is a video")
RESUMED = Need(lambda c: False, "it is for --resume, when data has changed")
LABELS = Need(lambda c: c.data.target_labels is not None, "data.target_labels is not given")
EVALUATION = Need(lambda c: c.data.evaluate is not None, "data.evaluate is not given")
SOURCE = Need(lambda c: not c.source_free, "there is no source")
NO_SOURCE = Need(lambda c: c.source_free, "it is for training without a source, from a model")
NEW = Need(lambda c: c.model.start is None, "the model that it begins with brings its network")
FUNCTION = Need(lambda c: ".py:" in (c.model.start or ""), "model.start names no file.py:function")
OF_TRANSFORMERS = Need(lambda c: c.model.encoder.factory is None, "model.encoder.factory builds the encoder")

NEEDS: dict[str, tuple[Need, ...]] = {
    "data.frames": (VIDEOS,),
    "data.changed": (RESUMED,),
    "data.source_size": (SOURCE,),
    "data.label_map": (SOURCE,),
    "data.images": (SOURCE,),
    "data.labels": (SOURCE,),
    "data.label_suffix": (SOURCE,),
    "data.repair_labels": (SOURCE,),
    "data.target_labels": (SOURCE,),
    "model.weights": (FUNCTION,),
    "model.encoder.pretrained": (NEW,),
    "model.encoder.config": (NEW,),
    "model.encoder.factory": (NEW,),
    "model.decoder": (NEW,),
    "model.dilated": (NEW, OF_TRANSFORMERS),
    "model.multi_resolution": (NEW,),
    "model.width": (NEW,),
    "model.dropout": (NEW,),
    "method.tau": (ONLINE,),
    "method.adjustment_tau": (ADJUSTED,),
    "method.effective_beta": (WEIGHTED,),
    "method.correct_mixed": (SELF_TRAINING, ONLINE),
    "method.density_weight": (ONLINE,),
    "method.em_steps": (ONLINE,),
    "method.momentum": (RUNNING,),
    "method.anchor_pooling": (ONLINE,),
    "method.statistics_warmup": (ONLINE,),
    "method.teacher_momentum": (SELF_TRAINING,),
    "method.source_start": (SELF_TRAINING, SOURCE),
    "method.rare_class_temperature": (SOURCE,),
    "method.start_norms": (NO_SOURCE,),
    "method.start_adjustment": (NO_SOURCE,),
    "method.mix_temperature": (NO_SOURCE,),
    "method.guard": (NO_SOURCE,),
    "method.anchors": (NO_SOURCE,),
    "method.feature_distance": (SOURCE,),
    "method.confidence": (SELF_TRAINING,),
    "method.confidence_per": (SELF_TRAINING,),
    "method.labelled_share": (LABELS,),
    "method.jitter": (SELF_TRAINING,),
    "method.thing_classes": (DISTANCE,),
    "method.ignored_rows": (SELF_TRAINING,),
    "method.masked_consistency": (SELF_TRAINING,),
    "method.mask_patch": (SELF_TRAINING, MASKS),
    "method.mask_ratio": (SELF_TRAINING, MASKS),
    "training.evaluate_every": (EVALUATION,),
}
"""The settings that are not always of use. Those of the post-hoc statistics (components, min_pixels, eps,
posthoc_anchors) always are: with method.balance=off, `adapt statistics` takes them later."""


def starting_point(config: Config, preset: str | None) -> Config:
    """What the settings would be if nothing had been asked for but the preset and the host."""
    return load_config(preset, overrides={"method": {"host": config.method.host}})


def check_used(config: Config, preset: str | None) -> None:
    """Refuse settings that were asked for and would do nothing.

    Raises:
        InputError: lists them, each with what it lacks.
    """
    idle: dict[str, list[str]] = {}
    for change in changes(starting_point(config, preset), config):
        lacking = [need.otherwise for need in NEEDS.get(change.key, ()) if not need.met(config)]
        if lacking:
            idle.setdefault(lacking[0], []).append(f"{change.key}={change.after}")
    if idle:
        listed = "; ".join(f"{', '.join(keys)}, since {reason}" for reason, keys in idle.items())
        raise InputError(f"settings that would do nothing: {listed}; leave them out, or set what they need.")


def differences(config: Config, preset: str | None) -> list[Change]:
    """Settings that differ from the preset, or from the defaults where there is none; not where data is."""
    found = (
        "data.source",
        "data.target",
        "data.target_labels",
        "data.evaluate",
        "data.source_weights",
        "data.target_weights",
    )  # said with what was found there
    return [change for change in changes(load_config(preset), config) if change.key not in found]
