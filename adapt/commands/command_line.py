"""The `adapt train` command that does what was looked at."""

import json
import shlex
from typing import Any

from adapt.config.presets import AUTO
from adapt.config.settings import Config

_OPTIONS = (
    *("start", "weights", "source", "target", "target_labels", "classes", "label_map", "images", "labels"),
    *("label_suffix", "repair_labels", "evaluate", "preset", "config"),
)
"""In the order of the help."""
_CHOSEN = (
    ("model", "encoder"),
    ("data", "crop"),
    ("training", "iterations"),
    ("training", "warmup"),
    ("method", "statistics_warmup"),
)
"""What the preset `auto` may choose."""


def train_command(options: dict[str, Any], before: Config, after: Config) -> str:
    """As it is typed; what was chosen is in it, so that it means the same on another machine.

    options: as of `adapt train`.  before, after: the settings as given, and with the choices.
    """
    words = ["adapt", "train"]
    for name in _OPTIONS:
        value = options.get(name)
        if value is None or value == () or (name == "preset" and value == AUTO):
            continue
        option = "--from" if name == "start" else f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, tuple | list) else (value,):
            words += [option, str(each)]
    for each in options.get("settings", ()):
        words += ["--set", each]
    for section, key in _CHOSEN:
        value = getattr(getattr(after, section), key)
        if value != getattr(getattr(before, section), key):
            words += ["--set", f"{section}.{key}={_written(value)}"]
    return shlex.join([*words, "-o", "run"])


def _written(value: Any) -> str:
    if hasattr(value, "model_dump"):
        set_ = {key: each for key, each in value.model_dump().items() if each is not None}
        return "{" + ", ".join(f"{key}: {each}" for key, each in set_.items()) + "}"
    return json.dumps(value)
