"""Label files matched to pictures by what is there: X_mask.png, X-mask.png, X_labelIds.png, X.jpg.png."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from adapt.data.folders.beside import key

_CUT = re.compile(r"[-_. ]")
_MOST_CUTS = 3  # words that a tail may have: _gtFine_labelIds has two
_LAST = re.compile(r"instance|visual|vis$|overlay|color|colour|depth|preview", re.IGNORECASE)
"""What is taken only where nothing else is there: pictures of labels, and labels of something else."""
_FIRST = re.compile(r"labelids|^$", re.IGNORECASE)


class Tails(NamedTuple):
    """How the names of pictures and of their label files end, after what they have in common."""

    image: str
    label: str


class Pairs(NamedTuple):
    """Pictures with their label files, in the order of the pictures."""

    images: list[Path]
    labels: list[Path]
    tails: Tails
    alone: list[Path]
    """Pictures that have no label file."""
    surplus: list[Path]
    """Label files with that tail that have no picture."""


def pair(
    images: Sequence[Path],
    image_root: Path,
    labels: Sequence[Path],
    label_root: Path,
    tails: Tails | None = None,
) -> Pairs:
    """Match label files to pictures by the tails that match most of them.

    Folders in the roots count, if they are the same in both: a/1.jpg belongs to a/1_mask.png. If nothing
    matches so, names alone count, where all of these are different. Given tails are taken as they are.
    """
    return pair_placed(_placed(images, image_root), _placed(labels, label_root), tails)


Placed = Sequence[tuple[str, Path]]
"""Files, each with a word for its place, in which a picture and its labels agree."""


def pair_placed(images: Placed, labels: Placed, tails: Tails | None = None) -> Pairs:
    """As `pair`, for files whose places are told already."""
    best = _matched(images, labels, tails)
    if not best.images:
        flat = [[("", path) for _, path in each] for each in (images, labels)]
        if all(len({key(path.stem) for _, path in each}) == len(each) for each in flat):
            best = _matched(flat[0], flat[1], tails)
    return best


def _placed(paths: Iterable[Path], root: Path) -> Placed:
    return [(path.parent.relative_to(root).as_posix(), path) for path in paths]


_Named = Sequence[tuple[str, str, Path]]


def _matched(placed_images: Placed, placed_labels: Placed, given: Tails | None) -> Pairs:
    images, labels = (
        [(key(place), path.stem, path) for place, path in each] for each in (placed_images, placed_labels)
    )
    tails = given or _choose(images, labels)
    by_key = {(folder, key(stem)): path for folder, stem, path in labels}
    found, alone = [], []
    for folder, stem, path in images:
        base = _without(stem, tails.image)
        label = None if base is None else by_key.get((folder, key(base + tails.label)))
        if label is None:
            alone.append(path)
        else:
            found.append((path, label))
    taken = {label for _, label in found}
    surplus = [
        path for _, stem, path in labels if path not in taken and _without(stem, tails.label) is not None
    ]
    return Pairs([p for p, _ in found], [q for _, q in found], tails, alone, surplus if found else [])


def _without(stem: str, tail: str) -> str | None:
    if not tail:
        return stem
    return stem[: -len(tail)] if key(stem).endswith(key(tail)) else None


def _choose(images: _Named, labels: _Named) -> Tails:
    """The tails that most pictures are matched by; the shortest of equals."""
    of_pictures: dict[tuple[str, str], list[str]] = {}
    for folder, stem, _ in images:
        for base, tail in cuts(stem):
            of_pictures.setdefault((folder, key(base)), []).append(tail)
    votes: Counter[Tails] = Counter()
    for folder, stem, _ in labels:
        for base, tail in cuts(stem):
            for own in of_pictures.get((folder, key(base)), ()):
                votes[Tails(own, tail)] += 1
    if not votes:
        return Tails("", "")

    def worth(tails: Tails) -> tuple[bool, int, bool, int]:
        lengths = len(tails.image) + len(tails.label)
        return not _LAST.search(tails.label), votes[tails], bool(_FIRST.search(tails.label)), -lengths

    return max(votes, key=worth)


def cuts(stem: str) -> Iterator[tuple[str, str]]:
    """The name whole, and cut before each of its last words."""
    yield stem, ""
    for cut in [match.start() for match in _CUT.finditer(stem)][::-1][:_MOST_CUTS]:
        if cut:
            yield stem[:cut], stem[cut:]


def describe_tails(tails: Tails, images: Sequence[Path], labels: Sequence[Path]) -> str:
    """What was taken for labels, where names differ by more than their suffix; empty where they don't."""
    if not tails.image and not tails.label:
        return ""
    place = labels[0].parent.name
    return (
        f"{place}/ holds {len(labels)} files named X{tails.label}{labels[0].suffix}; taken as labels of "
        f"X{tails.image}{images[0].suffix}"
    )
