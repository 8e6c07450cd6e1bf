"""The packets of a video in the order of its file, past what can't be read and with what that shows."""

from collections.abc import Callable, Generator, Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av

_GIVE_UP = 100
"""Failures to read in a row after which nothing more is to come."""
_HOLE = 1024
"""Bytes between two packets that are more than a header."""
_IN_ORDER = ("matroska", "avi", "flv")
"""Formats whose packets lie in the file one after the other, in the order in which they are read."""
_REORDERED = 16
"""Packets within which B-frames are exchanged: the most reference frames that H.264 and HEVC have."""
_LONGEST = 1000
"""Packets without times, or from one key frame to the next, that are waited for."""


def readable_packets(container: Any, on_failure: Callable[[], object] = lambda: None) -> Generator[Any]:
    """The packets of an open container that can be read; calls the function for each place that can't.

    Raises:
        av.error.FFmpegError: the disk, the network, or the memory fails.
    """
    failures = 0
    while failures < _GIVE_UP:
        try:
            for packet in container.demux():
                failures = 0
                yield packet
            return
        except av.error.FFmpegError as error:
            if isinstance(error, OSError | MemoryError | av.error.ExitError):  # the last: time ran out
                raise
            failures += 1
            on_failure()


class Order:
    """Watches the order of packets in the file, as readers pass over without a word what they can't read."""

    def __init__(self, container: Any) -> None:
        self._format: str = container.format.name
        self._end: int | None = None
        """Bytes of the file so far."""

    def has_hole_before(self, packet: Any) -> bool:
        """Does this packet, where the format has one after the other, not follow the one given last?"""
        if not self._format.startswith(_IN_ORDER) or not packet.size or packet.pos is None or packet.pos < 0:
            return False
        found = self._end is not None and packet.pos - self._end > _HOLE
        self._end = max(self._end or 0, packet.pos + packet.size)
        return found

    def bytes_behind(self, path: Path) -> int:
        """How much of a file, read to its end, is another clip, joined where libav reads the first alone.

        MP4 is a row of boxes, each with its size in front (ISO/IEC 14496-12, 4.2), and `ftyp` begins a file.
        """
        size = path.stat().st_size
        if self._format == "flv" and self._end is not None:
            return size - self._end if size - self._end > _HOLE else 0
        at = 0
        with path.open("rb") as file:
            while self._format.startswith("mov") and (head := file.read(16)):
                if at and head[4:8] == b"ftyp":
                    return size - at
                length = int.from_bytes(head[:4])
                length = int.from_bytes(head[8:]) if length == 1 else length
                if length < 8:  # the last box, up to the end of the file; or no box
                    break
                at += length
                file.seek(at)
        return 0


class Lead(NamedTuple):
    """The beginning of a video."""

    packets: list[Any]
    """What was read to find out."""
    start: Fraction | None
    """When the file begins, in its own seconds, if frames without times come first."""
    first: Fraction
    """When the first frame is shown then, in seconds from `start`."""


def lead_in(packets: Iterable[Any], stream: Any, step: Fraction) -> Lead:
    """Find where a video begins whose first packets have no times.

    Those below zero are left out by libav's reader of Matroska, which counts the first of the sound from zero
    on instead, and goes back where the file's own begin.

    Args:
        packets: from the beginning of the file; only as many are taken as need be, one for most files.
        stream: the video stream.
        step: seconds from frame to frame.
    """
    taken: list[Any] = []
    untimed = 0
    times: list[Fraction] = []
    for packet in packets:
        taken.append(packet)
        if packet.stream is not stream:
            continue
        if packet.pts is not None:
            times.append(packet.pts * packet.time_base)
        else:
            untimed += packet.size > 0
        if not untimed or len(times) >= _REORDERED or len(taken) >= _LONGEST:
            break
    if not untimed or not times:
        return Lead(taken, None, Fraction(0))
    first = min(times) - untimed * step
    sounds = [packet for packet in taken if packet.stream is not stream and packet.dts is not None]
    for index in {packet.stream.index for packet in sounds}:
        _mend([packet for packet in sounds if packet.stream.index == index])
    start = min([first, *(packet.dts * packet.time_base for packet in sounds)])
    return Lead(taken, start, first - start)


def _mend(sound: list[Any]) -> None:
    """Move the packets before the place where times go back, so that they lead up to it."""
    for place, (packet, after) in enumerate(pairwise(sound), start=1):
        if after.dts < packet.dts:
            by = packet.dts + packet.duration - after.dts
            for each in sound[:place]:
                each.dts -= by
                each.pts = None if each.pts is None else each.pts - by


def from_key_frame(packets: Iterable[Any], stream: Any, start: Fraction) -> Generator[Any]:
    """Leave out what the video `stream` has before its last key frame at or before `start` (seconds)."""
    held: list[Any] = []
    waiting = True
    for packet in packets:
        if waiting and packet.stream is stream:
            is_before = packet.pts is None or packet.pts * packet.time_base <= start
            if packet.is_keyframe and is_before:
                held.clear()
            held.append(packet)
            waiting = is_before and len(held) < _LONGEST
            if not waiting:
                yield from held
            continue
        yield packet
    if waiting:
        yield from held
