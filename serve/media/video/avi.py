"""Times of frames in AVI, a container that has none: it knows only the order in which frames are decoded.

libav stamps each frame with its place in the order of decoding, or the one after it. Where B-frames are
decoded after frames that they are shown before, those times go up and down. But frames leave the decoder in
the order in which they are shown, each while one more packet goes in, after a lag that stays: the time of a
frame is that of the packet that goes in while it comes out, less the lag.
"""

from typing import Any


class AviTimes:
    """Finds the times of one stream's frames, in its time base."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._lag: int | None = None

    def saw(self, packet: Any) -> None:
        """Take notice of a packet before it is decoded."""
        if self._first is None:
            self._first = packet.dts

    def time(self, decoded: Any) -> int | None:
        """When a frame is shown; None at the end, where it follows the one before."""
        if decoded.dts is None or self._first is None:
            return None
        if self._lag is None:
            self._lag = decoded.dts - self._first
        return int(decoded.dts - self._lag)
