"""How often each of several sources, or targets, is drawn from: FOLDER=WEIGHT."""

from collections.abc import Sequence
from pathlib import Path

from adapt.errors import InputError


def split_weights(
    given: Sequence[Path | str], option: str
) -> tuple[tuple[Path, ...], tuple[float | None, ...]]:
    """Paths, and their weights: one each, or none at all where none was given.

    given: PATH or PATH=WEIGHT; what exists under its whole name is a path.  option: for messages.
    Raises InputError for a weight that is no number above 0.
    """
    pairs = [_split(str(each), option) for each in given]
    weights = tuple(weight for _, weight in pairs)
    return tuple(path for path, _ in pairs), weights if any(w is not None for w in weights) else ()


def _split(text: str, option: str) -> tuple[Path, float | None]:
    path, separator, weight = text.rpartition("=")
    if not separator or not path or Path(text).exists():
        return Path(text), None
    try:
        number = float(weight)
    except ValueError:
        return Path(text), None  # a name with "=" in it, which whoever opens it says is not there
    if not 0 < number < float("inf"):
        raise InputError(f"{option} {text} gives the weight {weight}, but a weight is a number above 0.")
    return Path(path), number


def check_weights(domain: str, paths: Sequence[Path], weights: Sequence[float | None]) -> None:
    """Refuse weights that fit no paths. Raises ValueError, which pydantic makes a person's sentence of."""
    if not weights:
        return
    if len(weights) != len(paths):
        raise ValueError(
            f"{domain}_weights has {len(weights)} weights for {len(paths)} {domain}s; give one each"
        )
    if len(paths) == 1:
        raise ValueError(f"a weight of the only {domain} would do nothing; leave it out")
    given = [weight for weight in weights if weight is not None]
    if any(not 0 < weight < float("inf") for weight in given):
        raise ValueError(f"{domain}_weights are {list(weights)}, but a weight is a number above 0")
    if len(given) < len(weights) and sum(given) >= 1:
        raise ValueError(
            f"the weights of {domain}s sum to {sum(given):g}, which leaves nothing to those without one; "
            "weigh all of them, or give shares whose sum is below 1"
        )
