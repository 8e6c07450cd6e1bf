"""Decodes a video: upright RGB frames with their exact times, and the packets of its audio."""

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Self

import av
import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError

_MICROSECOND = Fraction(1, 1_000_000)  # libav's unit for a whole container
_CUT_OFF = 1.0  # seconds that may be missing at the end before a video counts as truncated
_UNKNOWN_COLORSPACE = 2
_HD_HEIGHT = 720


class Frame(NamedTuple):
    """One picture of a video."""

    pixels: NDArray[np.uint8]
    """uint8 [H, W, 3] RGB, upright."""
    pts: int
    """When it is shown, in `VideoReader.time_base` from the start of the video."""
    duration: int
    """How long it is shown in the same unit; 0 if the file does not say."""


class Orientation(NamedTuple):
    """How to turn a stored picture upright: transpose first, then flip."""

    transpose: bool
    flip_x: bool
    flip_y: bool

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        return np.ascontiguousarray(pixels[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


class VideoReader:
    """A video file, opened, checked, and decoded up to its first frame.

    Attributes:
        size: height and width of the upright frames, in pixels.
        time_base: seconds per unit of `Frame.pts`.
        rate: average frames per second.
        frames: how many frames there will be, as far as the file says; None if it does not.
        sample_aspect_ratio: width over height of one upright pixel.
        audio: the audio streams; `items` yields their packets, shifted to the same start as the frames.
        other_streams: kinds of streams that are left out (subtitles, data).
    """

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            InputError: not a video, no video stream, no frame, or a file shorter than its index says.
        """
        self.path = path
        self._container = self._open()
        try:
            self._stream = self._find_stream()
            self._read_header()
            self._items = self._demux()
            self._head = self._up_to_first_frame()
        except BaseException:
            self._container.close()
            raise
        self.size: tuple[int, int] = self._head[-1].pixels.shape[:2]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def items(self) -> Generator[Any]:
        """Frames and audio packets (av.Packet) in the order of the file, to be read once.

        Raises:
            InputError: a frame that can't be decoded, or a file that ends before its header says.
        """
        yield from self._head
        self._head.clear()
        yield from self._items

    def _open(self) -> Any:
        try:
            container = av.open(str(self.path))
        except av.error.FFmpegError as error:
            raise InputError(
                f"{self.path} can't be opened as a video, so it is something else, damaged or truncated "
                f"({error.strerror})."
            ) from error
        if container.format.name == "tty":  # libav plays plain text as terminal art
            raise InputError(f"{self.path} is a text file; give a video.")
        return container

    def _find_stream(self) -> Any:
        streams = self._container.streams
        pictures = av.stream.Disposition.attached_pic  # the cover of a piece of music
        videos = [stream for stream in streams.video if not stream.disposition & pictures]
        if not videos:
            kinds = {"a cover picture" if stream.type == "video" else stream.type for stream in streams}
            found = ", ".join(sorted(kinds)) or "no stream at all"
            raise InputError(f"{self.path} has no video stream (it has {found}); give a video.")
        videos[0].thread_type = "AUTO"
        return videos[0]

    def _read_header(self) -> None:
        stream = self._stream
        ends = (entry.pos + entry.size for entry in stream.index_entries)
        if max(ends, default=0) > self.path.stat().st_size:
            raise InputError(
                f"{self.path} is truncated: its index lists frames beyond its end; copy it again."
            )
        self.time_base: Fraction = stream.time_base
        self.rate: Fraction = stream.average_rate or stream.guessed_rate or Fraction(25)
        seconds = (self._container.duration or 0) * _MICROSECOND
        self.frames: int | None = stream.frames or round(seconds * self.rate) or None
        self.audio = list(self._container.streams.audio)
        known = {id(s) for s in (stream, *self.audio)}
        self.other_streams = sorted({s.type for s in self._container.streams if id(s) not in known})
        self._start = (self._container.start_time or 0) * _MICROSECOND
        self._orientation: Orientation | None = None

    def _up_to_first_frame(self) -> list[Any]:
        head = []
        for item in self._items:
            head.append(item)
            if isinstance(item, Frame):
                return head
        raise InputError(f"{self.path} has a video stream but no frame that can be decoded.")

    def _demux(self) -> Generator[Any]:
        end = Fraction(0)
        previous = -1
        try:
            for packet in self._container.demux():
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base - self._start)
                if packet.stream is self._stream:
                    for decoded in packet.decode():
                        frame = self._frame(decoded, previous)
                        previous = frame.pts
                        yield frame
                elif packet.stream in self.audio and packet.dts is not None:
                    yield self._shifted(packet)
        except av.error.FFmpegError as error:
            raise InputError(
                f"{self.path} can't be decoded beyond {float(end):.1f} s, it is damaged or truncated "
                f"({error.strerror}); copy it again."
            ) from error
        missing = (self._container.duration or 0) * _MICROSECOND - end
        if missing > _CUT_OFF:
            raise InputError(
                f"{self.path} is truncated: its last {float(missing):.1f} s are missing; copy it again."
            )

    def _frame(self, decoded: Any, previous: int) -> Frame:
        if self._orientation is None:
            self._orientation = _orientation(decoded)
            ratio = self._stream.sample_aspect_ratio or Fraction(1)
            self.sample_aspect_ratio = 1 / ratio if self._orientation.transpose else ratio
            self._stored = (decoded.width, decoded.height)
        untagged_hd = decoded.colorspace == _UNKNOWN_COLORSPACE and decoded.height >= _HD_HEIGHT
        rgb = decoded.to_ndarray(
            format="rgb24",
            width=self._stored[0],  # a stream may change its size midway; the output can't
            height=self._stored[1],
            src_colorspace="ITU709" if untagged_hd else None,  # what players assume, unlike libav
        )
        return Frame(self._orientation.apply(rgb), self._time(decoded.pts, previous), decoded.duration or 0)

    def _time(self, pts: int | None, previous: int) -> int:
        """Start at zero, as a player does; a frame without a time, or going back, follows the previous."""
        if pts is None:
            step = round(1 / self.rate / self.time_base) or 1
            return 0 if previous < 0 else previous + step
        return max(pts - round(self._start / self.time_base), previous + 1)

    def _shifted(self, packet: Any) -> Any:
        offset = round(self._start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - offset
        packet.dts -= offset
        return packet


def _orientation(decoded: Any) -> Orientation:
    """From the display matrix [[a, b, u], [c, d, v], ...]: shown x = a x + c y, shown y = b x + d y."""
    side_data = decoded.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return Orientation(False, False, False)
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(side_data), np.int32)[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(False, flip_x=a < 0, flip_y=d < 0)
