"""A layout as a pair of path patterns below a root folder, and the pictures that fit one.

In a picture's path {field} stands for any name, and {field:this|that} for one of these; the path of its
label file follows by filling the same fields in. Pictures may have any image suffix, so their patterns leave
it out.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapt.data.classes import ClassList
from adapt.data.images import read_labels
from serve.media.files import PICTURE_SUFFIXES

_FIELD = re.compile(r"\{(\w+)(?::([^}]*))?\}")


@dataclass(frozen=True)
class LabelFiles:
    """One kind of label files.

    path: pattern.  classes: what comes with them, if it is always the same.
    read: the values in one.  drawn: their values are ours, so that only names tell what is meant.
    """

    path: str
    classes: ClassList | None = None
    read: Callable[[Path], np.ndarray] = read_labels
    drawn: bool = False


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out.

    images: pattern of the pictures, without suffix.
    labels: the kinds of label files, the preferred one first.
    folder: what the download unpacks to; the root may also be the folder that holds it.
    usual: (field, value) of what is taken unless a path chooses otherwise, besides the split.
    exact: label files without a picture are an error too.
    mark: a glob pattern below the root that tells the layout, where the pictures alone do not.
    advice: what to do where there are no labels.
    """

    name: str
    images: str
    labels: tuple[LabelFiles, ...] = ()
    folder: str = ""
    usual: tuple[tuple[str, str], ...] = ()
    exact: bool = False
    mark: str = ""
    advice: str = "get the labels, or use the pictures as an unlabelled --target"


class Labelled(NamedTuple):
    """Pictures and their label files, in the same order, and how to read these."""

    root: Path
    layout: Layout
    images: list[Path]
    labels: list[Path]
    kind: LabelFiles
    note: str = ""
    """What a person should know of how they were found."""

    @property
    def pattern(self) -> str:
        """Where the label files are, for messages: labels/*.png."""
        return f"{self.root.name}/{re.sub(r'{[^}]*}', '*', self.kind.path)}"


class Picture(NamedTuple):
    """A picture, and what the fields of its layout's pattern are in its path."""

    path: Path
    fields: dict[str, str]


def pictures_below(root: Path, pattern: str) -> list[Picture]:
    """All pictures below the root that fit the pattern, in order of their paths."""
    fits = re.compile(_regular_expression(pattern))
    found = []
    for glob in _globs(pattern):
        for path in root.glob(f"{glob}.*"):
            match = fits.fullmatch(path.relative_to(root).with_suffix("").as_posix())
            if match is not None and path.suffix.lower() in PICTURE_SUFFIXES:
                found.append(Picture(path, match.groupdict()))
    return sorted(found)


def _regular_expression(pattern: str) -> str:
    literal, *rest = _FIELD.split(pattern)
    parts = [re.escape(literal)]
    for name, values, literal in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        parts += [f"(?P<{name}>{values or '[^./][^/]*'})", re.escape(literal)]
    return "".join(parts)


def _globs(pattern: str) -> Iterator[str]:
    """Shell patterns that together find what the pattern means, without looking into any other folder."""
    literal, *rest = _FIELD.split(pattern)
    choices = [[literal]]
    for values, literal in zip(rest[1::3], rest[2::3], strict=True):
        choices += [values.split("|") if values else ["*"], [literal]]
    return map("".join, itertools.product(*choices))


def fill(pattern: str, fields: Mapping[str, str]) -> str:
    """The pattern with its fields filled in."""
    return _FIELD.sub(lambda field: fields[field[1]], pattern)


def level_of(field: str, pattern: str) -> int:
    """Which part of the path decides the field, counted from 0; -1 if the pattern has no such field."""
    parts = pattern.split("/")
    return next((i for i, part in enumerate(parts) if part.startswith("{" + field)), -1)
