"""The packets of a video and its sound, in one running time from the start of the video on."""

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from math import floor
from pathlib import Path
from typing import Any

import av

from serve.media.video.packets import Order, from_key_frame, lead_in, readable_packets
from serve.media.video.source import MICROSECOND, length_of, resets
from serve.media.video.times import RunningTime


class Demuxer:
    """Reads the packets of one video stream and its audio streams, of an open container.

    Attributes:
        start: the file's own time, in seconds, that is zero here.
        first: when the first frame is shown if it has no time, in seconds from `start`.
        has_untimed_lead: whether frames without times come first, which the file does not count.
        times: knows where the file's own times jump.
    """

    def __init__(
        self,
        container: Any,
        stream: Any,
        audio: Sequence[Any],
        step: Fraction,
        on_damage: Callable[[], object],
    ) -> None:
        """Read the beginning.

        Args:
            step: seconds from frame to frame, on average.
            on_damage: called where something is not as it should be.
        """
        self._container = container
        self._stream = stream
        self._wanted = {each.index for each in (stream, *audio)}
        self._on_damage = on_damage
        self._reached = Fraction(0)
        """The file's own latest time so far, in seconds."""
        packets = self._readable()
        lead = lead_in(packets, stream, step)
        self._beginning = chain(lead.packets, packets)
        begin = (container.start_time or 0) * MICROSECOND
        self.has_untimed_lead = lead.start is not None
        self.start = begin if lead.start is None else lead.start
        self.first = lead.first
        self.times = RunningTime(self.start, step=step, resets=resets(container))

    def from_beginning(self) -> Generator[Any]:
        """All packets."""
        yield from self.times.packets(self._beginning)

    def passing_over(self, seconds: Fraction) -> Generator[Any]:
        """All packets but those of the video before its last key frame until `seconds`."""
        yield from from_key_frame(self.from_beginning(), self._stream, seconds)

    def jumping_to(self, seconds: Fraction) -> Generator[Any]:
        """The packets from where the file lists a key frame for `seconds`."""
        with suppress(av.error.FFmpegError):  # then nothing can be read, and whoever reads opens it again
            self._container.seek(floor((self.start + seconds) / MICROSECOND))
        yield from self.times.packets(self._readable())

    def missing(self) -> Fraction:
        """Seconds by which a file that was read to its end is shorter than it says."""
        begin = (self._container.start_time or 0) * MICROSECOND
        return begin + length_of(self._container) - self._reached

    def listed_beyond(self, path: Path) -> int:
        """How many frames the file lists beyond its end."""
        size = path.stat().st_size
        return sum(entry.pos + entry.size > size for entry in self._stream.index_entries)

    def bytes_behind(self, path: Path) -> int:
        """See `serve.media.video.packets.Order`."""
        return self._order.bytes_behind(path)

    def _readable(self) -> Generator[Any]:
        self._order = order = Order(self._container)
        for packet in readable_packets(self._container, self._on_damage):
            if packet.is_corrupt or order.has_hole_before(packet):
                self._on_damage()
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                self._reached = max(self._reached, end)
            if packet.stream.index in self._wanted:
                yield packet
