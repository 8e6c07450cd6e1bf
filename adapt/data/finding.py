"""Find a data set's pictures, and their label files, from the folder that is given.

The layouts of adapt/data/layouts/ are tried in turn. A path inside a data set's root chooses a part of it:
cityscapes/leftImg8bit/val, acdc/rgb_anon/night, camvid/val. Where the path leaves the split open, a source or
target takes the train split and an evaluation the val split. Hidden files (.name) are skipped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from os.path import normpath
from pathlib import Path
from typing import NamedTuple

from adapt.data.exports.table import find_export
from adapt.data.folders.beside import is_label_folder, label_files
from adapt.data.folders.walk import is_content, walk
from adapt.data.layouts.contents import find_by_content, labels_among
from adapt.data.layouts.downloads import LAYOUTS, OWN
from adapt.data.layouts.given import find_given, read_layout_file
from adapt.data.layouts.patterns import Labelled, Layout, Picture, fill, level_of, pictures_below
from adapt.data.layouts.splits import Split, split_of
from adapt.data.layouts.trees import find_tree, is_picture_folder
from adapt.data.layouts.unpaired import UnpairedError
from adapt.errors import InputError
from serve.media.files import PICTURE_SUFFIXES, VIDEO_SUFFIXES, in_folder, kinds_and_names

_DEPTH = 4  # folders between a root and the deepest part that can be named
_SHOWN = 3  # files an error message names before it says how many more there are


class NotLabelledError(InputError):
    """The folder has no labels at all, so that it may be meant as pictures alone."""


class MismatchError(InputError):
    """A layout's folders are there, but not under the names, or in the parts, that it has."""


class Pictures(NamedTuple):
    """Pictures of a folder, in order."""

    path: Path
    """The folder, by its absolute name."""
    pictures: list[Path]
    layout: Layout | None = None
    """That they are found by; None takes all that lie in the folder and in folders in it, but labels."""
    root: Path | None = None
    """Of the layout."""


def find_images(path: Path, split: Split) -> list[Path]:
    """The pictures in `path`, in order: those of a layout, or else all but label files, in folders too.

    Raises InputError if the folder is missing or holds none.
    """
    return find_pictures(path, split).pictures


def find_pictures(path: Path, split: Split, videos: bool = False) -> Pictures:
    """The same, and how they were found.

    videos: a folder that holds videos alone will do.
    Raises InputError as find_images does.
    """
    path = existing(path)
    refusal: InputError | None = None
    for root, layout in _candidates(path):
        try:
            if pictures := _chosen(root, layout, path, split):
                if layout is OWN:  # other pictures may lie beside images/
                    break
                found = [picture.path for picture in pictures]
                if layout.exact:  # one's own folders may have labels beside the pictures
                    labels = label_files(root, found)
                    found = [picture for picture in found if picture not in labels]
                if layout.mark and not any(root.glob(layout.mark)):
                    layout = replace(layout, name=f"{split}/")
                return Pictures(path, found, layout, root)
        except InputError as error:
            refusal = refusal or error
    own, _ = in_folder(path, PICTURE_SUFFIXES)
    if refusal is not None and not own:
        raise refusal
    inside = walk(path)
    labels = label_files(path, inside.pictures)
    found = [picture for picture in inside.pictures if picture not in labels]
    more = labels_among(found, path)
    found = [picture for picture in found if picture not in more]
    if not found and (export := find_export(path, split)) is not None:
        found = export.images
    if not found and not (videos and inside.videos):
        raise InputError(_no_images(path))
    return Pictures(path, found)


def find_labelled(path: Path, split: Split) -> Labelled:
    """The pictures in `path` that a layout finds there, with their label files.

    Raises NotLabelledError if it is in no known layout, or in one but without a folder of labels; InputError
    if the folder is missing, or if pictures and labels do not pair up.
    """
    path = existing(path)
    for root, part in _with_parts(path, split):
        if (given := read_layout_file(root)) is not None:
            return find_given(root, given, part)
        if (export := find_export(root, part)) is not None:
            return export
    refusal: InputError | None = None
    certain = False
    for root, layout in _candidates(path):
        try:
            if pictures := _chosen(root, layout, path, split):
                return _with_labels(root, layout, pictures)
        except InputError as error:
            if refusal is None and (not layout.mark or any(root.glob(layout.mark))):
                refusal = error
                certain = not (layout.exact and isinstance(error, NotLabelledError | MismatchError))
    if not certain:
        if (inner := _only_folder(path)) is not None:
            return find_labelled(inner, split)
        tree = _tree(path, split, refusal)
        if tree is not None:
            return tree
    raise refusal or NotLabelledError(_not_labelled(path))


def _only_folder(path: Path) -> Path | None:
    """The folder that an archive was unpacked into, where nothing else is there."""
    there = [each for each in path.iterdir() if is_content(each.name)]
    if len(there) != 1 or not there[0].is_dir():
        return None
    name = there[0].name
    return None if split_of(name) or is_label_folder(name) or is_picture_folder(name) else there[0]


def _tree(path: Path, split: Split, refusal: InputError | None) -> Labelled | None:
    """Pictures and labels under any names; where they don't fit, an exact layout had more to say."""
    try:
        for root, part in _with_parts(path, split):
            if (tree := find_tree(root, part)) is not None:
                return tree
    except InputError as error:
        raise refusal or error from None
    return find_by_content(path, split)


def _with_parts(path: Path, split: Split) -> Iterator[tuple[Path, Split]]:
    """The folder, and the one that it is a part of, if it is called train or val."""
    yield path, split
    named = split_of(path.name)
    if named == "train":
        yield path.parent, "train"
    elif named == "val":
        yield path.parent, "val"


def _candidates(path: Path) -> Iterator[tuple[Path, Layout]]:
    """Roots that `path` may be or lie in, with the layouts to try there."""
    for root in (path, *path.parents[:_DEPTH]):
        for layout in LAYOUTS:
            yield root, layout
            if layout.folder and (root / layout.folder).is_dir():
                yield root / layout.folder, layout


def _chosen(root: Path, layout: Layout, path: Path, split: Split) -> list[Picture]:
    """The layout's pictures in `path`, or in the part of it that is meant. Empty if there are none.

    Raises InputError if there are pictures, but none in that part.
    """
    pictures = [picture for picture in pictures_below(root, layout.images) if _within(picture.path, path)]
    named = len(path.relative_to(root).parts) if _within(path, root) else 0
    levels = {field: level_of(field, layout.images) for field in ("split", *dict(layout.usual))}
    # what the path leaves open
    wanted = {field: value for field, value in (("split", split), *layout.usual) if levels[field] >= named}
    meant = [picture for picture in pictures if wanted.items() <= picture.fields.items()]
    if pictures and not meant:
        there = root.joinpath(*pictures[0].path.relative_to(root).parts[: max(levels.values()) + 1])
        raise MismatchError(
            f"{path} holds pictures in the layout of {layout.name}, but none of its part "
            f"{'/'.join(wanted.values())}; get that part, or name another one, such as {there}."
        )
    return meant


def _with_labels(root: Path, layout: Layout, pictures: list[Picture]) -> Labelled:
    expected = [
        (kind, [root / fill(kind.path, picture.fields) for picture in pictures]) for kind in layout.labels
    ]
    kind, labels = max(expected, key=lambda kind_and_paths: sum(path.is_file() for path in kind_and_paths[1]))
    images = [picture.path for picture in pictures]
    alone = [image for image, label in zip(images, labels, strict=True) if not label.is_file()]
    if len(alone) == len(images):
        example = fill(layout.labels[0].path, pictures[0].fields)
        places = sorted({path.parent for _, paths in expected for path in paths if path.parent.is_dir()})
        advice = layout.advice if not any(map(_holds, places)) else _what_is_there(places)
        raise (MismatchError if places else NotLabelledError)(
            f"{root} holds pictures in the layout of {layout.name}, but no label files for them (such as "
            f"{example}); {advice}."
        )
    surplus = _surplus(labels) if layout.exact else []
    if alone:
        place = labels[images.index(alone[0])].parent
        lone = set(alone)
        pairs = [pair for pair in zip(images, labels, strict=True) if pair[0] not in lone]
        raise UnpairedError(
            f"{len(alone)} of {len(images)} pictures have no label file of the same name in {place}: "
            f"{names(alone)}; add them or remove the pictures.",
            Labelled(root, layout, [p for p, _ in pairs], [q for _, q in pairs], kind),
            alone,
            surplus,
        )
    _check_different(images)
    found = Labelled(root, layout, images, labels, kind)
    if surplus:
        raise UnpairedError(
            f"{len(surplus)} label files have no picture of the same name in {images[0].parent}: "
            f"{names(surplus)}; add them or remove the label files.",
            found,
            surplus=surplus,
        )
    return found


def _holds(folder: Path) -> bool:
    return any(path.is_file() for path in folder.iterdir())


def _what_is_there(places: Sequence[Path]) -> str:
    place = next(filter(_holds, places))
    files = sorted(path.name for path in place.iterdir() if path.is_file())
    return (
        f"{place.name}/ holds {len(files)} files, such as {files[0]}, but none that is a picture's by its "
        "name; say which belong together with --images, --labels and --label-suffix"
    )


def _surplus(labels: list[Path]) -> list[Path]:
    """Label files beside these that belong to no picture."""
    expected = set(labels)
    found = [
        file for folder in sorted({label.parent for label in labels}) for file in folder.glob("[!.]*.png")
    ]
    # Tools of the field leave a converted copy beside each of GTA5's label files.
    return sorted(f for f in found if f not in expected and not f.stem.endswith("_labelTrainIds"))


def _within(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def existing(folder: Path) -> Path:
    """As an absolute path without `..`, so that its parents are those that people see."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; give an existing folder of images.")
    return Path(normpath(folder.absolute()))


def _check_different(images: Sequence[Path]) -> None:
    """Of pictures with the same name one would take the other's labels."""
    seen: dict[Path, Path] = {}
    for image in images:
        if (stem := image.with_suffix("")) in seen:
            raise InputError(f"{seen[stem]} and {image.name} have the same name; keep one of the two.")
        seen[stem] = image


def _no_images(folder: Path) -> str:
    videos, others = in_folder(folder, VIDEO_SUFFIXES)
    instead = f", only {kinds_and_names(others)}" if others else ""
    advice = "; give its videos themselves." if videos else "."
    return f"The folder {folder} holds no images{instead}{advice}"


def _not_labelled(path: Path) -> str:
    pictures = walk(path).pictures
    for folder in (path / "images", path):
        if folder.is_dir() and not any(folder in picture.parents for picture in pictures):
            return _no_images(folder)
    return (
        f"{path} holds {len(pictures)} pictures, such as {pictures[0].relative_to(path)}, but no label files "
        "that are theirs by name; put these into labels/ beside images/, say which they are with --images "
        "and --labels, or use the pictures as an unlabelled --target."
    )


def names(paths: Sequence[Path]) -> str:
    """The first few names, and how many more there are."""
    more = len(paths) - _SHOWN
    return ", ".join(path.name for path in paths[:_SHOWN]) + (f", and {more} more" if more > 0 else "")
