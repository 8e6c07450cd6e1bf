"""Input files by name, folder or pattern; output files that may be written, and none overwritten unasked."""

import os
from collections.abc import Iterable, Sequence, Set
from glob import glob
from pathlib import Path

import click

from serve.errors import InputError
from serve.media.partial import sweep

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif", ".gif"}
    | {".heic", ".heif", ".hif"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"}
    | {".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".h264", ".hevc"}
)
"""What counts as a picture or a video in a folder. A file that is named is tried whatever its name."""
_NAMED = 3  # of what is left out


def find_files(
    inputs: Sequence[str], suffixes: Set[str], kind: str, *, same_stems: bool = False
) -> list[Path]:
    """Files, folders (the files right inside with one of `suffixes`, in order of name) and glob patterns.

    What else a folder holds, and folders that a pattern matches, are counted and named on standard error;
    hidden files are no part of a folder. `kind` says what the files are, for the error messages: "picture" or
    "video". `same_stems`: take X.jpg and X.png both; whoever writes their results tells them apart.

    Raises:
        InputError: an input that does not exist or matches nothing, or two files with the same stem, whose
            results would overwrite each other.
    """
    found: dict[Path, None] = {}  # a dict keeps the order and drops repetitions
    others: list[Path] = []
    for given in inputs:
        matches, more = _matches(given, suffixes)
        if not matches:
            instead = f", only {kinds_and_names(more)}" if more else ""
            raise InputError(
                f"{given} holds no {kind}{instead}; give {kind} files, a folder of them or a quoted pattern."
            )
        found.update(dict.fromkeys(matches))
        others += more
    say_left_out(path for path in others if path not in found)
    stems: dict[str, Path] = {}
    for path in () if same_stems else found:
        other = stems.setdefault(path.stem, path)
        if other != path:
            raise InputError(
                f"{other} and {path} would both be written as {path.stem}; segment them into two folders."
            )
    return list(found)


def _matches(given: str, suffixes: Set[str]) -> tuple[list[Path], list[Path]]:
    """The files that are meant by `given`, and what else is there, both in order of name."""
    path = Path(given)
    if path.is_dir():
        return in_folder(path, suffixes)
    if path.exists():
        return [path], []
    matches = sorted(map(Path, glob(given, recursive=True)))  # noqa: PTH207
    return [p for p in matches if p.is_file()], [p for p in matches if not p.is_file()]


def in_folder(folder: Path, suffixes: Set[str]) -> tuple[list[Path], list[Path]]:
    """Files right inside with one of `suffixes`, and the rest; both in order of name, without hidden ones."""
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in inside if path.suffix.lower() in suffixes and path.is_file()]
    return files, sorted({*inside} - {*files})


def say_left_out(others: Iterable[Path]) -> None:
    """One line on standard error that counts these files and folders and names the first; none for none."""
    if left := list(dict.fromkeys(others)):
        click.echo(f"Left out {kinds_and_names(left)}", err=True)


def kinds_and_names(others: Sequence[Path]) -> str:
    """3 files of other kinds and 1 folder: a.txt, b.psd, sub/ …"""
    folders = sum(path.is_dir() for path in others)
    files = len(others) - folders
    kinds = [f"{files} file{'s' * (files > 1)} of other kinds"] * (files > 0)
    kinds += [f"{folders} folder{'s' * (folders > 1)}"] * (folders > 0)
    names = [path.name + "/" * path.is_dir() for path in others]
    more = " …" if len(names) > _NAMED else ""
    return f"{' and '.join(kinds)}: {', '.join(names[:_NAMED])}{more}"


def check_outputs(targets: Iterable[Path], force: bool, *, folders: bool = False) -> None:
    """Check, before any work, that every output can be written and none overwrites what nobody offered.

    What killed processes left unfinished in their folders is removed. Targets are files, or with `folders`,
    folders that are replaced whole.

    Raises:
        InputError: a target exists and `force` is not set, a target is a folder where it must be a file or
            the reverse, or its folder is none or can't be written to.
    """
    targets = list(targets)
    for folder in {target.parent for target in targets}:
        _refuse_unwritable(folder)
        sweep(folder)
    existing = [target for target in targets if target.exists()]
    for target in existing:
        if target.is_dir() != folders:
            there, wanted = ("a file", "a folder") if folders else ("a folder", "a file")
            raise InputError(
                f"{target} is {there}, but {wanted} is to be written there; choose another name."
            )
    if existing and not force:
        more = f" and {len(existing) - 1} more exist" if len(existing) > 1 else " exists"
        raise InputError(f"{existing[0]}{more}; choose another output or pass --force to overwrite.")


def _refuse_unwritable(folder: Path) -> None:
    """The folder itself, or the one that it will be made in."""
    ground = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not ground.is_dir():
        raise InputError(f"{ground} is a file, so nothing can be written below it; choose another output.")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise InputError(f"{ground} can't be written to; choose another output or change its permissions.")
