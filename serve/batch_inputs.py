"""Which videos a batch consists of, and where their outputs go."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from serve.errors import InputError
from serve.files import find_files
from serve.video_settings import SUFFIXES, Output
from serve.video_source import Source, is_address

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"}
    | {".wmv", ".flv", ".3gp", ".ogv", ".mxf", ".h264", ".hevc"}
)
"""What counts as a video in a folder. A file that is named is tried whatever its name."""


def find_videos(inputs: Iterable[str], listed: Iterable[str] = ()) -> list[Source]:
    """Files, folders, glob patterns and addresses; "-" stands for the lines of `listed`.

    Raises:
        InputError: see find_files; or an empty list.
    """
    given: list[str] = []
    for each in inputs:
        lines = [line.strip() for line in listed] if each == "-" else [each]
        given += [line for line in lines if line]
    if not given:
        raise InputError("the list of videos on standard input is empty; give one file per line.")
    addresses = list(dict.fromkeys(each for each in given if is_address(each)))
    files = find_files([each for each in given if not is_address(each)], VIDEO_SUFFIXES, "video")
    stems: dict[str, Source] = {}
    found: list[Source] = [*files, *addresses]
    for source in found:
        other = stems.setdefault(stem(source), source)
        if other != source:
            raise InputError(f"{other} and {source} would both be written as {stem(source)}; do one by one.")
    return found


def stem(source: Source) -> str:
    """What the outputs of a source are called: a file's stem, or host and path of an address."""
    if isinstance(source, Path):
        return source.stem
    parts = urlsplit(source)
    words = f"{parts.hostname or ''} {parts.port or ''} {parts.path}"  # not the user's name and password
    return "-".join("".join(c if c.isalnum() or c in "._" else " " for c in words).split())


def target_of(source: Source, folder: Path, output: Output) -> Path:
    """The output of `source` in `folder`."""
    return folder / (stem(source) + SUFFIXES[output])
