"""Where a video comes from, a file, a stream or a webcam, and which part of it is wanted."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from serve.cores import cores
from serve.errors import InputError
from serve.media.series import DEFAULT_RATE, FrameSeries

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WEBCAM = re.compile(r"/dev/video\d+")
_NUMBER = re.compile(r"[0-9]{1,3}")
_LIVE = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "rtp://", "udp://", "tcp://", "srt://")
MICROSECOND = Fraction(1, 1_000_000)  # libav's unit for a whole container
_THREADS = 8  # of a decoder, at most: each holds a frame of its own, and few videos keep more busy
_PATIENCE = 15.0  # seconds to wait for an address to open, or to send more

Source = Path | str | FrameSeries
"""A file, numbered pictures, or the address of a stream or webcam: rtsp://camera/1, https://host/clip.mp4,
/dev/video0."""


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
    moments: tuple[Fraction, ...] | None = None
    """Seconds after the start of the video, in order: only the frames that are shown then are read."""

    def count(self, listed: int, seconds: Fraction, rate: Fraction) -> int | None:
        """How many frames are read of a file that lists so many and lasts so long; None if unknown."""
        if self.start or self.end is not None:
            ends = [end for end in (self.end, seconds) if end]
            listed = round(max(min(ends) - self.start, Fraction(0)) * rate) if ends else 0
        return -(-(listed or round(seconds * rate)) // self.every) or None

    def holds(self, seconds: Fraction) -> bool:
        """Is what is shown so many seconds after the video's start in the part?"""
        return self.start <= seconds and (self.end is None or seconds < self.end)

    def takes(self, number: int, since: Fraction, until: Fraction) -> bool:
        """Is a frame of the part read, its number counted from 0, that is the first to be shown after `since`
        and ends at `until`?"""
        if self.moments is not None and bisect_left(self.moments, since) == bisect_left(self.moments, until):
            return False
        return number % self.every == 0

    def frames_of(self, container: Any, stream: Any) -> int | None:
        """How many frames are read of a stream of an open container, as far as its file says."""
        return self.count(stream.frames, length_of(container), rate_of(stream))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that a frame of this width and height is read in."""
        longer = max(width, height)
        if self.max_size is None or longer <= self.max_size:
            return width, height
        return max(width * self.max_size // longer, 1), max(height * self.max_size // longer, 1)


def is_address(source: str) -> bool:
    """Is this a URL or a webcam, and no file to be looked for in folders?"""
    return bool(_ADDRESS.match(source) or _WEBCAM.fullmatch(source))


def to_address(source: str) -> str:
    """Write webcam N, which is short for /dev/videoN, in full; anything else stays as it is."""
    is_number = _NUMBER.fullmatch(source) and not Path(source).exists()
    return f"/dev/video{int(source)}" if is_number else source


def is_live(source: Source, container: Any) -> bool:
    """Does this source, open as av's container, send frames in its own time, its end unknown?"""
    if not isinstance(source, str):
        return False
    endless = container.duration is None and container.size <= 0  # as a camera's pages over http are
    return endless or source.startswith(_LIVE) or bool(_WEBCAM.fullmatch(source))


def reason(error: Any) -> str:
    """What av's error says, in words for a person."""
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {_PATIENCE:.0f} s"
    return error.strerror or str(error)


def resets(container: Any) -> bool:
    """Is this a format whose clock may be set anew midway, as those of MPEG streams?"""
    return bool(container.format.flags & av.format.Flags.ts_discont.value)


def length_of(container: Any) -> Fraction:
    """Seconds from the first time of av's container to its last, as far as it says; 0 if it does not."""
    length = Fraction(container.duration or 0)
    if container.format.name.startswith("matroska"):  # which counts from zero on, wherever the first one is
        length = max(length - (container.start_time or 0), Fraction(0))
    return length * MICROSECOND


def rate_of(stream: Any) -> Fraction:
    """Average frames per second of av's video stream."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def listed_frames(source: Source, selection: Selection) -> int:
    """How many frames will be read of a file, as far as it says; 0 if it does not, or of an address."""
    if isinstance(source, str):
        return 0
    if isinstance(source, FrameSeries):
        rate = source.rate or DEFAULT_RATE
        return selection.count(len(source.files), len(source.files) / rate, rate) or 0
    try:
        with open_container(source) as container:
            return selection.frames_of(container, find_stream(container, source)) or 0
    except InputError:  # it will be said when its turn comes
        return 0


def state(source: Source) -> object:
    """What shows that a file was altered; None for an address, or a file that is not there."""
    if isinstance(source, FrameSeries):
        return source.state()
    if isinstance(source, str) or not source.is_file():
        return None
    found = source.stat()
    return found.st_size, found.st_mtime_ns


def decoder_threads() -> int:
    """How many threads decode a video."""
    return min(cores(), _THREADS)


def prepare_decoder(stream: Any, max_pixels: int | None) -> None:
    """Let the decoder of av's stream use several threads, and refuse frames with more pixels."""
    decoder = stream.codec_context
    decoder.thread_type, decoder.thread_count = "AUTO", decoder_threads()
    if max_pixels is not None:
        decoder.options = {"max_pixels": str(max_pixels)}


def decode(packet: Any, max_pixels: int | None) -> list[Any]:
    """The frames that come out of the decoder after av's packet.

    Raises:
        InputError: a frame has more than `max_pixels`, see `prepare_decoder`.
        av.error.FFmpegError: the packet, or one before it, can't be decoded.
    """
    try:
        return list(packet.decode())
    except av.error.FFmpegError as error:
        if max_pixels is None:
            raise
        decoder = packet.stream.codec_context
        # Some decoders have no size any more after one that was refused.
        if 0 < decoder.coded_width * decoder.coded_height <= max_pixels:
            raise
        raise InputError(
            f"{packet.stream.container.name} has frames that are larger than its header says; convert it."
        ) from error


def open_container(source: Source, formats: str | None = None, max_pixels: int | None = None) -> Any:
    """av's container of `source`.

    Args:
        formats: libav's names of the formats that a file of unknown origin may be read as, with commas
            between; no other file is opened then, whatever it names. None is any.
        max_pixels: no frame with more pixels is decoded; None is no limit.

    Raises:
        InputError: not a video, or nothing answers at the address.
    """
    path = str(source)
    how: dict[str, Any] = {"timeout": _PATIENCE} if isinstance(source, str) else {}
    if path.startswith(("rtsp://", "rtsps://")):
        how["options"] = {"rtsp_transport": "tcp"}  # over UDP, lost packets smear the picture
    elif isinstance(source, str) and _WEBCAM.fullmatch(path):
        _require_webcam(path)
        how["format"] = "v4l2"
    if formats is not None:
        how["options"] = {"format_whitelist": formats, "protocol_whitelist": "file"}
    if max_pixels is not None:
        how["options"] = how.get("options", {}) | {"max_pixels": str(max_pixels)}
    try:
        container = av.open(path, **how)
    except av.error.FFmpegError as error:
        if isinstance(source, str):
            raise InputError(
                f"{source} gives no video ({reason(error)}); check the address and that it is on."
            ) from error
        raise InputError(
            f"{source} can't be opened as a video, so it is something else, damaged or truncated "
            f"({error.strerror})."
        ) from error
    if container.format.name == "tty":  # libav plays plain text as terminal art
        raise InputError(f"{source} is a text file; give a video.")
    return container


def _require_webcam(path: str) -> None:
    if not Path(path).exists():
        found = ", ".join(sorted(map(str, Path("/dev").glob("video[0-9]*")))) or "none"
        raise InputError(f"{path} is not there, so no such webcam is connected (found: {found}).")


def find_stream(container: Any, source: Source) -> Any:
    """The first video stream.

    Raises:
        InputError: there is none, or none that can be decoded.
    """
    pictures = av.stream.Disposition.attached_pic  # the cover of a piece of music
    videos = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not videos:
        kinds = {"a cover picture" if s.type == "video" else s.type for s in container.streams}
        found = ", ".join(sorted(kinds)) or "no stream at all"
        raise InputError(f"{source} has no video stream (it has {found}); give a video.")
    if videos[0].codec_context is None:
        raise InputError(
            f"{source} has a video stream of an unknown codec, or it is damaged or truncated; convert it."
        )
    return videos[0]
