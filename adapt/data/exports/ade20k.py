"""ADE20K as the scene parsing challenge has it: images/training, annotations/training, objectInfo150.txt.

0 is what none of the 150 classes is, and does not count.
"""

from pathlib import Path

from adapt.data.classes import ClassList
from adapt.data.known_classes import distinct_colors
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split
from adapt.data.layouts.trees import find_tree
from adapt.errors import InputError

_TABLE = "objectInfo150.txt"


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says."""
    if not (root / _TABLE).is_file():
        return None
    tree = find_tree(root, split)
    if tree is None:
        raise InputError(
            f"{root} has {_TABLE}, but no images/ and annotations/; unpack ADEChallengeData2016.zip again."
        )
    kind = LabelFiles(tree.kind.path, _classes(root / _TABLE))
    return tree._replace(layout=Layout("ADE20K", ""), kind=kind)


def classes_in(place: Path) -> ClassList | None:
    """Of objectInfo150.txt in a folder; None if there is none."""
    return _classes(place / _TABLE) if (place / _TABLE).is_file() else None


def _classes(table: Path) -> ClassList:
    """Of lines `number, ratio, ..., names`; the first of several names counts, unless others have it."""
    rows = [line.split("\t") for line in table.read_text("utf-8").splitlines()[1:] if line.strip()]
    try:
        numbers = tuple(int(row[0]) for row in rows)
        names = [row[-1].strip() for row in rows]
    except ValueError as error:
        raise InputError(
            f"{table} must have lines of numbers and names ({error}); unpack it again."
        ) from error
    short = [name.split(",")[0].strip() for name in names]
    unique = tuple(s if short.count(s) == 1 else name for s, name in zip(short, names, strict=True))
    return ClassList(unique, numbers, distinct_colors(len(rows), 1), ignore=(0,))
