"""One running time for a file whose own times jump: joined clips, clocks that wrap or were set anew."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_BACK = Fraction(1)
"""Seconds by which the times of a stream may go back without a jump: frames come in the order of decoding."""
_REORDERED = 8
"""The same in frames, for slow videos: Matroska gives the first packets no place in that order."""
_AHEAD = Fraction(60)
"""Seconds that a clock which may be set anew has to be ahead of everything before, for a jump."""
_NEAR = Fraction(10)
"""Seconds that the streams of one part may lie apart in the file."""
_SPAN = Fraction(1)
"""Seconds of a new part that are looked at, at most, before its place is chosen."""
_MOST = 1000
"""The same in packets, for those without times."""
_WRAP = 2**33
"""Ticks after which the clock of MPEG streams starts again (ISO/IEC 13818-1, 2.4.3.7)."""


@dataclass
class _Part:
    """A stretch of the file on one clock, whose times in seconds are its own times."""

    offset: Fraction
    """What leads from its own times to the running time."""
    first: Fraction
    front: Fraction
    """Its latest time so far."""

    def is_near(self, when: Fraction) -> bool:
        return self.first - _NEAR <= when <= self.front + _NEAR


@dataclass
class _Track:
    """Where a stream has come to."""

    part: _Part
    last: Fraction
    """Own time of its newest packet, in the order of decoding."""
    step: Fraction = Fraction(0)
    """Time from a packet to the next one."""
    end: Fraction = Fraction(0)
    """Running time at which what came so far ends."""


class RunningTime:
    """Gives packets the times that they are to be shown at, from zero on and without jumps.

    A jump is where the times of a stream go back by more than a second (of slow videos, eight frames), as
    where clips were joined byte by byte (but not where a 33-bit MPEG clock wraps around: there the time just
    goes on). In formats whose clock may be set anew (MPEG, but neither MP4 nor Matroska, where a gap is what
    was recorded) it is also where they are a minute ahead of all before. At a jump the video goes on at once,
    as in players: nobody waits hours between two joined clips. Shorter gaps, as of a lost signal, stay.

    One offset is chosen per jump, for all streams, so that picture and sound keep their relation: the
    smallest with which no stream overlaps with what it had before.

    Attributes:
        jumps: how many there were so far.
    """

    def __init__(self, start: Fraction, *, step: Fraction, resets: bool) -> None:
        """Begin a file.

        Args:
            start: its own time, in seconds, that becomes zero.
            step: seconds from frame to frame, on average.
            resets: whether its clock may be set anew.
        """
        self.jumps = 0
        self._back = max(_BACK, _REORDERED * step)
        self._resets = resets
        self._newest = _Part(-start, start, start)
        self._next: _Part | None = None
        """The part after a jump, until its offset is known."""
        self._held: list[Any] = []
        """Packets of the next part."""
        self._tracks: dict[int, _Track] = {}

    def packets(self, packets: Iterable[Any]) -> Generator[Any]:
        """The same av.Packets, shifted; those without times and the empty ones at the end as they are."""
        for packet in packets:
            when = self._own_time(packet)
            if when is None:
                if packet.size == 0:  # the end
                    yield from self._settle()
                yield packet
                continue
            part = self._part_of(packet.stream.index, when)
            if part is None:
                yield from self._settle()
                part = self._begin_part(packet, when)
            part.front = max(part.front, when)
            if part is not self._next:
                yield self._shifted(packet, part, when)
                continue
            self._held.append(packet)
            if self._has_seen_enough():
                yield from self._settle()
        yield from self._settle()

    def _own_time(self, packet: Any) -> Fraction | None:
        """In seconds, in the order of decoding if the file says."""
        if self._resets and packet.dts is not None and packet.pts is not None:
            packet.pts += _WRAP * round((packet.dts - packet.pts) / _WRAP)  # of a frame across the wrap
        ticks = packet.pts if packet.dts is None else packet.dts
        own: Fraction | None = None if ticks is None else ticks * packet.time_base
        return own

    def _part_of(self, index: int, when: Fraction) -> _Part | None:
        """The part that a packet of this stream belongs to; None if it begins another one."""
        track = self._tracks.get(index)
        if track is None:
            return self._next if self._next and self._next.is_near(when) else self._newest
        if self._goes_on(track, when):
            return track.part
        for part in (self._next, self._newest):
            if part and part is not track.part and part.is_near(when):
                return part
        return None

    def _begin_part(self, packet: Any, when: Fraction) -> _Part:
        last = self._tracks[packet.stream.index]
        turn = _WRAP * packet.time_base
        if self._resets and abs(last.last - turn - when) <= _NEAR:  # the clock goes on, past its end
            self._newest = _Part(last.part.offset + turn, when, when)
            return self._newest
        self._next = _Part(Fraction(0), when, when)
        return self._next

    def _goes_on(self, track: _Track, when: Fraction) -> bool:
        if when < track.last - self._back:
            return False
        return not self._resets or when <= max(track.last, track.part.front) + _AHEAD

    def _has_seen_enough(self) -> bool:
        """Have all streams shown where they begin in the next part, or will they not?"""
        part = self._next
        spans = part is not None and part.front - part.first >= _SPAN
        seen = {packet.stream.index for packet in self._held}
        return spans or len(self._held) >= _MOST or seen >= set(self._tracks)

    def _settle(self) -> Generator[Any]:
        """Choose the offset of the next part and let its packets go."""
        if self._next is None:
            return
        firsts: dict[int, Fraction] = {}
        for packet in self._held:
            shown = _shown(packet)
            firsts[packet.stream.index] = min(firsts.get(packet.stream.index, shown), shown)
        ends = {index: track.end for index, track in self._tracks.items() if index in firsts}
        self._next.offset = max(end - firsts[index] for index, end in ends.items())
        self._newest, self._next = self._next, None
        self.jumps += 1
        for packet in self._held:
            yield self._shifted(packet, self._newest, self._own_time(packet) or Fraction(0))
        self._held.clear()

    def _shifted(self, packet: Any, part: _Part, when: Fraction) -> Any:
        track = self._tracks.setdefault(packet.stream.index, _Track(part, when))
        if track.part is part and when > track.last:
            track.step = when - track.last
        track.part, track.last = part, when
        lasts = packet.duration * packet.time_base if packet.duration else track.step
        track.end = max(track.end, _shown(packet) + part.offset + lasts)
        shift = round(part.offset / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        return packet


def _shown(packet: Any) -> Fraction:
    """When a packet that has times is shown, in its own seconds."""
    shown: Fraction = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
    return shown
