"""Well-known systems of labels, recognised by the values in label files.

For label files without a class list, whose palette or colours may tell what they are; and for messages, where
a class list does not fit the files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapt.data.classes import ClassList
from adapt.data.images import read_labels, read_palette
from adapt.data.known_classes import CAMVID11, CITYSCAPES19, distinct_colors
from adapt.data.label_codes import IGNORE, Color, LabelCode, values_in

_FEW = 0.25  # of the values found, that may be unknown to a class list that is right
_PALETTE_SHARE = 0.5  # of a class list's colours that a palette must have at their ids to be told by it


class LabelSystem(NamedTuple):
    """What its values are called in a message, and which there are: ids or colours."""

    name: str
    values: frozenset[int | Color]


def _colors(*hexadecimal: str) -> list[Color]:
    return [(int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)) for text in hexadecimal]


_VOC = distinct_colors(21)
# The 32 classes of CamVid's own release (Brostow et al. 2009), of which SegNet's 11 are groups.
_CAMVID32 = _colors(
    *("408040", "c00080", "0080c0", "008040", "800000", "400080", "4000c0", "c08040", "c0c080", "404080"),
    *("8000c0", "c00040", "808040", "c000c0", "804040", "40c080", "404000", "804080", "8080c0", "0000c0"),
    *("c08080", "808080", "4080c0", "000040", "004040", "c04080", "808000", "c080c0", "400040", "c0c000"),
    *("000000", "40c000"),
)

_LABEL_IDS = LabelSystem("Cityscapes label ids, as GTA5 has them (7 is road, 23 sky)", frozenset(range(35)))
_VOC_IDS = LabelSystem(
    "PASCAL VOC ids (0 is background, 1 aeroplane, 255 border)", frozenset({*range(21), 255})
)
SYSTEMS = (
    LabelSystem("a mask of two values", frozenset({0, 255})),
    LabelSystem("SegNet's CamVid ids (0 is sky, 3 road, 11 unlabelled)", frozenset(range(12))),
    LabelSystem(
        "Cityscapes train ids, as ACDC, Dark Zurich and BDD100K have them (0 is road, 255 does not count)",
        frozenset({*range(19), 255}),
    ),
    _VOC_IDS,
    LabelSystem("SYNTHIA ids (1 is sky, 3 road)", frozenset(range(23))),
    _LABEL_IDS,
    LabelSystem("Cityscapes or GTA5 colours", frozenset(CITYSCAPES19.code.colors)),
    LabelSystem("the colours of SegNet's CamVid", frozenset(CAMVID11.code.colors)),
    LabelSystem("the colours of CamVid's 32 classes", frozenset(_CAMVID32)),
    LabelSystem("PASCAL VOC colours", frozenset({*_VOC, (224, 224, 192)})),
)
"""From small to large, so that the first one that has all the values says most."""


def guess_system(
    paths: Sequence[Path], code: LabelCode, labels: Sequence[np.ndarray] | None = None
) -> str | None:
    """What label files look like that hold values without a meaning in `code`.

    labels: what is in the files, where they may be of another kind than label PNGs.
    The palette of the first file tells, or all values in the files. None if they are in no system, or if it
    looks more as if `code` were right but for a value or two.
    """
    values = {value for each in labels or map(read_labels, paths) for value in values_in(each)}
    system = _by_palette(paths[0]) or next((s for s in SYSTEMS if values <= s.values), None)
    if system is None:
        return None
    unknown = values - set(code.ids) - set(code.colors)
    classes = {value for value, train_id in (*code.ids.items(), *code.colors.items()) if train_id != IGNORE}
    of_one_kind = {value for value in classes if isinstance(value, int) == isinstance(min(unknown), int)}
    other = not of_one_kind <= system.values
    return system.name if other or len(unknown) > max(1, _FEW * len(values)) else None


def _by_palette(path: Path) -> LabelSystem | None:
    palette = read_palette(path) if path.suffix.lower() == ".png" and path.is_file() else None
    if palette is None:
        return None
    if _share(palette, CITYSCAPES19) > _PALETTE_SHARE:
        return _LABEL_IDS
    return _VOC_IDS if palette[1 : len(_VOC)] == _VOC[1:] else None


def classes_of_palette(path: Path) -> ClassList | None:
    """The class list of a label file with Cityscapes' colours, in a palette (as GTA5's) or as they are.

    Raises InputError if the file cannot be read.
    """
    palette = read_palette(path)
    if palette is not None:
        return CITYSCAPES19 if _share(palette, CITYSCAPES19) > _PALETTE_SHARE else None
    labels = read_labels(path)
    if labels.ndim == 2:
        return None
    found = set(values_in(labels))
    told = found & set(CITYSCAPES19.palette)
    return CITYSCAPES19 if len(told) > 1 and found <= set(CITYSCAPES19.code.colors) else None


def _share(palette: Sequence[Color], classes: ClassList) -> float:
    """Of the classes, those whose colour the palette has at their id."""
    at_home = sum(
        value < len(palette) and palette[value] == color
        for value, color in zip(classes.ids, classes.palette, strict=True)
    )
    return at_home / len(classes)
