"""Reads a live source on after it broke off: tries again after growing waits, and lets the time go on."""

import sys
import time
from collections.abc import Generator
from dataclasses import replace
from fractions import Fraction
from threading import Event
from typing import Any

import cv2
import numpy as np

from serve.errors import InputError
from serve.media.progress import Bar
from serve.media.video.damage import Damage
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection

_FIRST_WAIT = 0.5  # seconds; each is twice as long as the one before
_LONGEST_WAIT = 30.0


class LiveItems:
    """Frames and audio packets of a live source, over as many connections as it takes.

    Attributes:
        breaks: how often it broke off and came back.
        gone: how long in all, in seconds, from the last frame before to the first one after.
        ended: why it broke off for good; empty if it did not.
        damage: what could not be decoded, of the connections that are over.
    """

    def __init__(self, reader: VideoReader, selection: Selection, patience: float, stop: Event) -> None:
        """Take over `reader`, which is open, and closed in the end.

        Args:
            selection: what `reader` reads; its end is kept over all connections.
            patience: seconds to keep trying to get the source back; 0 is not at all.
            stop: when this is set, there are no more tries.
        """
        self.breaks = 0
        self.gone = 0.0
        self.ended = ""
        self.damage = Damage()
        self._reader = reader
        self._selection = selection
        self._rest = replace(selection, start=Fraction(0), end=None)  # of a later connection
        self._patience = patience
        self._stop = stop
        self._time_base = reader.time_base
        self._size = reader.size
        self._sound = _kinds_of_sound(reader)
        self._offset = Fraction(0)
        """Seconds from the start of the selection to that of this connection."""
        self._last = Fraction(0)
        """When the last frame was shown, in seconds from the start of the selection."""
        self._arrived = time.monotonic()
        self._heard: dict[int, Fraction] = {}
        """Time of each audio stream's last packet, alike."""

    def items(self) -> Generator[Any]:
        """As VideoReader.items; times go on over a gap as the clock does.

        To be run to its end, or closed, by one thread: it may hang in a silent source for a while.
        """
        reader: VideoReader | None = self._reader
        while reader is not None:
            with reader:
                yield from self._of(reader)
            self.damage += reader.damage
            if reader.complete or self._is_past(self._last):
                return
            reader = self._reconnect(reader.ended or "the other side hung up")

    def _of(self, reader: VideoReader) -> Generator[Any]:
        """The items of one connection, in the time of the first one."""
        kinds = _kinds_of_sound(reader)
        for item in reader.items():
            if isinstance(item, Frame):
                frame = self._continued(item, reader)
                self._last, self._arrived = frame.pts * self._time_base, time.monotonic()
                if self._is_past(self._last):
                    return
                yield frame
            elif kinds[item.stream.index] == self._sound.get(item.stream.index) and self._goes_on(item):
                yield item

    def _continued(self, frame: Frame, reader: VideoReader) -> Frame:
        units = reader.time_base / self._time_base
        pts = round(frame.pts * units + self._offset / self._time_base)
        pixels = frame.pixels
        if pixels.shape[:2] != self._size:  # the output can't change its size
            pixels = np.asarray(
                cv2.resize(pixels, self._size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        return Frame(pixels, pts, round(frame.duration * units))

    def _goes_on(self, packet: Any) -> bool:
        """Move a packet of sound to its time, unless that lies before what was heard already."""
        offset = round(self._offset / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + offset
        packet.dts += offset
        begin = packet.dts * packet.time_base
        index = packet.stream.index
        if self._offset and (begin < self._heard.get(index, begin) or self._is_past(begin)):
            return False
        self._heard[index] = begin
        return True

    def _reconnect(self, why: str) -> VideoReader | None:
        """The source, open again; None if it does not come back, or is no longer wanted."""
        source = self._reader.path
        if not self._patience:
            self.ended = why
            return None
        _say(f"{source} broke off ({why}); trying for {self._patience:g} s to get it back")
        lost, wait = time.monotonic(), _FIRST_WAIT
        while (left := lost + self._patience - time.monotonic()) > 0:
            if self._stop.wait(min(wait, left)):
                return None
            wait = min(2 * wait, _LONGEST_WAIT)
            if self._is_past(self._last + Fraction(time.monotonic() - self._arrived)):
                return None
            try:
                reader = VideoReader(source, self._rest)
            except InputError:
                continue
            if not reader.live:  # a recording of what was sent, as of a finished broadcast
                with reader:
                    self.ended = why
                    return None
            now = time.monotonic()
            gone = now - self._arrived
            self._offset = max(self._last + Fraction(gone), self._last + self._time_base)
            self.breaks += 1
            self.gone += gone
            _say(f"{source} is back after {gone:.1f} s")
            return reader
        self.ended = f"{why}, and it did not come back within {self._patience:g} s"
        return None

    def _is_past(self, seconds: Fraction) -> bool:
        """Is this time, counted from the start of the selection, beyond its end?"""
        chosen = self._selection
        return chosen.end is not None and seconds >= chosen.end - chosen.start


def _kinds_of_sound(reader: VideoReader) -> dict[int, tuple[str, int, str]]:
    """What must be alike for a stream of sound to be continued by another one, by its index."""
    return {
        stream.index: (stream.codec.canonical_name, context.sample_rate, context.layout.name)
        for stream in reader.audio
        if (context := stream.codec_context) is not None
    }


def _say(sentence: str) -> None:
    """To whoever watches; there may be nobody any more."""
    try:
        Bar.write(sentence, file=sys.stderr)
    except OSError:
        return
