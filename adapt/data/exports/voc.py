"""Pascal VOC's folders, and what others write in them: CVAT's Segmentation mask 1.1, labelme's VOC export.

JPEGImages/, SegmentationClass/ (of labelme also SegmentationClassPNG/), lists in ImageSets/Segmentation/.
The classes are in CVAT's labelmap.txt (name:red,green,blue:parts:actions) or in labelme's class_names.txt;
without either they are VOC's own. https://docs.cvat.ai/docs/manual/advanced/formats/format-smask/
"""

from pathlib import Path

from adapt.data.classes import ClassList, Color
from adapt.data.folders.walk import walk
from adapt.data.images import LABEL_SUFFIXES
from adapt.data.known_classes import distinct_colors
from adapt.data.layouts.pairing import pair
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, chosen_split
from adapt.errors import InputError

_IMAGES = ("JPEGImages", "images", "Images", "imgs")
_LABELS = ("SegmentationClassPNG", "SegmentationClass")
_LISTS = Path("ImageSets", "Segmentation")
_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
_BORDER: Color = (224, 224, 192)
VOC21 = ClassList(_NAMES, tuple(range(21)), distinct_colors(21), ignore=(255, _BORDER))


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says."""
    place = next((each for each in _places(root) if (each / "SegmentationClass").is_dir()), None)
    if place is None:
        return None
    labels = next((place / name for name in _LABELS if _label_files(place / name)), None)
    if labels is None:
        raise InputError(f"{place / 'SegmentationClass'} holds no PNG files; export the labels as PNG too.")
    pictures = next((place / name for name in _IMAGES if (place / name).is_dir()), None)
    if pictures is None:
        raise InputError(
            f"{place} has labels but no folder JPEGImages/; export it with its pictures, or put them there."
        )
    pairs = pair(walk(pictures).pictures, pictures, _label_files(labels), labels)
    listed = _listed(place, split)
    images, files = [], []
    for image, label in zip(pairs.images, pairs.labels, strict=True):
        name = image.relative_to(pictures).with_suffix("").as_posix()
        if listed is None or name in listed:
            images.append(image)
            files.append(label)
    if not images:
        raise InputError(
            f"No picture in {pictures} has a label file in {labels.name}/ and is in its part's list; check "
            "the names, and the lists in ImageSets/Segmentation/."
        )
    name, classes = _classes(place)
    unlabelled = len(pairs.alone)
    note = f"left out {unlabelled} pictures without labels in {labels.name}/" if unlabelled else ""
    return Labelled(place, Layout(name, ""), images, files, LabelFiles(f"{labels.name}/*.png", classes), note)


def _places(root: Path) -> list[Path]:
    """The folder itself, or the newest year in what VOC unpacks to."""
    return [
        root,
        *sorted(root.glob("VOC20*"), reverse=True),
        *sorted(root.glob("VOCdevkit/VOC20*"), reverse=True),
    ]


def _label_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in walk(folder).pictures if path.suffix.lower() in LABEL_SUFFIXES]


def _listed(place: Path, split: Split) -> set[str] | None:
    """The names that the split's list has; None if the lists are of no splits."""
    folder = place / _LISTS
    part = chosen_split([path.stem for path in folder.glob("*.txt")], split, folder)
    if part is None:
        return None
    return {
        line.split()[0] for line in (folder / f"{part}.txt").read_text("utf-8").splitlines() if line.strip()
    }


def _classes(place: Path) -> tuple[str, ClassList | None]:
    if (file := place / "labelmap.txt").is_file():
        return "CVAT (Segmentation mask)", _of_labelmap(file)
    if (file := place / "class_names.txt").is_file():
        names = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
        own = [name.strip("_") if name == "_background_" else name for name in names if name != "__ignore__"]
        return "labelme (VOC export)", ClassList(
            tuple(own), tuple(range(len(own))), distinct_colors(len(own)), ignore=(255,)
        )
    return "Pascal VOC", VOC21


def _of_labelmap(file: Path) -> ClassList:
    names, colors, ignore = [], [], []
    for line in file.read_text("utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = map(int, rest.split(":")[0].split(","))
        except ValueError:
            raise InputError(
                f"{file} has the line {line!r}, but its lines are name:red,green,blue:parts:actions."
            ) from None
        if name.casefold() in ("ignored", "ignore", "void"):
            ignore.append((red, green, blue))
        else:
            names.append(name)
            colors.append((red, green, blue))
    return ClassList(tuple(names), tuple(range(len(names))), tuple(colors), (*ignore, 255))
