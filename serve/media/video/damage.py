"""What of a video can't be decoded, counted while the rest is."""

from bisect import bisect_left
from collections import deque
from dataclasses import astuple, dataclass
from fractions import Fraction
from statistics import median

_BEFORE, _AFTER = 50, 150
"""Frames before and after a sign of damage in which a gap is put down to it: decoders let frames wait."""
_STEPS = 50
_ENOUGH = 5
"""Steps from frame to frame of which the usual one is taken; fewer say nothing yet."""
_USUAL = (0.5, 1.5)
"""Usual steps from one frame to the next between which none is missing, and none too many."""
_CUT_OFF = 1.0
"""Seconds that may be missing at the end: a longer audio track, a rounded header."""


@dataclass(frozen=True)
class Damage:
    """What is wrong with a video, or the part of it that was read; all zero if nothing is."""

    lost: int = 0
    """Frames that could not be decoded, or whose data are missing."""
    flawed: int = 0
    """Frames that were decoded with errors, and are in the output."""
    cut_off: float = 0.0
    """Seconds missing at the end."""
    unread: int = 0
    """Bytes of another clip behind the end of the first, in formats that can't be joined byte by byte."""

    def __bool__(self) -> bool:
        return bool(self.lost or self.flawed or self.cut_off or self.unread)

    def __add__(self, other: "Damage") -> "Damage":
        """Of two stretches of one video."""
        return Damage(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        """For a person; empty if nothing is wrong."""
        said = []
        if self.lost:
            said.append(f"{_frames(self.lost)} could not be decoded")
        if self.flawed:
            said.append(f"{_frames(self.flawed)} decoded with errors")
        if self.cut_off:
            said.append(f"the last {self.cut_off:.1f} s are missing")
        if self.unread:
            said.append(f"the last {self.unread} bytes are another clip, joined where that can't be read")
        return f"damaged: {', '.join(said)}" if said else ""


class DamageCount:
    """Counts damage while a video is decoded.

    Many readers pass over what they can't read without a word; it shows in a gap between the times of two
    frames. But a camera may leave frames out, too: a gap counts only after another sign of damage.
    """

    def __init__(self, step: Fraction, *, listed: int | None = None) -> None:
        """Begin a video whose frames follow each other after `step` seconds, on average.

        listed: how many frames are to come, for files that number their frames instead of giving them times,
            so that lost ones leave no gap.
        """
        self._step = step
        self._listed = listed
        self._steps: deque[Fraction] = deque(maxlen=_STEPS)
        self._previous: Fraction | None = None
        self._seen = 0
        """Frames so far, with those that are not in the selection."""
        self._frames = 0
        self._flawed = 0
        self._packets = 0
        self._failed = 0
        self._signs: list[int] = []
        """Frames that had been seen at each."""
        self._gaps: list[tuple[int, int]] = []
        """Frames that had been seen before each, and how many would fit in."""

    def sign(self) -> None:
        """Something near here is not as it should be."""
        self._signs.append(self._seen)

    def joint(self) -> None:
        """Another clip begins; if something looked like damage, it was that."""
        if self._signs and self._signs[-1] >= self._seen - _BEFORE:
            self._signs.pop()

    def packet(self) -> None:
        """A packet of the selection is given to the decoder."""
        self._packets += 1

    def failed(self) -> None:
        """The decoder complains about a packet of the selection, or one before it."""
        self.sign()
        self._failed += 1

    def frame(self, when: Fraction, *, wanted: bool, flawed: bool) -> None:
        """A frame was decoded that is shown at `when` (seconds) and is in the selection if `wanted`."""
        if flawed:
            self.sign()
        if self._previous is not None:
            self._look_for_gap(when - self._previous, wanted)
        self._previous = when
        self._seen += 1
        self._frames += wanted
        self._flawed += wanted and flawed

    def _look_for_gap(self, step: Fraction, wanted: bool) -> None:
        usual = median(self._steps) if len(self._steps) >= _ENOUGH else self._step
        least, most = _USUAL
        if least * usual <= step <= most * usual:
            self._steps.append(step)
        elif wanted:
            self._gaps.append((self._seen, round(step / usual) - 1))

    def _missing(self) -> int:
        """Frames that are missing in gaps that have to do with damage."""
        missing = 0
        for seen, count in self._gaps:
            place = bisect_left(self._signs, seen - _AFTER)
            if place < len(self._signs) and self._signs[place] <= seen + _BEFORE:
                missing += count
        return max(missing, 0)

    def total(self, missing: Fraction = Fraction(0), absent: int = 0, unread: int = 0) -> Damage:
        """The damage of a video that should last so many seconds longer, lists so many frames beyond the end
        of the file, and leaves so many bytes unread."""
        # A packet that can't be decoded leaves a gap as well, where the file has times; and a decoder may
        # complain about one twice, or about one that it gives a frame of.
        lost = max(min(self._failed, self._packets - self._frames), self._missing())
        if self._listed is not None:
            unseen = max(self._listed - self._frames, 0)
            if self._signs:
                lost = unseen
            else:
                missing = max(missing, unseen * self._step)
        if missing > _CUT_OFF:
            return Damage(lost, self._flawed, round(float(missing), 3), unread)
        return Damage(lost + absent, self._flawed, 0.0, unread)


def _frames(count: int) -> str:
    return f"{count} frame" if count == 1 else f"{count} frames"
