"""Open a run's labelled data: which classes there are, and what label files' values mean in them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from adapt.config.settings import Data
from adapt.data.classes import ClassList, load_classes
from adapt.data.datasets import LabelledImages, LabelledPart
from adapt.data.exports.table import classes_beside
from adapt.data.finding import existing, find_labelled
from adapt.data.images import read_labels
from adapt.data.label_codes import LabelCode
from adapt.data.label_maps import load_label_map, recode
from adapt.data.label_systems import classes_of_palette
from adapt.data.layouts.given import LAYOUT_FILE, Given, find_given
from adapt.data.layouts.patterns import Labelled
from adapt.data.layouts.splits import Split
from adapt.data.layouts.unpaired import UnpairedError
from adapt.data.values.repair import read_any_labels
from adapt.errors import InputError

CLASS_FILE = "classes.yaml"
LABEL_MAP = "label_map.yaml"


Unpaired = list[UnpairedError]
"""Where looking at data goes on with what pairs up: the refusals that training would end with."""


def find_pairs(folder: Path, split: Split, unpaired: Unpaired | None = None) -> Labelled:
    """As `find_labelled`; with a list, what has no partner is put there and left out."""
    return _with_pairs(lambda: find_labelled(folder, split), unpaired)


def _with_pairs(find: Callable[[], Labelled], unpaired: Unpaired | None) -> Labelled:
    try:
        return find()
    except UnpairedError as error:
        if unpaired is None:
            raise
        unpaired.append(error)
        return error.found


def find_classes(folder: Path, given: Path | None, found: Labelled | None = None) -> ClassList:
    """The class file that is given, or the class list that comes with a labelled folder.

    That is classes.yaml in the folder or beside it, or the list of the data set whose layout or palette it
    has. `found` is what the folder holds, where that is known already.

    Raises:
        InputError: there is none.
    """
    if given is not None:
        return load_classes(given)
    found = found or find_labelled(folder, "train")
    classes = _class_file(folder, found) or _of_tool(folder, found) or _of_palette(found)
    if classes is None:
        raise InputError(
            f"{folder} has no class file: put {CLASS_FILE} into it or beside it, or name one with --classes; "
            f"`adapt classes {folder}` drafts one."
        )
    return classes


def find_source(data: Data, unpaired: Unpaired | None = None) -> Labelled:
    """The pictures and labels of the first source: by the patterns in the settings, or by its layout.

    unpaired: as of `find_pairs`.

    Raises:
        InputError: as `find_labelled`, or there are patterns and several sources.
    """
    given = Given(data.images, data.labels, data.label_suffix)
    if not any(given):
        return find_pairs(data.source[0], "train", unpaired)
    if len(data.source) > 1:
        raise InputError(
            f"--images, --labels and --label-suffix are for one source, not for {len(data.source)}; put "
            f"a {LAYOUT_FILE} with these lines into each that needs it."
        )
    return _with_pairs(lambda: find_given(existing(data.source[0]), given, "train"), unpaired)


def open_source(data: Data, classes: ClassList, unpaired: Unpaired | None = None) -> LabelledImages:
    """The labelled sources; `unpaired` as of `find_pairs`.

    The first one is read by its label map if there is one (data.label_map, or label_map.yaml in it), or else
    as the class list says; the others as labelled folders for evaluation are, in the classes of the run.

    Raises:
        InputError: a folder or a map cannot be used, or class lists do not fit each other.
    """
    first, *others = data.source
    if others and data.label_map is not None:
        raise InputError(
            f"--label-map {data.label_map} is for one source, and there are {len(data.source)}; put it into "
            f"the folder of the source that it is for, as {LABEL_MAP}."
        )
    map_file = data.label_map or _label_map(first)
    found = find_source(data, unpaired)
    if map_file is not None:
        code = load_label_map(map_file, classes)
    elif found.kind.drawn and found.kind.classes is not None:  # its values are ours, so names tell
        code = recode(found.kind.classes, classes, str(first), "the class list")
    else:
        code = classes.code
    parts = [LabelledPart(found, code)]
    for folder in others:
        found = find_pairs(folder, "train", unpaired)
        parts.append(LabelledPart(found, _evaluation_code(folder, classes, found) or classes.code))
    if data.repair_labels == "nearest":
        parts = [LabelledPart(_lossy(part.found), part.code.repaired()) for part in parts]
    return LabelledImages(parts, classes, data.source_size or data.size)


def _lossy(found: Labelled) -> Labelled:
    """The same, reading JPEG labels too; what tools draw is exact."""
    if found.kind.read is not read_labels:
        return found
    return found._replace(kind=replace(found.kind, read=read_any_labels))


def open_labelled(
    folder: Path,
    run_classes: ClassList,
    size: tuple[int, int] | None,
    split: Split = "val",
    keep_labels: bool = False,
    unpaired: Unpaired | None = None,
) -> LabelledImages:
    """A labelled folder for evaluation, counted in the run's classes.

    Its label map, its class file, or the class list of the data set whose layout or palette it has says what
    its label files mean; without any of them, the run's class list does. `keep_labels` leaves its labels as
    large as the files, as official evaluations have it; `unpaired` is as of `find_pairs`.

    Raises:
        InputError: the class lists do not fit each other, or the folder cannot be read.
    """
    found = find_pairs(folder, split, unpaired)
    code = _evaluation_code(folder, run_classes, found) or run_classes.code
    return LabelledImages([LabelledPart(found, code)], run_classes, size, keep_labels)


def _evaluation_code(folder: Path, run_classes: ClassList, found: Labelled) -> LabelCode | None:
    if (map_file := _label_map(folder)) is not None:
        return load_label_map(map_file, run_classes)
    own = found.kind.classes if found.kind.drawn else _class_file(folder, found) or _of_tool(folder, found)
    if own is not None:
        return recode(own, run_classes, str(folder), "the run")
    # A palette is only a hint: class files may use the same colours under names of their own.
    painted = _of_palette(found)
    if painted is None or not set(run_classes.names) <= set(painted.names):
        return None
    return recode(painted, run_classes, str(folder), "the run")


def _of_tool(folder: Path, found: Labelled) -> ClassList | None:
    """What comes with the layout, or lies in the folder in a file that a labelling tool wrote."""
    return found.kind.classes or classes_beside(found, existing(folder))


def _of_palette(found: Labelled) -> ClassList | None:
    """Of label files that are PNG; others have no palette that is kept."""
    first = found.labels[0]
    return classes_of_palette(first) if first.suffix.lower() == ".png" and first.is_file() else None


def _class_file(folder: Path, found: Labelled) -> ClassList | None:
    """Of the folder. One beside it counts where the layout is one's own; downloads bring their classes."""
    beside = [folder.parent, found.root.parent] if found.layout.exact else []
    for place in (folder, found.root, *beside):
        for name in (CLASS_FILE, CLASS_FILE.replace("yaml", "yml")):
            if (place / name).is_file():
                return load_classes(place / name)
    return None


def _label_map(folder: Path) -> Path | None:
    return folder / LABEL_MAP if (folder / LABEL_MAP).is_file() else None
