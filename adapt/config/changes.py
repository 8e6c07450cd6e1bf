"""What may change when a run is resumed, and what would make it another run."""

from typing import Any, NamedTuple

from adapt.config.settings import Config
from adapt.errors import InputError

FREE = {
    *("data.workers", "data.evaluate", "data.changed"),
    *("training.iterations", "training.save_every", "training.evaluate_every", "training.log_every"),
    *(
        "training.trackers",
        "training.clip_gradient",
        "training.precision",
        "training.compile",
        "training.recompute_activations",
    ),
}
"""Settings that say how to compute or for how long, not what is trained on what."""
SPLIT = {"training.batch", "training.accumulate"}
"""Free as long as their product stays: the same pictures make the same iteration."""


class Change(NamedTuple):
    """One setting that differs."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key} {self.before} -> {self.after}"


def changes(before: Config, after: Config) -> list[Change]:
    """All settings that differ, by their dotted names."""
    old, new = (flat(config.model_dump(mode="json")) for config in (before, after))
    return [
        Change(key, old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)
    ]


def check_resumable(before: Config, after: Config) -> list[Change]:
    """The changes, if a run may be resumed with them.

    Raises:
        InputError: lists those that would make it another run.
    """
    found = changes(before, after)
    same_pictures = _pictures(before) == _pictures(after)
    breaking = [c for c in found if c.key not in FREE and not (c.key in SPLIT and same_pictures)]
    if breaking:
        raise InputError(
            f"a run cannot be resumed with {', '.join(map(str, breaking))}: it would be another run; start a "
            "new one with -o, or leave these settings as they were."
        )
    return found


def _pictures(config: Config) -> int:
    """Pairs of one iteration on one rank."""
    return config.training.batch * config.training.accumulate


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and key != "config":
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
