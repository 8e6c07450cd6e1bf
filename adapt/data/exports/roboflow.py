"""Roboflow's semantic segmentation masks: train/, valid/ and test/ with X.jpg, X_mask.png and _classes.csv.

The table has a line `Pixel Value, Class` and then one for each class.
"""

import csv
from pathlib import Path

from adapt.data.classes import ClassList
from adapt.data.folders.walk import walk
from adapt.data.known_classes import distinct_colors
from adapt.data.layouts.contents import find_under_any_names
from adapt.data.layouts.pairing import pair
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, chosen_split, folders_in
from adapt.data.layouts.unpaired import UnpairedError
from adapt.errors import InputError

_TABLE = "_classes.csv"


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says."""
    place = root
    if not (root / _TABLE).is_file():
        parts = [name for name in folders_in(root) if (root / name / _TABLE).is_file()]
        if not parts:
            return None
        part = chosen_split(parts, split, root)
        if part is None and len(parts) > 1:
            raise InputError(
                f"{root} has the parts {', '.join(parts)}, whose names do not tell which is train and which "
                f"valid; name one of them, such as {root / parts[0]}."
            )
        place = root / (part or parts[0])
    classes = classes_in(place)
    if classes is None:
        return None
    found = _as_exported(place) or find_under_any_names(place, split)
    if found is None:
        raise InputError(
            f"{place} has {_TABLE}, but no pictures X.jpg with masks X_mask.png; export it again."
        )
    pattern = f"{place.relative_to(root).as_posix()}/{found.kind.path}".removeprefix("./")
    layout = Layout("Roboflow (semantic masks)", "")
    return found._replace(root=root, layout=layout, kind=LabelFiles(pattern, classes))


def _as_exported(place: Path) -> Labelled | None:
    """X_mask.png beside X.jpg; None if there is no such file."""
    files = walk(place).pictures
    masks = [path for path in files if path.stem.endswith("_mask") and path.suffix.lower() == ".png"]
    pairs = pair([path for path in files if path not in set(masks)], place, masks, place)
    if not pairs.images:
        return None
    layout = Layout("Roboflow (semantic masks)", "")
    found = Labelled(place, layout, pairs.images, pairs.labels, LabelFiles("*_mask.png"))
    if pairs.alone:
        raise UnpairedError(
            f"{len(pairs.alone)} pictures in {place} have no mask, such as {pairs.alone[0].name}; export it "
            "again, or remove them.",
            found,
            pairs.alone,
            pairs.surplus,
        )
    return found


def classes_in(place: Path) -> ClassList | None:
    """Of _classes.csv in a folder; None if there is none, or one of another kind of export."""
    return _classes(place / _TABLE) if (place / _TABLE).is_file() else None


def _classes(table: Path) -> ClassList | None:
    """The classes by their pixel values; None for a table of another kind of export."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    if not rows or rows[0][0].casefold() != "pixel value":
        return None
    try:
        values = {int(row[0]): row[1] for row in rows[1:]}
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{table} must have lines `number, class`, but they can't be read: {error}."
        ) from error
    return ClassList(tuple(values.values()), tuple(values), distinct_colors(len(values)))
