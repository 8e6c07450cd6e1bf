"""Pascal VOC's folders, and what others write in them: CVAT's Segmentation mask 1.1, labelme's VOC export.

JPEGImages/, SegmentationClass/ (of labelme also SegmentationClassPNG/), lists in ImageSets/Segmentation/.
The classes are in CVAT's labelmap.txt (name:red,green,blue:parts:actions) or in labelme's class_names.txt;
without either they are VOC's own. https://docs.cvat.ai/docs/manual/advanced/formats/format-smask/
"""

from collections.abc import Sequence
from pathlib import Path

from adapt.data.classes import ClassList, Color
from adapt.data.folders.walk import walk
from adapt.data.images import LABEL_SUFFIXES, read_labels, read_palette
from adapt.data.known_classes import distinct_colors
from adapt.data.label_codes import values_in
from adapt.data.layouts.contents import find_under_any_names
from adapt.data.layouts.pairing import pair
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split, chosen_split
from adapt.errors import InputError

_IMAGES = ("JPEGImages", "images", "Images", "imgs")
_LABELS = ("SegmentationClassPNG", "SegmentationClass")
_LISTS = Path("ImageSets", "Segmentation")
_NAMES_OF_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
_CVAT, _LABELME = "labelmap.txt", "class_names.txt"
_LOOKED_AT = 3  # label files that tell whether they are of VOC
_BORDER: Color = (224, 224, 192)
VOC21 = ClassList(_NAMES_OF_VOC, tuple(range(21)), distinct_colors(21), ignore=(255, _BORDER))


def find(root: Path, split: Split) -> Labelled | None:
    """As adapt/data/exports/__init__.py says."""
    place = next((each for each in _places(root) if _is_one(each)), None)
    if place is None:
        return None
    found = _as_exported(place) or find_under_any_names(place, split)
    if found is None:
        raise InputError(
            f"{place} has no pictures with labels of the same names, in JPEGImages/ and SegmentationClass/ "
            "or any other two folders; export the labels as PNG, with their pictures, or put them there."
        )
    listed = _listed(place, split)
    pairs = [
        (image, label)
        for image, label in zip(found.images, found.labels, strict=True)
        if listed is None or listed & _names(image, place)
    ]
    if not pairs:
        raise InputError(
            f"No picture with labels in {place} is in its part's list in ImageSets/Segmentation/; write the "
            f"names there anew, or take all of them with --images '{_below(found.images[0], place)}/*' "
            f"--labels '{_below(found.labels[0], place)}/*'."
        )
    name, classes = _classes(place, [label for _, label in pairs])
    kind = LabelFiles(found.kind.path, classes)
    images, labels = ([each[i] for each in pairs] for i in (0, 1))
    return Labelled(place, Layout(name, ""), images, labels, kind, found.note)


def _is_one(place: Path) -> bool:
    return (place / "SegmentationClass").is_dir() or (place / _LISTS).is_dir()


def _as_exported(place: Path) -> Labelled | None:
    """Of the folders that the tools write; None where these have other names, or nothing that fits."""
    labels = next((place / name for name in _LABELS if _label_files(place / name)), None)
    pictures = next((place / name for name in _IMAGES if (place / name).is_dir()), None)
    if labels is None or pictures is None:
        return None
    pairs = pair(walk(pictures).pictures, pictures, _label_files(labels), labels)
    unlabelled = len(pairs.alone)
    note = f"left out {unlabelled} pictures without labels in {labels.name}/" if unlabelled else ""
    kind = LabelFiles(f"{labels.name}/*.png")
    return Labelled(place, Layout("", ""), pairs.images, pairs.labels, kind, note) if pairs.images else None


def _names(image: Path, place: Path) -> set[str]:
    """What a list may call a picture: by its name, or by its path below the folder of pictures."""
    parts = image.relative_to(place).with_suffix("").parts
    return {"/".join(parts[i:]) for i in range(len(parts))}


def _below(file: Path, place: Path) -> str:
    return file.parent.relative_to(place).as_posix()


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


def _classes(place: Path, labels: Sequence[Path]) -> tuple[str, ClassList | None]:
    """What the tool is called, and its classes; without a file of classes VOC's own, if the labels are so."""
    tool = "labelme (VOC export)" if (place / _LABELME).is_file() else "CVAT (Segmentation mask)"
    own = classes_in(place)
    if own is not None:
        return tool, own
    if place.name.startswith("VOC20") or all(map(_is_of_voc, labels[:_LOOKED_AT])):
        return "Pascal VOC", VOC21
    return f"{labels[0].parent.name}/ and a folder of pictures", None


def _is_of_voc(label: Path) -> bool:
    """Whether a label file has VOC's palette, or its colours."""
    palette = read_palette(label) if label.suffix.lower() == ".png" else None
    if palette is not None:
        return palette[1:21] == VOC21.palette[1:]
    values = read_labels(label)
    return values.ndim == 3 and {*values_in(values)} <= {*VOC21.code.colors}


def classes_in(place: Path) -> ClassList | None:
    """Of labelmap.txt or class_names.txt in a folder; None if it has neither."""
    if (file := place / _CVAT).is_file():
        return _of_labelmap(file)
    if not (file := place / _LABELME).is_file():
        return None
    names = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    own = [name.strip("_") if name == "_background_" else name for name in names if name != "__ignore__"]
    return ClassList(tuple(own), tuple(range(len(own))), distinct_colors(len(own)), ignore=(255,))


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
