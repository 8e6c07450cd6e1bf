"""Settings as people write them: YAML files and section.key=value, laid over one another."""

from pathlib import Path
from typing import Any

import yaml

from adapt.errors import InputError


def assigned(assignment: str) -> dict[str, Any]:
    """ "section.key=value" as nested settings."""
    key, separator, text = assignment.partition("=")
    if not separator:
        raise InputError(f"--set takes section.key=value, got {assignment!r}.")
    value: Any = _parse(text, f"--set {assignment}")
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested settings, those of `over` winning."""
    result = dict(base)
    for key, value in over.items():
        # An encoder is replaced, not merged: it has exactly one of three forms.
        nested = isinstance(value, dict) and isinstance(result.get(key), dict) and key != "encoder"
        result[key] = merge(result[key], value) if nested else value
    return result


def read_yaml(path: Path) -> dict[str, Any]:
    """A file of settings. Raises InputError if there is none, or it is none."""
    if not path.is_file():
        raise InputError(f"the settings file {path} does not exist.")
    settings = _parse(path.read_text(), str(path))
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold sections (data, model, method, training), got {settings!r:.60}.")
    return settings


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{what} is not valid YAML: {' '.join(str(error).split())}.") from error
