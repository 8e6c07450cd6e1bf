"""Train, val and test, by the names that people and tools give them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from adapt.errors import InputError

Split = Literal["train", "val"]

_NAMES = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing", "tst"),
}


def split_of(name: str) -> str | None:
    """ "train", "val" or "test" for a name that means it, such as valid or Training; None for others."""
    return next((split for split, known in _NAMES.items() if name.casefold() in known), None)


def chosen_split(names: Iterable[str], split: Split, where: Path) -> str | None:
    """Of the names of folders or lists, the one that means the split; None if none means any.

    Raises InputError if others are there, but not that one, or two mean it.
    """
    names = sorted(set(names))
    parts = {split_of(name): name for name in names if split_of(name) is not None}
    if not parts:
        return None
    if split not in parts:
        there = next((name for name in names if split_of(name) is None), next(iter(parts.values())))
        raise InputError(
            f"{where} has the part{'s' * (len(parts) > 1)} {', '.join(parts.values())}, but none for "
            f"'{split}'; name one of them, such as {where / there}, or add that one."
        )
    if len(twice := [name for name in names if split_of(name) == split]) > 1:
        raise InputError(
            f"{where} has {' and '.join(twice)}, which all mean '{split}'; name one of them, such as "
            f"{where / twice[0]}, or rename the others."
        )
    return parts[split]


def folders_in(place: Path) -> Sequence[str]:
    """Names of the folders right inside, in order; none if it is none itself."""
    return sorted(each.name for each in place.iterdir() if each.is_dir()) if place.is_dir() else []


def of_split(paths: Sequence[Path], root: Path, split: Split) -> list[Path]:
    """Those in a folder below the root that means the split; all of them, if no folder means any.

    Raises InputError if there are other splits, but not that one.
    """
    parts = {part for path in paths for part in path.parent.relative_to(root).parts if split_of(part)}
    part = chosen_split(parts, split, root)
    return [path for path in paths if part is None or part in path.relative_to(root).parts[:-1]]
