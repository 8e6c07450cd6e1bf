"""Pictures and labels that a person points at: by glob patterns, as options or in a file of four lines.

# layout.yaml, in the folder
images: photos/{split}/**/*.jpg    # {split} is train or val; all patterns are below the folder
labels: masks/{split}/**/*.png
label_suffix: _mask                # X_mask.png belongs to X.jpg; found out if left out
classes: names.yaml                # a class file; classes.yaml if left out
"""

import re
from pathlib import Path
from typing import NamedTuple

import yaml

from adapt.data.classes import load_classes
from adapt.data.folders.walk import walk
from adapt.data.layouts.pairing import Tails, describe_tails, pair_placed
from adapt.data.layouts.patterns import LabelFiles, Labelled, Layout
from adapt.data.layouts.splits import Split
from adapt.data.layouts.unpaired import UnpairedError
from adapt.errors import InputError
from serve.media.files import PICTURE_SUFFIXES

LAYOUT_FILE = "layout.yaml"
_KEYS = ("images", "labels", "label_suffix", "classes")
_SPECIAL = re.compile(r"[*?\[{]")


class Given(NamedTuple):
    """Glob patterns below a folder; None leaves one to what is there."""

    images: str | None = None
    labels: str | None = None
    label_suffix: str | None = None
    classes: str | None = None


def read_layout_file(root: Path) -> Given | None:
    """What layout.yaml in a folder says; None if there is none. Raises InputError, naming it."""
    path = root / LAYOUT_FILE
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable YAML file: {' '.join(str(error).split())}.") from error
    good = isinstance(content, dict) and set(content) <= {*_KEYS}
    if not good or not all(isinstance(value, str) for value in content.values()):
        raise InputError(
            f"{path} must have lines of {', '.join(_KEYS)}, each with a text, but is {content!r:.80}."
        )
    return Given(**content)


def find_given(root: Path, given: Given, split: Split) -> Labelled:
    """The pictures and labels that the patterns mean.

    Raises InputError if a pattern finds nothing, or pictures and labels do not pair up.
    """
    if given.labels is None and given.label_suffix is None:
        raise InputError(
            f"{root}: --images alone leaves open which files are labels; add --labels or --label-suffix."
        )
    patterns = Given(*(None if each is None else each.replace("{split}", split) for each in given))
    labels = _files(root, patterns.labels, "--labels")
    if patterns.labels is None:
        labels = [path for path in labels if path.stem.endswith(str(given.label_suffix))]
    taken = set(labels)
    images = [path for path in _files(root, patterns.images, "--images") if path not in taken]
    tails = None if given.label_suffix is None else Tails("", given.label_suffix)
    found = pair_placed(_placed(images, root, patterns.images), _placed(labels, root, patterns.labels), tails)
    if not found.images:
        raise InputError(
            f"Of {len(images)} pictures and {len(labels)} label files in {root} none belong together by name "
            f"({_first(images)}, {_first(labels)}); say how label files' names end with --label-suffix."
        )
    classes = None if patterns.classes is None else load_classes(root / patterns.classes)
    kind = LabelFiles(patterns.labels or f"**/*{given.label_suffix}.*", classes)
    note = describe_tails(found.tails, found.images, found.labels)
    layout = Layout("the patterns that were given", "", exact=True)
    pairs = Labelled(root, layout, found.images, found.labels, kind, note)
    if found.alone:
        raise UnpairedError(
            f"{len(found.alone)} of {len(images)} pictures have no label file ({found.alone[0].name}, ...); "
            "add them, or narrow --images.",
            pairs,
            found.alone,
            found.surplus,
        )
    return pairs


def _files(root: Path, pattern: str | None, option: str) -> list[Path]:
    if pattern is None:
        return walk(root).pictures
    if Path(pattern).is_absolute():
        raise InputError(
            f"{option} {pattern} must be a pattern below the folder {root}, such as masks/**/*.png."
        )
    files = [
        p for p in root.glob(pattern) if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")
    ]
    if not files:
        raise InputError(
            f"{option} {pattern} finds no picture file in {root}; quote the pattern, and check it there."
        )
    return sorted(files)


def _placed(paths: list[Path], root: Path, pattern: str | None) -> list[tuple[str, Path]]:
    """Each with the folders that it lies in, without those that the pattern spells out."""
    spelled = {part for part in Path(pattern or "*").parts[:-1] if not _SPECIAL.search(part)}
    return [
        ("/".join(part for part in path.parent.relative_to(root).parts if part not in spelled), path)
        for path in paths
    ]


def _first(paths: list[Path]) -> str:
    return paths[0].name if paths else "none"
