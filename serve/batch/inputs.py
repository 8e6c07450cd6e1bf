"""Which videos a batch consists of, and where their outputs go."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from glob import glob
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from serve.errors import InputError
from serve.media.files import VIDEO_SUFFIXES, find_files, in_folder, say_left_out
from serve.media.series import FRAME_SUFFIXES, FrameSeries, in_order, matching
from serve.media.video.source import Source, is_address, to_address
from serve.video.outputs import OUTPUTS


class _Files(NamedTuple):
    """What an input stands for."""

    videos: list[str]
    frames: list[Path]
    others: list[Path]
    """What a folder holds besides."""
    passed: Sequence[Path] = ()
    """What might be frames, but lies beside videos."""


def find_videos(
    inputs: Iterable[str],
    listed: Iterable[str] = (),
    rate: Fraction | None = None,
    say: Callable[[str], object] = lambda _: None,
    leave: Callable[[Path], object] = lambda _: None,
) -> list[Source]:
    """Files, folders, glob patterns and addresses; "-" stands for the lines of `listed`.

    Pictures are the frames of a video, one for each folder that they lie in: those that are named or match a
    pattern (frames/*.png, frames/%06d.png), and those of a folder that has no videos, or of its subfolders if
    it has no pictures either.

    Args:
        rate: frames per second of pictures; None is a default.
        say: is told in a sentence why pictures that an input holds are passed over.
        leave: is told each file and folder that an input holds and is passed over.

    Raises:
        InputError: see find_files and serve.media.series.in_order; an empty list; or a rate without pictures.
    """
    given: list[str] = []
    for each in inputs:
        lines = [line.strip() for line in listed] if each == "-" else [each]
        given += [to_address(line) for line in lines if line]
    if not given:
        raise InputError("the list of videos on standard input is empty; give one file per line.")
    videos: list[str] = []
    folders: dict[Path, dict[Path, None]] = {}  # dicts keep the order and drop repetitions
    others: list[Path] = []
    passed: list[Path] = []
    for each in given:
        if is_address(each):
            continue
        found = _look(each, say)
        others += found.others
        passed += found.passed
        videos += found.videos if found.videos or found.frames else [each]
        for file in found.frames:
            folders.setdefault(file.parent, {})[file] = None
    series = [in_order(files, rate) for files in folders.values()]
    if rate is not None and not series:
        raise InputError("--fps is for numbered pictures, and no input holds any; leave it out.")
    say_left_out(others)
    files = find_files(videos, VIDEO_SUFFIXES, "video")
    for path in dict.fromkeys(others + passed):
        leave(path)
    addresses = dict.fromkeys(each for each in given if is_address(each))
    sources: list[Source] = [*files, *series, *addresses]
    stems: dict[str, Source] = {}
    for source in sources:
        other = stems.setdefault(stem(source), source)
        if other != source:
            raise InputError(f"{other} and {source} would both be written as {stem(source)}; do one by one.")
    return sources


def _look(given: str, say: Callable[[str], object]) -> _Files:
    path = Path(given)
    if path.is_dir():
        found = _folder(path)
        if not found.videos and not found.frames:
            found = _below(path, say)
    elif path.exists():
        found = _sorted_out([path])
    elif (numbered := matching(path)) is not None:
        found = _Files([], numbered, [])
    else:
        files = sorted(map(Path, glob(given, recursive=True)))  # noqa: PTH207
        found = _sorted_out(
            (file for file in files if file.is_file()), [file for file in files if not file.is_file()]
        )
    if found.videos and found.frames:
        say(f"{given} holds videos, so its {len(found.frames)} picture(s) are passed over.")
        return found._replace(frames=[], passed=found.frames)
    return found


def _below(path: Path, say: Callable[[str], object]) -> _Files:
    """The pictures in the folders right inside of `path`."""
    _, others = in_folder(path, set())
    folders = {folder: _folder(folder) for folder in others if folder.is_dir()}
    frames = [file for found in folders.values() if not found.videos for file in found.frames]
    with_videos = [folder.name for folder, found in folders.items() if found.videos]
    if frames and with_videos:
        say(f"{path} holds folders of pictures; those with videos are passed over: {', '.join(with_videos)}.")
    others = [other for other in others if other not in folders or not _is_shown(folders[other])]
    others += [other for found in folders.values() if found.frames for other in found.others]
    passed = [folder for folder, found in folders.items() if found.videos]
    return _Files([], frames, others, passed) if frames else _Files([], [], [])


def _is_shown(found: _Files) -> bool:
    return bool(found.frames or found.videos)


def _folder(folder: Path) -> _Files:
    return _sorted_out(*in_folder(folder, VIDEO_SUFFIXES | FRAME_SUFFIXES))


def _sorted_out(files: Iterable[Path], others: Iterable[Path] = ()) -> _Files:
    found = _Files([], [], list(others))
    for file in files:
        if file.suffix.lower() in FRAME_SUFFIXES:
            found.frames.append(file)
        else:
            found.videos.append(str(file))
    return found


def stem(source: Source) -> str:
    """What the outputs of a source are called: a file's stem, the folder of frames, or an address's host and
    path."""
    if isinstance(source, FrameSeries):
        return source.name
    if isinstance(source, Path):
        return source.stem
    parts = urlsplit(source)
    words = f"{parts.hostname or ''} {parts.port or ''} {parts.path}"  # not the user's name and password
    return "-".join("".join(c if c.isalnum() or c in "._" else " " for c in words).split())


def target_of(source: Source, folder: Path, output: str) -> Path:
    """The output of `source` in `folder`."""
    return folder / (stem(source) + OUTPUTS[output].suffix)
