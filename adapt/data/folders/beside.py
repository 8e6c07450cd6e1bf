"""Label files that lie among pictures: X_mask.png beside X.jpg, X.png beside X.jpg, a folder of masks.

What is taken for labels has a picture that it is of; a grey picture alone, or a folder of them, is none.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from adapt.data.images import LABEL_SUFFIXES, read_labels
from adapt.data.label_codes import values_in
from adapt.errors import InputError

_WORDS = "mask|masks|label|labels|labelids|labeltrainids|trainids|train_id|instanceids|seg|segm|segmentation"
_MORE = "semantic|annotation|annotations|anno|ann|gt|groundtruth|color|colour|color_mask|colormask|matte"
_TAIL = re.compile(rf"(?:[-_. ](?:{_WORDS}|{_MORE})|[-_](?:gtfine|gtcoarse|gt)_\w+)[-_]?\d*$", re.IGNORECASE)
"""How the names of label files end."""
_FOLDER = re.compile(
    rf"(?:\w*[-_])?(?:{_WORDS}|{_MORE}|gtfine|gtcoarse|ann_dir|mask_dir|label_dir)(?:[-_]\w*|png|raw)?"
    r"|\w+annot|segmentationclass\w*|segmentationobject\w*|stuffthingmaps|pixelmaps",
    re.IGNORECASE,
)
"""What folders of label files are called."""
_FEW = 64
"""Values in a label file at most, where its name alone doesn't tell it from a picture."""
_APART = 8  # pixels of which some are looked at first


def label_files(root: Path, pictures: Sequence[Path]) -> set[Path]:
    """Those of the picture files below `root` that are labels of others.

    By name, if the picture that it is of lies in the same folder, or, for a folder that is called as folders
    of labels are, anywhere below the root. Where a file has its picture's very name, its values decide.
    """
    apart = {path for path in pictures if _in_label_folder(path, root)}
    there = [path for path in pictures if path not in apart]
    if not there:  # a folder that is called so and holds all there is
        apart, there = set(), list(pictures)
    return _beside(there) | _in_folders(apart, there)


def key(name: str) -> str:
    """A name as it is compared: composed (Macs store é as e and an accent), in small letters."""
    return unicodedata.normalize("NFC", name).casefold()


def without_tail(stem: str) -> str:
    """The name of the picture that a label file's name begins with; the same where it ends as no label's."""
    return _TAIL.sub("", stem)


def is_label_folder(name: str) -> bool:
    """Whether folders of label files are called so."""
    return _FOLDER.fullmatch(name) is not None


def _in_label_folder(path: Path, root: Path) -> bool:
    return any(map(is_label_folder, path.relative_to(root).parts[:-1]))


def _beside(pictures: Sequence[Path]) -> set[Path]:
    """Labels in the folders of their pictures."""
    by_name: dict[tuple[Path, str], list[Path]] = {}
    for path in pictures:
        by_name.setdefault((path.parent, key(path.stem)), []).append(path)
    found = set()
    for path in pictures:
        stem = without_tail(path.stem)
        if stem != path.stem and (path.parent, key(stem)) in by_name:
            found.add(path)
    for same in by_name.values():
        pngs = [path for path in same if path.suffix.lower() == ".png"]
        if len(same) > len(pngs) > 0:
            found |= {path for path in pngs if has_few_values(path)}
    return found


def _in_folders(apart: Iterable[Path], pictures: Iterable[Path]) -> set[Path]:
    """Labels in folders of their own."""
    stems = {key(path.stem) for path in pictures}
    stems |= {key(re.sub(r"[-_][A-Za-z0-9]+$", "", stem)) for stem in stems}  # X_leftImg8bit, X_rgb
    found, unsure = set(), []
    for path in apart:
        if {key(path.stem), key(without_tail(path.stem))} & stems:
            found.add(path)
        else:
            unsure.append(path)
    return found | {path for path in unsure if has_few_values(path)}


def has_few_values(path: Path) -> bool:
    """Whether a file loses nothing, can be read, and has as few values as labels have."""
    if path.suffix.lower() not in LABEL_SUFFIXES:
        return False
    try:
        values = read_labels(path)
    except InputError:
        return False
    if len(values_in(values[::_APART, ::_APART])) > _FEW:  # photographs have very many, which takes time
        return False
    return len(values_in(values)) <= _FEW
