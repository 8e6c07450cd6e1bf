"""The exports that are known, in the order in which their marks are looked for."""

from pathlib import Path

from adapt.data.classes import ClassList
from adapt.data.exports import (
    ade20k,
    coco,
    huggingface,
    label_studio,
    labelme,
    roboflow,
    supervisely,
    ultralytics,
    voc,
)
from adapt.data.layouts.patterns import Labelled
from adapt.data.layouts.splits import Split

EXPORTS = (voc, roboflow, supervisely, ade20k, ultralytics, coco, label_studio, huggingface, labelme)


def find_export(root: Path, split: Split) -> Labelled | None:
    """The pictures and labels of the first tool whose marks are in the folder; None if there is none.

    Raises InputError where marks are there, but what they promise is not.
    """
    return next((found for tool in EXPORTS if (found := tool.find(root, split)) is not None), None)


def classes_beside(found: Labelled, folder: Path) -> ClassList | None:
    """The class list that a tool left in a folder, or where the pictures lie in it, whatever is renamed.

    None if there is none, or what is drawn has its classes already.
    """
    files = (found.labels[0], found.images[0])
    inside = [place for file in files for place in file.parents if folder in (place, *place.parents)]
    places = dict.fromkeys([folder, found.root, *inside])
    return next(
        (own for place in places for table in _TABLES if (own := table(place)) is not None),
        None,
    )


_TABLES = (voc.classes_in, roboflow.classes_in, ultralytics.classes_in, ade20k.classes_in)
"""Where tools write what the values in label files mean."""
