"""Class lists that many data sets share."""

from dataclasses import replace

from adapt.data.classes import IGNORE, ClassList, Color


def _classes(ignore: tuple[int | Color, ...], rows: tuple[tuple[int, str, Color], ...]) -> ClassList:
    ids, names, palette = zip(*rows, strict=True)
    return ClassList(names, ids, palette, ignore)


def distinct_colors(count: int, first: int = 0) -> tuple[Color, ...]:
    """PASCAL VOC's palette, black first: the bits of the number spread over red, green and blue."""

    def channel(value: int, start: int) -> int:
        return sum((value >> (start + 3 * bit) & 1) << (7 - bit) for bit in range(3))

    return tuple((channel(v, 0), channel(v, 1), channel(v, 2)) for v in range(first, first + count))


# The grouping of CamVid's 32 classes in Badrinarayanan et al., SegNet, 2017.
CAMVID11 = _classes(
    ignore=(11,),
    rows=(
        (0, "sky", (128, 128, 128)),
        (1, "building", (128, 0, 0)),
        (2, "pole", (192, 192, 128)),
        (3, "road", (128, 64, 128)),
        (4, "pavement", (60, 40, 222)),
        (5, "tree", (128, 128, 0)),
        (6, "sign", (192, 128, 128)),
        (7, "fence", (64, 64, 128)),
        (8, "car", (64, 0, 128)),
        (9, "pedestrian", (64, 64, 0)),
        (10, "bicyclist", (0, 128, 192)),
    ),
)


# Files *_gtFine_labelIds.png of Cityscapes, and GTA5's labels. Ignored are the void classes and GTA5's
# license plates (34), by id or by colour; colours cannot tell plates from cars, nor pole groups from poles.
CITYSCAPES19 = _classes(
    ignore=(
        *(0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 34),
        *((20, 20, 20), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180)),
        *((150, 100, 100), (150, 120, 90), (0, 0, 90), (0, 0, 110)),
    ),
    rows=(
        (7, "road", (128, 64, 128)),
        (8, "sidewalk", (244, 35, 232)),
        (11, "building", (70, 70, 70)),
        (12, "wall", (102, 102, 156)),
        (13, "fence", (190, 153, 153)),
        (17, "pole", (153, 153, 153)),
        (19, "traffic light", (250, 170, 30)),
        (20, "traffic sign", (220, 220, 0)),
        (21, "vegetation", (107, 142, 35)),
        (22, "terrain", (152, 251, 152)),
        (23, "sky", (70, 130, 180)),
        (24, "person", (220, 20, 60)),
        (25, "rider", (255, 0, 0)),
        (26, "car", (0, 0, 142)),
        (27, "truck", (0, 0, 70)),
        (28, "bus", (0, 60, 100)),
        (31, "train", (0, 80, 100)),
        (32, "motorcycle", (0, 0, 230)),
        (33, "bicycle", (119, 11, 32)),
    ),
)


# Files *labelTrainIds.png: ACDC, Dark Zurich, BDD100K and what tools make of Cityscapes.
CITYSCAPES19_TRAIN_IDS = replace(
    CITYSCAPES19,
    ids=tuple(range(19)),
    ignore=(IGNORE, *(value for value in CITYSCAPES19.ignore if isinstance(value, tuple))),
)


# SYNTHIA-RAND-CITYSCAPES: the 16 classes that it shares with Cityscapes, in Cityscapes' order. Ignored are
# void, parking slots, road works, terrain, trucks, trains and lane markings.
_SYNTHIA_IDS = {
    "road": 3,
    "sidewalk": 4,
    "building": 2,
    "wall": 21,
    "fence": 5,
    "pole": 7,
    "traffic light": 15,
    "traffic sign": 9,
    "vegetation": 6,
    "sky": 1,
    "person": 10,
    "rider": 17,
    "car": 8,
    "bus": 19,
    "motorcycle": 12,
    "bicycle": 11,
}


SYNTHIA16 = ClassList(
    names=tuple(_SYNTHIA_IDS),
    ids=tuple(_SYNTHIA_IDS.values()),
    palette=tuple(CITYSCAPES19.palette[CITYSCAPES19.names.index(name)] for name in _SYNTHIA_IDS),
    ignore=(0, 13, 14, 16, 18, 20, 22),
)


SYNTHIA_UNCOUNTED = ("wall", "fence", "pole")
"""Small classes that the field leaves out of a second mean for SYNTHIA, over 13 classes."""
