"""Reads the pictures of a series as the frames of a video."""

from collections.abc import Generator, Sequence
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any, Self

import av
import cv2

from serve.errors import InputError
from serve.media.images import Image, read_image
from serve.media.progress import Bar
from serve.media.series import DEFAULT_RATE, FrameSeries
from serve.media.structure import PNG_SIGNATURE
from serve.media.video.damage import Damage
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection, Source

_NAMED = 3
"""Unreadable pictures that are named; the others are counted."""


class SeriesReader:
    """The frames of a series; see VideoReader, whose attributes it has."""

    live = False
    ended = ""
    sample_aspect_ratio = Fraction(1)
    audio: Sequence[Any] = ()
    other_streams: Sequence[str] = ()

    def __init__(self, series: FrameSeries, selection: Selection) -> None:
        """Look at the sizes of all pictures of the selection, and read the first one.

        Raises:
            InputError: no picture in the selection, none that can be decoded, or one of another size.
        """
        self.path = series
        rate = series.rate or DEFAULT_RATE
        self.time_base = 1 / rate
        self.rate = rate / selection.every
        self._selection = selection
        wanted = [
            (f, p) for f, p in zip(series.files, series.places, strict=True) if selection.holds(p / rate)
        ]
        if not wanted:
            raise InputError(f"{series} has no frame in the part asked for; it ends before.")
        self._wanted = wanted[:: selection.every]
        self.frames = len(self._wanted)
        self._unreadable: list[Path] = []
        self._size: tuple[int, int] | None = None
        _refuse_other_sizes([file for file, _ in self._wanted])
        self._items = self._read()
        try:
            self._first = next(self._items)
        except StopIteration:
            raise InputError(f"{series} has no picture that can be decoded, of {self.frames}.") from None
        self.size = self._first.pixels.shape[:2]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open between two pictures."""

    @property
    def damage(self) -> Damage:
        """Pictures that could not be decoded so far."""
        return Damage(len(self._unreadable))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What else is to be said."""
        said = []
        if self.path.rate is None:
            said.append(f"{DEFAULT_RATE} frames per second, as --fps was not given")
        if missing := self.path.missing:
            first, last = self.path.files[0].name, self.path.files[-1].name
            said.append(f"{missing} numbers between {first} and {last} are missing; the frame before stays")
        if self._unreadable:
            named = ", ".join(file.name for file in self._unreadable[:_NAMED])
            more = len(self._unreadable) - _NAMED
            said.append(f"unreadable: {named}{f' and {more} more' if more > 0 else ''}")
        return tuple(said)

    def items(self) -> Generator[Frame]:
        """The frames, to be read once.

        Raises:
            InputError: a picture of another size than the first one.
        """
        yield self._first
        yield from self._items

    def _read(self) -> Generator[Frame]:
        begin = floor(self._selection.start / self.time_base)
        for file, place in self._wanted:
            try:
                pixels = read_image(file)
            except InputError:
                self._unreadable.append(file)
                continue
            self._size = self._size or pixels.shape[:2]
            if pixels.shape[:2] != self._size:
                raise _other_size(file, pixels.shape[:2], self._size)
            yield Frame(self._shrunk(pixels), place - begin, self._selection.every)

    def _shrunk(self, pixels: Image) -> Image:
        height, width = pixels.shape[:2]
        size = self._selection.size(width, height)
        return pixels if size == (width, height) else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


Reader = VideoReader | SeriesReader


def open_reader(source: Source, selection: Selection, formats: str | None = None) -> Reader:
    """Whichever reads the source; with the errors of both."""
    if isinstance(source, FrameSeries):
        return SeriesReader(source, selection)
    return VideoReader(source, selection, formats=formats)


def _refuse_other_sizes(files: Sequence[Path]) -> None:
    """Before any work: look at what the pictures say of themselves.

    Sides are compared without their order, as a picture may say that it is to be turned.
    """
    first: tuple[int, int] | None = None
    for file in Bar(files, unit="picture", desc="sizes", mininterval=0.5, leave=False, delay=2):
        size = _size_in_header(file)
        first = first or size
        if first and size and sorted(size) != sorted(first):
            raise _other_size(file, size, first)


def _size_in_header(file: Path) -> tuple[int, int] | None:
    """Height and width; None where they can't be found without decoding all."""
    try:
        with file.open("rb") as opened:
            head = opened.read(24)
        if head.startswith(PNG_SIGNATURE):  # which libav would decode as a whole
            return int.from_bytes(head[20:24]), int.from_bytes(head[16:20])
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            return (stream.height, stream.width) if stream.height else None
    except (OSError, av.error.FFmpegError, IndexError):
        return None


def _other_size(file: Path, size: tuple[int, ...], first: tuple[int, ...]) -> InputError:
    return InputError(
        f"{file} is {size[1]}x{size[0]}, but the frames before it are {first[1]}x{first[0]}; give a quoted "
        "pattern for the frames of one video."
    )
