"""Pictures and labels under any names at all: label files are told by what is in them.

A label file loses nothing (PNG, TIFF, BMP) and has few values. Of the folders that hold such files, the one
that fits most pictures by name is taken; where two fit as well, a person has to say which.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapt.data.folders.beside import has_few_values, key
from adapt.data.folders.walk import walk
from adapt.data.images import LABEL_SUFFIXES
from adapt.data.layouts.pairing import Pairs, cuts, describe_tails, pair_placed
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, of_split, split_of
from adapt.data.layouts.trees import LAST, find_tree
from adapt.data.layouts.unpaired import refuse_alone
from adapt.errors import InputError

_LOOKED_AT = 4  # files of a folder, that tell what the others are
_MOST_KINDS = 24  # names of folders that may be those of pictures or of labels; more are places or times


class _Kind(NamedTuple):
    """Files in folders of one name; each with the other folders that it lies in."""

    name: str
    """Empty where the files lie in no folder of their own."""
    pictures: list[tuple[str, Path]]
    labels: list[tuple[str, Path]]


class Choice(NamedTuple):
    """Folders of pictures and of labels that fit each other."""

    images: str
    labels: str
    pairs: Pairs


def find_under_any_names(root: Path, split: Split) -> Labelled | None:
    """By the names of folders, or else by what is in the files. Raises InputError as both do."""
    return find_tree(root, split) or find_by_content(root, split)


def find_by_content(root: Path, split: Split) -> Labelled | None:
    """The pictures of a folder, and the files that must be their labels; None if there are no pairs.

    Raises InputError if the split is not there, two folders may be the labels, or a part of the pictures has
    none.
    """
    files = of_split(walk(root).pictures, root, split)
    labels = label_like(files)
    choice = choose(root, files, labels) if labels else None
    return None if choice is None else _labelled(root, choice)


def choose(root: Path, files: Sequence[Path], labels: set[Path]) -> Choice | None:
    """Of files below the root, some of which are labels, the folders that fit best; None if none do.

    Raises InputError if several do.
    """
    choices = [each for kinds in _ways(files, labels, root) for each in _fitting(kinds)]
    most = max((len(each.pairs.images) for each in choices), default=0)
    best: dict[object, Choice] = {}
    for each in choices:
        if len(each.pairs.images) == most:
            best.setdefault(tuple(zip(each.pairs.images, each.pairs.labels, strict=True)), each)
    first = [each for each in best.values() if not LAST.search(each.labels)] or list(best.values())
    if not first:
        return None
    if len(first) > 1:
        raise InputError(_which(root, first))
    return first[0]


def label_like(files: Sequence[Path]) -> set[Path]:
    """Picture files that may be labels: in each folder all of the lossless ones, some, or none."""
    by_folder: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in LABEL_SUFFIXES:
            by_folder.setdefault(path.parent, []).append(path)
    stems = Counter((path.parent, key(path.stem)) for path in files)
    found: set[Path] = set()
    for there in by_folder.values():
        endings = [path for path in there if _is_after_another(path, stems)]
        if not endings and not has_few_values(there[len(there) // 2]):
            continue  # pictures alone: reading is what takes time
        chosen = {int(i) for i in np.linspace(0, len(there) - 1, _LOOKED_AT).round()}
        few = [has_few_values(there[i]) for i in chosen]
        if all(few):
            found |= {*there}
        elif any(few):
            found |= {path for path in endings if has_few_values(path)}
    return found


def _is_after_another(path: Path, stems: Counter[tuple[Path, str]]) -> bool:
    """Whether it is called as another file in its folder is, with an ending or another suffix."""
    bases = [key(base) for base, tail in cuts(path.stem) if tail]
    return stems[path.parent, key(path.stem)] > 1 or any(stems[path.parent, base] for base in bases)


def labels_among(pictures: Sequence[Path], root: Path) -> set[Path]:
    """Those of the pictures of a folder that are labels of others, by what is in them and by their names."""
    labels = label_like(pictures)
    if not labels or len(labels) == len(pictures):
        return set()
    choices = [each for kinds in _ways(pictures, labels, root) for each in _fitting(kinds)]
    return {path for each in choices for path in each.pairs.labels}


def _ways(files: Sequence[Path], labels: set[Path], root: Path) -> Iterator[list[_Kind]]:
    """Kinds told by the first folder that differs, by the last, and by none (labels beside pictures)."""
    places = {path.parent: _without_split(path.parent.relative_to(root).parts) for path in files}
    first = _in_common(list(places.values()))
    for level in (first, -1, None):
        kinds: dict[str, _Kind] = {}
        for path in files:
            parts = list(places[path.parent])
            name = parts.pop(level) if level is not None and len(parts) > max(level, 0) else ""
            kind = kinds.setdefault(name, _Kind(name, [], []))
            (kind.labels if path in labels else kind.pictures).append(("/".join(parts), path))
        if len(kinds) <= _MOST_KINDS:
            yield list(kinds.values())


def _without_split(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for part in parts if split_of(part) is None)


def _in_common(places: Sequence[tuple[str, ...]]) -> int:
    """How many folders all of them begin with."""
    count = 0
    while all(len(place) > count for place in places) and len({place[count] for place in places}) == 1:
        count += 1
    return count


def _fitting(kinds: Sequence[_Kind]) -> Iterator[Choice]:
    for one in kinds:
        for other in kinds:
            if one.pictures and other.labels:
                pairs = pair_placed(one.pictures, other.labels)
                if pairs.images:
                    yield Choice(one.name, other.name, pairs)


def _labelled(root: Path, choice: Choice) -> Labelled:
    pairs = choice.pairs
    images, labels = (f"{name}/" if name else f"{root.name}/" for name in (choice.images, choice.labels))
    pattern = f"{choice.labels}/*{pairs.tails.label}{pairs.labels[0].suffix}".removeprefix("/")
    note = describe_tails(pairs.tails, pairs.images, pairs.labels) or (
        f"{labels} holds {len(pairs.labels)} files of few values; taken as labels of the pictures in {images}"
    )
    layout = Layout(f"{images} and {labels}", "", exact=True)
    found = Labelled(root, layout, pairs.images, pairs.labels, LabelFiles(pattern), note)
    refuse_alone(pairs, found)
    return found


def _which(root: Path, choices: Sequence[Choice]) -> str:
    """What to say where several folders may be the pictures, or the labels."""
    first = choices[0]
    ways = " or as ".join(
        f"{each.images or root.name}/ with labels in {each.labels or root.name}/" for each in choices
    )
    return (
        f"{root} may be read as {ways}; say which, such as --images "
        f"'{_glob(first.images, first.pairs.images)}' --labels '{_glob(first.labels, first.pairs.labels)}'."
    )


def _glob(name: str, files: Sequence[Path]) -> str:
    """A pattern for files in folders of a name."""
    return f"**/{escape(name)}/**/*" if name else f"**/*{files[0].suffix}"
