"""Decodes a video: upright 8-bit RGB frames with their exact times, and the packets of its audio."""

from collections.abc import Generator
from contextlib import suppress
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any, NamedTuple, Self

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from serve.errors import InputError
from serve.video_hdr import is_hdr, to_sdr
from serve.video_source import (
    Selection,
    Source,
    decoder_threads,
    find_stream,
    is_live,
    open_container,
    rate_of,
)

_MICROSECOND = Fraction(1, 1_000_000)  # libav's unit for a whole container
_CUT_OFF = 1.0  # seconds that may be missing at the end before a video counts as truncated
_UNKNOWN_COLORSPACE = 2
_HD_HEIGHT = 720
_LEADS = (0, 10, None)  # MPEG transport streams know no key frames and may jump too late by a group
_EVERYTHING = Selection()


class Frame(NamedTuple):
    """One picture of a video."""

    pixels: NDArray[np.uint8]
    """uint8 [H, W, 3] RGB, upright."""
    pts: int
    """When it is shown, in `VideoReader.time_base` from the start of the selection."""
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
    """A video, opened, checked, and decoded up to its first frame.

    Attributes:
        live: whether the source is a camera or stream, which ends when it ends (`ended` says why).
        size: height and width of the upright frames as they are read, in pixels.
        time_base: seconds per unit of `Frame.pts`.
        rate: average frames per second, of those that are read.
        frames: how many frames there will be, as far as the file says; None if it does not.
        sample_aspect_ratio: width over height of one upright pixel.
        audio: the audio streams; `items` yields their packets, shifted to the same start as the frames.
        other_streams: kinds of streams that are left out (subtitles, data).
        ended: what a live source said when it broke off; empty if it did not.
    """

    def __init__(self, path: Source, selection: Selection = _EVERYTHING) -> None:
        """Open `path` at the start of `selection`.

        Raises:
            InputError: not a video, no video stream, no frame in the selection, or a file shorter than its
                index says.
        """
        self.path = path
        self.live = is_live(path)
        self.ended = ""
        self._selection = selection
        self._container = open_container(path, selection.max_pixels)
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

    def items(self) -> Generator[Any]:
        """Frames and audio packets (av.Packet) in the order of the file, to be read once.

        Raises:
            InputError: a frame that can't be decoded, or a file that ends before its header says. A live
                source only ends.
        """
        yield from self._head
        self._head.clear()
        yield from self._items

    def _begin(self, leads: tuple[int | None, ...]) -> None:
        """Decode up to the first frame of the selection, from the key frame before it if that works.

        `leads` are the seconds before it to try, in turn; None is from the start of the video.
        """
        lead, *later = leads
        self._stream = find_stream(self._container, self.path)
        decoder = self._stream.codec_context
        decoder.thread_type, decoder.thread_count = "AUTO", decoder_threads()
        if self._selection.max_pixels is not None:
            decoder.options = {"max_pixels": str(self._selection.max_pixels)}
        self._read_header()
        if lead is not None:
            place = max(self._selection.start - lead, Fraction(0))
            with suppress(av.error.FFmpegError):  # then nothing can be read, so it is opened again below
                self._container.seek(floor((self._start + place) / _MICROSECOND))
        self._items = self._demux()
        try:
            self._head = self._up_to_first_frame()
        except InputError:
            if lead is None or self._is_trusted():
                raise
        if lead is not None and not self._is_trusted():
            self._container.close()
            self._container = open_container(self.path, self._selection.max_pixels)
            self._begin(tuple(later))

    def _is_trusted(self) -> bool:
        """Did decoding begin before the selection, at a key frame?

        Some files jump beyond the place asked for, lose their times, or jump between key frames.
        """
        return self._decoded_from is not None and self._decoded_from <= self._selection.start

    def _read_header(self) -> None:
        stream = self._stream
        ends = (entry.pos + entry.size for entry in stream.index_entries)
        if isinstance(self.path, Path) and max(ends, default=0) > self.path.stat().st_size:
            raise InputError(
                f"{self.path} is truncated: its index lists frames beyond its end; copy it again."
            )
        self.time_base: Fraction = stream.time_base
        self.frames = self._selection.frames_of(self._container, stream)
        self.rate = rate_of(stream) / self._selection.every
        self.audio = list(self._container.streams.audio)
        known = {id(s) for s in (stream, *self.audio)}
        self.other_streams = sorted({s.type for s in self._container.streams if id(s) not in known})
        self._start = (self._container.start_time or 0) * _MICROSECOND
        self._orientation: Orientation | None = None
        self._previous = -1
        """Time of the frame decoded last, in `time_base` from the start of the video."""
        self._passed = 0
        """Frames of the selection so far, with those that `every` leaves out."""
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
        raise InputError(f"{self.path} has a video stream but no frame that can be decoded.")

    def _demux(self) -> Generator[Any]:
        reached = Fraction(0)
        wanted = {stream.index for stream in (self._stream, *self.audio)}
        try:
            for packet in self._container.demux():
                if packet.pts is not None:
                    end = packet.pts + (packet.duration or 0)
                    reached = max(reached, end * packet.time_base - self._start)
                if packet.stream.index not in wanted:
                    continue
                took = self._take_video if packet.stream is self._stream else self._take_audio
                yield from took(packet)
                if self._is_past(packet):
                    wanted.remove(packet.stream.index)
                    if not wanted:
                        return
        except av.error.FFmpegError as error:
            if self.live:
                self.ended = error.strerror or str(error)
                return
            raise InputError(
                f"{self.path} can't be decoded beyond {float(reached):.1f} s, it is damaged or truncated "
                f"({error.strerror}); copy it again."
            ) from error
        missing = (self._container.duration or 0) * _MICROSECOND - reached
        if missing > _CUT_OFF and not self.live:
            raise InputError(
                f"{self.path} is truncated: its last {float(missing):.1f} s are missing; copy it again."
            )

    def _take_video(self, packet: Any) -> Generator[Frame]:
        chosen = self._selection
        for decoded in packet.decode():
            pts = self._time(decoded.pts)
            if self._previous < 0 and decoded.pts is not None and decoded.key_frame:
                self._decoded_from = pts * self.time_base
            self._previous = pts
            seconds = pts * self.time_base
            if seconds < chosen.start or (chosen.end is not None and seconds >= chosen.end):
                continue
            self._passed += 1
            if (self._passed - 1) % chosen.every == 0:
                yield self._frame(decoded, pts - floor(chosen.start / self.time_base))

    def _take_audio(self, packet: Any) -> Generator[Any]:
        if packet.dts is None:
            return
        start, end = self._selection.start, self._selection.end
        seconds = (packet.dts if packet.pts is None else packet.pts) * packet.time_base - self._start
        # Without a start, an encoder's lead-in before zero belongs to the sound.
        if (not start or seconds >= start) and (end is None or seconds < end):
            yield self._shifted(packet)

    def _is_past(self, packet: Any) -> bool:
        """Has this packet's stream nothing more for the selection?"""
        end = self._selection.end
        if end is None:
            return False
        if packet.stream is self._stream:  # frames leave the decoder in the order in which they are shown
            return self._previous * self.time_base >= end
        return packet.pts is not None and packet.pts * packet.time_base - self._start >= end

    def _frame(self, decoded: Any, pts: int) -> Frame:
        if self._orientation is None:
            self._orientation = _orientation(decoded)
            ratio = self._stream.sample_aspect_ratio or Fraction(1)
            self.sample_aspect_ratio = 1 / ratio if self._orientation.transpose else ratio
            # A stream may change its size midway; the output can't.
            self._stored = self._selection.size(decoded.width, decoded.height)
        shrinks = self._stored[0] * self._stored[1] < decoded.width * decoded.height
        untagged_hd = decoded.colorspace == _UNKNOWN_COLORSPACE and decoded.height >= _HD_HEIGHT
        hdr, deep = is_hdr(decoded), decoded.format.components[0].bits > 8
        rgb = decoded.to_ndarray(
            format="rgb48le" if hdr else "rgb24",
            width=self._stored[0],
            height=self._stored[1],
            src_colorspace="ITU709" if untagged_hd else None,  # what players assume, unlike libav
            interpolation=_interpolation(shrinks, precise=not hdr and (shrinks or deep)),
        )
        if hdr:
            rgb = to_sdr(rgb, decoded.color_trc)
        duration = (decoded.duration or 0) * self._selection.every
        return Frame(self._orientation.apply(rgb), pts, duration)

    def _time(self, pts: int | None) -> int:
        """Start at zero, as a player does; a frame without a time, or going back, follows the previous."""
        if pts is None:
            step = round(1 / (self.rate * self._selection.every) / self.time_base) or 1
            return 0 if self._previous < 0 else self._previous + step
        return max(pts - round(self._start / self.time_base), self._previous + 1)

    def _shifted(self, packet: Any) -> Any:
        offset = round((self._start + self._selection.start) / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - offset
        packet.dts -= offset
        return packet


def _interpolation(shrinks: bool, precise: bool) -> Any:
    """How libav computes RGB pixels.

    Its ways from more than 8 bits, and to another size, make 253 of white unless asked for precision.
    (The one from 8 bits is right without, and fast; the one to 16 bits is wrong with.)
    """
    method = Interpolation.AREA if shrinks else Interpolation.BILINEAR
    return method | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT if precise else method


def _orientation(decoded: Any) -> Orientation:
    """From the display matrix [[a, b, u], [c, d, v], ...]: shown x = a x + c y, shown y = b x + d y."""
    side_data = decoded.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return Orientation(False, False, False)
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(side_data), np.int32)[:5])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(False, flip_x=a < 0, flip_y=d < 0)
