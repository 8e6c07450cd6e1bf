"""Where data sets keep their pictures and labels, in the layouts that their downloads have.

A layout is a pair of path patterns below a root folder. In a picture's path {field} stands for any name, and
{field:this|that} for one of these; the path of its label file follows by filling the same fields in. Pictures
may have any image suffix, so their patterns leave it out.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapt.data.classes import ClassList
from adapt.data.images import read_first_channel, read_labels
from adapt.data.known_classes import CAMVID11, CITYSCAPES19, CITYSCAPES19_TRAIN_IDS, SYNTHIA16
from serve.media.files import PICTURE_SUFFIXES

_FIELD = re.compile(r"\{(\w+)(?::([^}]*))?\}")


@dataclass(frozen=True)
class LabelFiles:
    """One kind of label files. path: pattern.  classes: what comes with them, if it is always the same."""

    path: str
    classes: ClassList | None = None
    read: Callable[[Path], np.ndarray] = read_labels


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out.

    images: pattern of the pictures, without suffix.
    labels: the kinds of label files, the preferred one first.
    folder: what the download unpacks to; the root may also be the folder that holds it.
    usual: (field, value) of what is taken unless a path chooses otherwise, besides the split.
    exact: label files without a picture are an error too.
    advice: what to do where there are no labels.
    """

    name: str
    images: str
    labels: tuple[LabelFiles, ...]
    folder: str = ""
    usual: tuple[tuple[str, str], ...] = ()
    exact: bool = False
    advice: str = "get the labels, or use the pictures as an unlabelled --target"


CITYSCAPES = Layout(
    "Cityscapes",
    "leftImg8bit/{split}/{city}/{name}_leftImg8bit",
    (
        LabelFiles("gtFine/{split}/{city}/{name}_gtFine_labelIds.png", CITYSCAPES19),
        LabelFiles("gtFine/{split}/{city}/{name}_gtFine_labelTrainIds.png", CITYSCAPES19_TRAIN_IDS),
    ),
    advice="unpack gtFine_trainvaltest.zip beside leftImg8bit, or use the pictures as an unlabelled --target",
)
ACDC = Layout(
    "ACDC",
    "rgb_anon/{condition:fog|night|rain|snow}/{split:train|val|test}/{sequence}/{name}_rgb_anon",
    (
        LabelFiles("gt/{condition}/{split}/{sequence}/{name}_gt_labelTrainIds.png", CITYSCAPES19_TRAIN_IDS),
        LabelFiles("gt/{condition}/{split}/{sequence}/{name}_gt_labelIds.png", CITYSCAPES19),
    ),
    advice="unpack gt_trainval.zip beside rgb_anon, or use the pictures as an unlabelled --target",
)
DARK_ZURICH = Layout(
    "Dark Zurich",
    "rgb_anon/{split:train|val|test}/{time:night|twilight|day}/{sequence}/{name}_rgb_anon",
    (
        LabelFiles("gt/{split}/{time}/{sequence}/{name}_gt_labelTrainIds.png", CITYSCAPES19_TRAIN_IDS),
        LabelFiles("gt/{split}/{time}/{sequence}/{name}_gt_labelIds.png", CITYSCAPES19),
    ),
    usual=(("time", "night"),),
    advice="only its val part has labels (Dark_Zurich_val_anon.zip); use the rest as an unlabelled --target",
)
SYNTHIA = Layout(
    "SYNTHIA-RAND-CITYSCAPES",
    "RGB/{name}",
    (LabelFiles("GT/LABELS/{name}.png", SYNTHIA16, read_first_channel),),
    folder="RAND_CITYSCAPES",
)
BDD100K = Layout(
    "BDD100K",
    "images/10k/{split}/{name}",
    (LabelFiles("labels/sem_seg/masks/{split}/{name}.png", CITYSCAPES19_TRAIN_IDS),),
    folder="bdd100k",
    advice="unpack the semantic segmentation labels of the 10K images, or use the pictures as an unlabelled "
    "--target",
)
BDD100K_SEG = Layout(
    "BDD100K",
    "seg/images/{split}/{name}",
    (LabelFiles("seg/labels/{split}/{name}_train_id.png", CITYSCAPES19_TRAIN_IDS),),
    folder="bdd100k",
)
# GTA5 has this layout too; its classes are told by its label files' palette.
OWN = Layout("images/ and labels/", "images/{name}", (LabelFiles("labels/{name}.png"),), exact=True)
OWN_SPLITS = Layout(
    "images/SPLIT/ and labels/SPLIT/",
    "images/{split:train|val|test}/{name}",
    (LabelFiles("labels/{split}/{name}.png"),),
    exact=True,
)
CAMVID = Layout(
    "CamVid (SegNet's copy)",
    "{split:train|val|test}/{name}",
    (LabelFiles("{split}annot/{name}.png", CAMVID11),),
    exact=True,
)

LAYOUTS = (CITYSCAPES, ACDC, DARK_ZURICH, SYNTHIA, BDD100K, BDD100K_SEG, OWN, OWN_SPLITS, CAMVID)


class Picture(NamedTuple):
    """A picture, and what the fields of its layout's pattern are in its path."""

    path: Path
    fields: dict[str, str]


def pictures_below(root: Path, pattern: str) -> list[Picture]:
    """All pictures below the root that fit the pattern, in order of their paths."""
    fits = re.compile(_regular_expression(pattern))
    found = []
    for glob in _globs(pattern):
        for path in root.glob(f"{glob}.*"):
            match = fits.fullmatch(path.relative_to(root).with_suffix("").as_posix())
            if match is not None and path.suffix.lower() in PICTURE_SUFFIXES:
                found.append(Picture(path, match.groupdict()))
    return sorted(found)


def _regular_expression(pattern: str) -> str:
    literal, *rest = _FIELD.split(pattern)
    parts = [re.escape(literal)]
    for name, values, literal in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        parts += [f"(?P<{name}>{values or '[^./][^/]*'})", re.escape(literal)]
    return "".join(parts)


def _globs(pattern: str) -> Iterator[str]:
    """Shell patterns that together find what the pattern means, without looking into any other folder."""
    literal, *rest = _FIELD.split(pattern)
    choices = [[literal]]
    for values, literal in zip(rest[1::3], rest[2::3], strict=True):
        choices += [values.split("|") if values else ["*"], [literal]]
    return map("".join, itertools.product(*choices))


def fill(pattern: str, fields: Mapping[str, str]) -> str:
    """The pattern with its fields filled in."""
    return _FIELD.sub(lambda field: fields[field[1]], pattern)


def level_of(field: str, pattern: str) -> int:
    """Which part of the path decides the field, counted from 0; -1 if the pattern has no such field."""
    parts = pattern.split("/")
    return next((i for i, part in enumerate(parts) if part.startswith("{" + field)), -1)
