"""The exports that are known, in the order in which their marks are looked for."""

from pathlib import Path

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
