"""The unlabelled target: what is taken of folders, and what is left out and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from adapt.data.exports.huggingface import is_stored
from adapt.data.finding import find_pictures
from adapt.data.folders.beside import label_files
from adapt.data.folders.walk import walk
from adapt.data.frames import check_video
from adapt.data.layouts.patterns import Layout, pictures_below
from adapt.errors import InputError

_NAMED = 3  # of what is left out, for each reason
_OWN_FILES = {"classes.yaml", "classes.yml", "label_map.yaml"}
"""Files that this project has people put beside their pictures."""
LABELS, OTHERS = "label files", "of other kinds"


class LeftOut(NamedTuple):
    """A file that lies in a target and is not used."""

    path: Path
    why: str


class TargetPart(NamedTuple):
    """A folder or a video of the unlabelled target."""

    path: Path
    pictures: list[Path]
    """In order."""
    videos: list[Path]
    """In order; their frames follow the pictures."""
    left_out: list[LeftOut]
    """What else is there, in order."""


def find_target(paths: Sequence[Path]) -> list[TargetPart]:
    """What each folder holds, folders in folders included, and the videos; no picture is read.

    Raises InputError if one is missing, or a folder holds neither picture nor video.
    """
    if missing := [path for path in paths if not path.exists()]:
        raise InputError(f"There is no folder or video {missing[0]}; give folders of images, or video files.")
    return [_folder_part(path) if path.is_dir() else TargetPart(path, [], [path], []) for path in paths]


def _folder_part(path: Path) -> TargetPart:
    found = find_pictures(path, "train", videos=True)
    inside = walk(found.path)
    taken = set(found.pictures)
    labels = label_files(found.path, inside.pictures)
    holders = {picture.parent.parent for picture in taken if is_stored(picture)}
    others = [file for file in inside.others if file.name not in _OWN_FILES and file not in holders]
    left_out = [LeftOut(file, OTHERS) for file in others]
    rest = [file for file in inside.pictures if file not in taken]
    if found.layout is None:
        left_out += [LeftOut(file, LABELS) for file in rest]
        videos, broken = _readable(inside.videos)
        left_out += broken
    else:
        assert found.root is not None
        left_out += _outside(rest, found.root, found.layout, labels)
        videos = []
        left_out += [LeftOut(file, f"videos beside {found.layout.name}") for file in inside.videos]
    if not found.pictures and not videos:
        raise InputError(f"The folder {path} holds no picture, and no video that can be read.")
    return TargetPart(path, found.pictures, videos, sorted(left_out))


def _readable(videos: Sequence[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Of the videos of a folder, those that can be opened."""
    good, broken = [], []
    for video in videos:
        try:
            check_video(video)
            good.append(video)
        except InputError:
            broken.append(LeftOut(video, "videos that cannot be read"))
    return good, broken


def _outside(rest: Sequence[Path], root: Path, layout: Layout, labels: set[Path]) -> list[LeftOut]:
    """Pictures below a data set that are none of its part: labels, other parts, and what is neither."""
    parts = {picture.path for picture in pictures_below(root, layout.images)}
    places = {root / kind.path.split("/")[0] for kind in layout.labels if not kind.path.startswith("{")}

    def why(file: Path) -> str:
        if file in labels or places & {*file.parents}:
            return LABELS
        return "of other parts" if file in parts else f"outside {layout.name}"

    return [LeftOut(file, why(file)) for file in rest]


def describe_target(parts: Sequence[TargetPart], frames: int) -> str:
    """One line: how many pictures, and frames of videos, are used, and how many files are not, and why."""
    pictures, videos = (
        sum(map(len, kind)) for kind in zip(*((p.pictures, p.videos) for p in parts), strict=True)
    )
    used = [_counted(pictures, "picture")] if pictures or not videos else []
    used += [f"{_counted(frames, 'frame')} of {_counted(videos, 'video')}"] if videos else []
    reasons: dict[str, list[str]] = {}
    for file, why in (left for part in parts for left in part.left_out):
        reasons.setdefault(why, []).append(file.name)
    line = f"used {' and '.join(used)}"
    if reasons:
        told = "; ".join(f"{len(names)} {why}: {_first(names)}" for why, names in reasons.items())
        line += f", left out {sum(map(len, reasons.values()))} ({told})"
    return line


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + " …" * (len(names) > _NAMED)
