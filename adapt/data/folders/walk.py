"""All files in a folder and the folders in it, by what they are."""

import os
from pathlib import Path
from typing import NamedTuple

from serve.media.files import PICTURE_SUFFIXES, VIDEO_SUFFIXES

_NO_CONTENT = {"__MACOSX", "Thumbs.db", "desktop.ini"}
"""What systems put into archives and folders."""


class Inside(NamedTuple):
    """Files below a folder, each kind in order of their paths; hidden ones and folders left out."""

    pictures: list[Path]
    videos: list[Path]
    others: list[Path]


def walk(root: Path) -> Inside:
    """Look through a folder. A link to a folder counts as the folder, but each folder is entered once."""
    inside = Inside([], [], [])
    entered: set[str] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = [name for name in folders if is_content(name)]
        for name in filter(is_content, names):
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a hundred thousand names)
            kind = inside.pictures if suffix in PICTURE_SUFFIXES else inside.others
            (inside.videos if suffix in VIDEO_SUFFIXES else kind).append(Path(place, name))
    for files in inside:
        files.sort()
    return inside


def is_content(name: str) -> bool:
    """Whether people put it there: neither hidden nor a leftover of their system."""
    return not name.startswith(".") and name not in _NO_CONTENT
