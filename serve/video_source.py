"""Where a video comes from, a file, a stream or a webcam, and which part of it is wanted."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from serve.errors import InputError
from serve.runtime import cores

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WEBCAM = re.compile(r"/dev/video\d+")
_LIVE = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "rtp://", "udp://", "tcp://", "srt://")
_MICROSECOND = Fraction(1, 1_000_000)  # libav's unit for a whole container
_THREADS = 8  # of a decoder, at most: each holds a frame of its own, and few videos keep more busy
_PATIENCE = 15.0  # seconds to wait for an address to open, or to send more

Source = Path | str
"""A file, or the address of a stream or webcam: rtsp://camera/1, https://host/clip.mp4, /dev/video0."""


@dataclass(frozen=True)
class Selection:
    """Which part of a video is read, and how large."""

    start: Fraction = Fraction(0)
    """First second, counted from the video's own start."""
    end: Fraction | None = None
    """Frames that are shown from this second on are left out; None reads to the end."""
    every: int = 1
    """Read one frame out of so many; it is shown until the next one that is read."""
    max_size: int | None = None
    """Frames with a longer side than this are made smaller, in proportion."""
    max_pixels: int | None = None
    """Frames with more pixels than this, as they are stored, are not decoded, whatever the header says."""

    def count(self, listed: int, seconds: Fraction, rate: Fraction) -> int | None:
        """How many frames are read of a file that lists so many and lasts so long; None if unknown."""
        if self.start or self.end is not None:
            ends = [end for end in (self.end, seconds) if end]
            listed = round(max(min(ends) - self.start, Fraction(0)) * rate) if ends else 0
        return -(-(listed or round(seconds * rate)) // self.every) or None

    def frames_of(self, container: Any, stream: Any) -> int | None:
        """How many frames are read of a stream of an open container, as far as its file says."""
        seconds = (container.duration or 0) * _MICROSECOND
        return self.count(stream.frames, seconds, rate_of(stream))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that a frame of this width and height is read in."""
        longer = max(width, height)
        if self.max_size is None or longer <= self.max_size:
            return width, height
        return max(width * self.max_size // longer, 1), max(height * self.max_size // longer, 1)


def is_address(source: str) -> bool:
    """Is this a URL or a webcam, and no file to be looked for in folders?"""
    return bool(_ADDRESS.match(source) or _WEBCAM.fullmatch(source))


def is_live(source: Source) -> bool:
    """Does this source send frames in its own time, without an end known beforehand?"""
    return isinstance(source, str) and (source.startswith(_LIVE) or bool(_WEBCAM.fullmatch(source)))


def rate_of(stream: Any) -> Fraction:
    """Average frames per second of av's video stream."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def listed_frames(source: Source, selection: Selection) -> int:
    """How many frames will be read of a file, as far as it says; 0 if it does not, or of an address."""
    if isinstance(source, str):
        return 0
    try:
        with open_container(source) as container:
            return selection.frames_of(container, find_stream(container, source)) or 0
    except InputError:  # it will be said when its turn comes
        return 0


def decoder_threads() -> int:
    """How many threads decode a video."""
    return min(cores(), _THREADS)


def open_container(source: Source, max_pixels: int | None = None) -> Any:
    """av's container of `source`, in which no frame with more than `max_pixels` pixels is decoded.

    Raises:
        InputError: not a video, or nothing answers at the address.
    """
    path = str(source)
    network: dict[str, Any] = {"timeout": _PATIENCE} if isinstance(source, str) else {}
    if path.startswith(("rtsp://", "rtsps://")):
        network["options"] = {"rtsp_transport": "tcp"}  # over UDP, lost packets smear the picture
    elif isinstance(source, str) and _WEBCAM.fullmatch(path):
        network["format"] = "v4l2"
    if max_pixels is not None:
        network["options"] = network.get("options", {}) | {"max_pixels": str(max_pixels)}
    try:
        container = av.open(path, **network)
    except av.error.FFmpegError as error:
        if isinstance(source, str):
            raise InputError(
                f"{source} gives no video ({error.strerror}); check the address and that it is on."
            ) from error
        raise InputError(
            f"{source} can't be opened as a video, so it is something else, damaged or truncated "
            f"({error.strerror})."
        ) from error
    if container.format.name == "tty":  # libav plays plain text as terminal art
        raise InputError(f"{source} is a text file; give a video.")
    return container


def find_stream(container: Any, source: Source) -> Any:
    """The first video stream.

    Raises:
        InputError: there is none.
    """
    pictures = av.stream.Disposition.attached_pic  # the cover of a piece of music
    videos = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not videos:
        kinds = {"a cover picture" if s.type == "video" else s.type for s in container.streams}
        found = ", ".join(sorted(kinds)) or "no stream at all"
        raise InputError(f"{source} has no video stream (it has {found}); give a video.")
    return videos[0]
