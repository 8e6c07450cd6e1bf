"""Decodes a video: upright 8-bit RGB frames with their exact times, and the packets of its audio."""

from collections.abc import Generator
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any, NamedTuple, Self

import av
import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.media.video.avi import AviTimes
from serve.media.video.damage import Damage, DamageCount
from serve.media.video.demux import Demuxer
from serve.media.video.pixels import Orientation, orientation, to_rgb
from serve.media.video.source import (
    MICROSECOND,
    Selection,
    Source,
    decode,
    find_stream,
    is_live,
    open_container,
    prepare_decoder,
    rate_of,
    reason,
    resets,
)

_LEADS = (0, 10, None)  # a key frame may be listed at a wrong place, a group too late
_EVERYTHING = Selection()


class Frame(NamedTuple):
    """One picture of a video."""

    pixels: NDArray[np.uint8]
    """uint8 [H, W, 3] RGB, upright."""
    pts: int
    """When it is shown, in `VideoReader.time_base` from the start of the selection."""
    duration: int
    """How long it is shown in the same unit; 0 if the file does not say."""


class VideoReader:
    """A video, opened, checked, and decoded up to its first frame.

    What can't be decoded is left out and counted; where the file's times jump, they go on (`RunningTime`).

    Attributes:
        live: whether the source is a camera or stream, which ends when it ends (`ended` says why).
        size: height and width of the upright frames as they are read, in pixels.
        time_base: seconds per unit of `Frame.pts`.
        rate: average frames per second, of those that are read.
        frames: how many frames there will be, as far as the file says, more exact after a jump of its times;
            None if it does not.
        sample_aspect_ratio: width over height of one upright pixel.
        audio: the audio streams; `items` yields their packets, shifted to the same start as the frames.
        other_streams: kinds of streams that are left out (subtitles, data).
        jumps: whether reading may begin anywhere in the file, and need not pass over all before.
        ended: what a live source said when it broke off; empty if it did not.
        complete: whether `items` came to the end of the selection.
        damage: what could not be decoded; known when `items` has come to its end.
    """

    def __init__(
        self, path: Source, selection: Selection = _EVERYTHING, *, formats: str | None = None
    ) -> None:
        """Open `path` at the start of `selection`.

        Args:
            formats: which the file may be read as, see `open_container`.

        Raises:
            InputError: not a video, no video stream, or no frame in the selection that can be decoded.
        """
        self.path = path
        self.ended = ""
        self.complete = False
        self.damage = Damage()
        self._selection = selection
        self._formats = formats
        self._container = open_container(path, formats, selection.max_pixels)
        self.live = is_live(path, self._container)
        try:
            self._begin(_LEADS if selection.start > 0 and not self.live else (None,))
        except BaseException:
            self._container.close()
            raise
        self.size: tuple[int, int] = self._head[-1].pixels.shape[:2]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of the file so far; nothing of most."""
        jumps = self._demuxer.times.jumps
        places = f"{jumps} place{'s' * (jumps > 1)}"
        return (f"the times of the file jump at {places}; it goes on there at once",) if jumps else ()

    def items(self) -> Generator[Any]:
        """Frames and audio packets (av.Packet) in the order of the file, to be read once.

        Raises:
            InputError: the file can't be read any more. A live source only ends.
        """
        yield from self._head
        self._head.clear()
        yield from self._items

    def _begin(self, leads: tuple[int | None, ...]) -> None:
        """Decode up to the first frame of the selection, from the key frame before it if that works; `leads`
        are the seconds before it to try, in turn; None is from the start of the video."""
        lead, *later = leads
        self._stream = find_stream(self._container, self.path)
        prepare_decoder(self._stream, self._selection.max_pixels)
        self._read_header()
        # A clock that may be set anew shows the same time twice, so that no place can be found by its time.
        seeks = not (resets(self._container) and isinstance(self.path, Path))
        counts = self._avi and self._stream.codec_context.has_b_frames  # a frame's time, from the start
        self.jumps = seeks and not counts
        lead = None if counts else lead
        if lead is None:
            packets = self._demuxer.from_beginning()
        elif seeks:
            packets = self._demuxer.jumping_to(max(self._selection.start - lead, Fraction(0)))
        else:
            packets = self._demuxer.passing_over(self._selection.start)
        self._items = self._decode(packets)
        try:
            self._head = self._up_to_first_frame()
        except InputError:
            if lead is None or self._is_trusted():
                raise
        if lead is not None and not self._is_trusted():
            self._container.close()
            self._container = open_container(self.path, self._formats, self._selection.max_pixels)
            self._begin(tuple(later) if seeks else (None,))

    def _is_trusted(self) -> bool:
        """Did decoding begin before the selection, at a key frame? Some files jump beyond the place, or
        between key frames, or lose their times."""
        return self._decoded_from is not None and self._decoded_from <= self._selection.start

    def _read_header(self) -> None:
        container, stream = self._container, self._stream
        self.time_base: Fraction = stream.time_base
        self.frames = self._selection.frames_of(container, stream)
        self.rate = rate_of(stream) / self._selection.every
        self.audio = list(container.streams.audio)
        known = {id(s) for s in (stream, *self.audio)}
        self.other_streams = sorted({s.type for s in container.streams if id(s) not in known})
        self._step = 1 / rate_of(stream)
        """Seconds from frame to frame, on average."""
        is_avi = container.format.name == "avi"
        whole = not self._selection.start and self._selection.end is None
        listed = (stream.frames if whole else 0) if is_avi else None
        self._count = DamageCount(self._step, listed=listed)
        self._avi = AviTimes() if is_avi else None
        self._demuxer = Demuxer(container, stream, self.audio, self._step, self._count.sign)
        if self._demuxer.has_untimed_lead:  # Matroska counts how long it is from zero on
            seconds = (container.duration or 0) * MICROSECOND - self._demuxer.start
            self.frames = self._selection.count(stream.frames, seconds, rate_of(stream))
        self._untimed = self._demuxer.first
        """When the next frame is shown if it has no time, in seconds."""
        self._orientation: Orientation | None = None
        self._previous = -1
        """Time of the frame decoded last, in `time_base` from the start of the video."""
        self._filled = self._selection.start  # when it ends, in seconds
        self._passed = 0
        """Frames of the selection so far, with those that are left out."""
        self._decoded_from: Fraction | None = None
        """Time of the first frame that came out of the decoder, in seconds; None if that was no key frame or
        had no time."""

    def _up_to_first_frame(self) -> list[Any]:
        head = []
        for item in self._items:
            head.append(item)
            if isinstance(item, Frame):
                return head
        if self._previous >= 0:
            raise InputError(f"{self.path} has no frame in the part asked for; it ends before.")
        found = f" ({self.damage})" * bool(self.damage)
        raise InputError(f"{self.path} has a video stream but no frame that can be decoded{found}.")

    def _decode(self, packets: Generator[Any]) -> Generator[Any]:
        """Frames and audio packets of the selection."""
        wanted = {stream.index for stream in (self._stream, *self.audio)}
        jumps = 0
        try:
            for packet in packets:
                if packet.stream.index not in wanted:
                    continue
                if self._demuxer.times.jumps > jumps:
                    jumps = self._demuxer.times.jumps
                    self._count.joint()
                    self._estimate(packet)
                took = self._take_video if packet.stream is self._stream else self._take_audio
                shown = None if packet.pts is None else packet.pts * packet.time_base
                yield from took(packet)
                if self._is_past(packet.stream, shown):
                    wanted.remove(packet.stream.index)
                    if not wanted:
                        self.complete = True
                        break
        except av.error.FFmpegError as error:
            if not self.live:
                raise InputError(f"{self.path} can't be read any further ({error.strerror}).") from error
            self.ended = reason(error)
        if self.live or not wanted:  # it ends where it was left
            self.damage = self._count.total()
            return
        absent = unread = 0
        if isinstance(self.path, Path):
            absent, unread = self._demuxer.listed_beyond(self.path), self._demuxer.bytes_behind(self.path)
        self.damage = self._count.total(self._demuxer.missing(), absent, unread)

    def _estimate(self, packet: Any) -> None:
        """How many frames there will be, now that the length that the file says is known to be wrong."""
        if not isinstance(self.path, Path) or not packet.pos or packet.pos < 0 or packet.pts is None:
            return
        seconds = packet.pts * packet.time_base * self.path.stat().st_size / packet.pos
        self.frames = self._selection.count(0, seconds, rate_of(self._stream))

    def _take_video(self, packet: Any) -> Generator[Frame]:
        if self._avi:
            self._avi.saw(packet)
        for decoded in self._decoded(packet):
            given = self._avi.time(decoded) if self._avi else decoded.pts
            pts = self._time(given)
            if self._previous < 0 and given is not None and decoded.key_frame:
                self._decoded_from = pts * self.time_base
            self._previous = pts
            seconds = pts * self.time_base
            wanted = self._selection.holds(seconds)
            self._count.frame(seconds, wanted=wanted, flawed=decoded.is_corrupt)
            since = self._filled
            self._filled = max(since, seconds + ((decoded.duration or 0) * self.time_base or self._step))
            if wanted:
                self._passed += 1
                if self._selection.takes(self._passed - 1, since, self._filled):
                    yield self._frame(decoded, pts - floor(self._selection.start / self.time_base))

    def _decoded(self, packet: Any) -> list[Any]:
        """The frames that come out of the decoder after this packet."""
        when = self._previous * self.time_base if packet.pts is None else packet.pts * packet.time_base
        wanted = self._selection.holds(when)
        if wanted and packet.size:
            self._count.packet()
        try:
            return decode(packet, self._selection.max_pixels)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError | MemoryError):
                raise
            # A camera, or what was recorded off the air, may begin between two key frames.
            begins_anywhere = self.live or resets(self._container)
            if wanted and not (self._previous < 0 and begins_anywhere):
                self._count.failed()
            return []

    def _take_audio(self, packet: Any) -> Generator[Any]:
        if packet.dts is None:
            return
        start = self._selection.start
        seconds = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
        # Without a start, an encoder's lead-in before zero belongs to the sound.
        if self._selection.holds(seconds if start else max(seconds, start)):
            shift = round(start / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts -= shift
            yield packet

    def _is_past(self, stream: Any, shown: Fraction | None) -> bool:
        """Has a stream nothing more for the selection, after a packet that is shown then?"""
        if stream is self._stream:  # frames leave the decoder in the order in which they are shown
            shown = self._previous * self.time_base
        return self._selection.end is not None and shown is not None and shown >= self._selection.end

    def _frame(self, decoded: Any, pts: int) -> Frame:
        if self._orientation is None:
            self._orientation = orientation(decoded)
            ratio = self._stream.sample_aspect_ratio or Fraction(1)
            self.sample_aspect_ratio = 1 / ratio if self._orientation.transpose else ratio
            # A stream may change its size midway; the output can't.
            self._stored = self._selection.size(decoded.width, decoded.height)
        pixels = self._orientation.apply(to_rgb(decoded, *self._stored))
        return Frame(pixels, pts, (decoded.duration or 0) * self._selection.every)

    def _time(self, pts: int | None) -> int:
        """A frame without a time, or going back, follows the previous."""
        when = max(round(self._untimed / self.time_base) if pts is None else pts, self._previous + 1)
        self._untimed = (self._untimed if pts is None else pts * self.time_base) + self._step
        return when
