"""What a run was trained and evaluated on, by names and sizes of files, so that a later change is seen.

    RUN/data.json  {"source": [{"path": ..., "files": {"images/1.png": 12345, ...}}], "target": [...],
                    "labelled_target": [...], "evaluation": [...]}

Runs of older versions lack the last two. File names are relative to the data set's folder, so that data may
move to another disk.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from adapt.config.settings import Data
from adapt.data.datasets import LabelledImages
from adapt.data.folders.target import TargetPart
from adapt.errors import InputError
from adapt.run.cards import altered
from serve.media.whole import replacing

DATA = "data.json"
_NAMED = 3  # files that a message names before it says that there are more


class DataPart(NamedTuple):
    """A source or a target: where it is, and the size in bytes of each of its files."""

    path: Path
    files: dict[str, int]


class Fingerprint(NamedTuple):
    """All data of a run: what it trains on, and what it is evaluated on. None is what was not noted."""

    source: list[DataPart]
    target: list[DataPart]
    labelled_target: list[DataPart] | None = None
    evaluation: list[DataPart] | None = None

    @property
    def domains(self) -> dict[str, list[DataPart] | None]:
        """By what people call them."""
        return {name.replace("_", " "): parts for name, parts in self._asdict().items()}

    def incomplete(self, other: "Fingerprint") -> bool:
        """Whether it lacks data that the other one has."""
        return any(own is None and theirs for own, theirs in zip(self, other, strict=True))


class Change(NamedTuple):
    """What has changed in the data of one domain."""

    domain: str
    words: str


def fingerprint(
    data: Data,
    source: LabelledImages | None,
    target: Sequence[TargetPart],
    labelled: LabelledImages | None,
    evaluation: LabelledImages | None,
) -> Fingerprint:
    """Of data that is open: where the settings say that it is, and what was found there."""
    places = [
        (data.source, source),
        ((data.target_labels,), labelled),
        ((data.evaluate,), evaluation),
    ]
    found = [
        [
            _part(folder, [*part.found.images, *part.found.labels])
            for folder, part in zip(folders, [] if pictures is None else pictures.parts, strict=True)
            if folder is not None
        ]
        if pictures is not None
        else []
        for folders, pictures in places
    ]
    targets = [_part(part.path, [*part.pictures, *part.videos]) for part in target]
    return Fingerprint(found[0], targets, found[1], found[2])


def _part(folder: Path, files: Iterable[Path]) -> DataPart:
    ground = folder if folder.is_dir() else folder.parent
    found = {_on_disk(file) for file in files}
    return DataPart(folder, {os.path.relpath(file, ground): file.stat().st_size for file in sorted(found)})


def _on_disk(file: Path) -> Path:
    """The file itself, or the one that it is a part of."""
    return next(each for each in (file, *file.parents) if each.is_file())


def write_fingerprint(folder: Path, found: Fingerprint) -> None:
    """Write data.json atomically."""
    content = {
        domain: [{"path": str(part.path), "files": part.files} for part in parts]
        for domain, parts in found._asdict().items()
        if parts is not None
    }
    with replacing(folder / DATA) as temporary:
        temporary.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")


def read_fingerprint(folder: Path) -> Fingerprint | None:
    """What a run was trained on; None if an older version has started it.

    Raises:
        InputError: data.json is no such file.
    """
    path = folder / DATA
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        noted = {
            key: [
                DataPart(Path(part["path"]), {str(k): int(v) for k, v in part["files"].items()})
                for part in content[key]
            ]
            for key in Fingerprint._fields
            if key in content or key in ("source", "target")
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise altered(path, f"it lists no data ({type(error).__name__})") from error
    return Fingerprint(**noted)


def describe_changes(before: Fingerprint, now: Fingerprint) -> list[Change]:
    """What has changed, a phrase for each data set in which something has."""
    found = []
    for domain, new in now.domains.items():
        old = before.domains[domain]
        if old is None or new is None:
            continue
        if len(old) != len(new):
            found.append(Change(domain, f"there are {len(new)} {domain}s instead of {len(old)}"))
            continue
        for one, other in zip(old, new, strict=True):
            if changes := _changes(one.files, other.files):
                found.append(Change(domain, f"{domain} {other.path}: {changes}"))
    return found


def _changes(before: dict[str, int], now: dict[str, int]) -> str:
    kinds = {
        "gone": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
        "of another size": [name for name in before if now.get(name, before[name]) != before[name]],
    }
    told = [
        f"{len(names)} {kind} ({', '.join(names[:_NAMED])}{' …' * (len(names) > _NAMED)})"
        for kind, names in kinds.items()
        if names
    ]
    return ", ".join(told)


def moved(before: Sequence[Path], given: Sequence[Path], domain: str) -> tuple[Path, ...]:
    """The new places of a run's sources or targets, by their absolute names; none given leaves them.

    Raises:
        InputError: there are more or fewer than the run has.
    """
    if not given:
        return tuple(before)
    if len(given) != len(before):
        raise InputError(
            f"the run has {len(before)} {domain}s ({', '.join(map(str, before))}), and {len(given)} new "
            f"places were given; give --{domain} for each of them, in this order."
        )
    return tuple(path.absolute() for path in given)
