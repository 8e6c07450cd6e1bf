"""Curves for Weights & Biases, MLflow and whatever else `accelerate` knows, beside TensorBoard's."""

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from adapt.config.changes import flat
from adapt.config.settings import Config
from adapt.errors import InputError

BOARD = "tensorboard"
"""Ours, with pictures: adapt/training/journal.py writes it."""
PROJECT = "blda"
"""What trackers call all runs of this program together."""


def others(config: Config) -> list[str]:
    """The trackers of a run but for TensorBoard."""
    return [name for name in config.training.trackers if name != BOARD]


def check_trackers(config: Config) -> None:
    """Refuse trackers that are not known, or not installed.

    Raises:
        InputError: the first of them.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    for name in others(config):
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(sorted({BOARD, *map(str, LOGGER_TYPE_TO_CLASS)}))
            raise InputError(f"training.trackers names {name!r}, which is not known; choose of {known}.")
        if name not in [str(each.value) for each in get_available_trackers()]:
            raise InputError(
                f"training.trackers names {name}, which is not installed here; run `pip install {name}`, or "
                "leave it out."
            )


def open_trackers(accelerator: Accelerator, config: Config, folder: Path) -> None:
    """Begin a run of each tracker, with all settings and the run folder's name."""
    names = others(config)
    if not names:
        return
    values = {key: _plain(value) for key, value in flat(config.model_dump(mode="json")).items()}
    called = {"wandb": {"name": folder.name}, "mlflow": {"run_name": folder.name}}
    accelerator.init_trackers(PROJECT, values, {name: called.get(name, {}) for name in names})


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else str(value)
