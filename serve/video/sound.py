"""The sound of an mp4: packets as they are in the source where mp4 holds their codec, else encoded to AAC."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av

_COPIED = frozenset({"aac", "mp3", "opus", "flac", "ac3", "eac3", "alac"})
"""Codecs, by libav's canonical names, that mp4 holds and players know; all others become AAC."""
_SLOWEST_MP3 = 16000  # Hz: below lies MPEG-2.5, which mp4 has no name for
_COMPLETE = frozenset({"mp3", "opus", "flac", "alac"})
"""Codecs whose parameters are known before the first packet, when a live file's header is written. AAC may
give them with its packets only (as AC-3 always does); it is copied where it gives them before."""
_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_LAYOUTS = {
    "mono": "mono",
    "stereo": "stereo",
    "downmix": "stereo",
    "1 channels": "mono",
    "2 channels": "stereo",
    "3.0": "3.0",
    "3 channels": "3.0",
    "4.0": "4.0",
    "5.0": "5.0",
    "5.0(side)": "5.0",
    "5 channels": "5.0",
    "5.1": "5.1",
    "5.1(side)": "5.1",
    "6 channels": "5.1",
}
"""Of the source: of AAC. Those that any player knows without a table of its own in the file."""
_KEPT_TAGS = {"language": "language", "title": "title", "name": "title", "handler_name": "handler_name"}


class Sound:
    """The audio streams of an output.

    Attributes:
        streams: how many of the source's streams the output has.
        changes: what became of the others, and of channels that were mixed down, a phrase each.
    """

    def __init__(self, container: Any, sources: Sequence[Any], *, live: bool = False) -> None:
        """Add a stream to `container`, av's output, for each of the source's.

        Args:
            live: the output must be playable while it is written.
        """
        self.changes: list[str] = []
        self._container = container
        self._copied: dict[int, Any] = {}  # by the index that the stream has in the source
        self._encoders: dict[int, _Aac] = {}
        self._ends: dict[int, Fraction] = {}
        self._unusable = 0
        for source in sources:
            if source.codec_context is None or not source.codec_context.sample_rate:
                self.changes.append("sound of an unknown codec, or without a packet, left out")
                continue
            if _is_copied(source, live):
                stream = self._copied[source.index] = container.add_stream_from_template(source)
            else:
                encoder = self._encoders[source.index] = _Aac(container, source)
                stream = encoder.stream
                if encoder.mixed:
                    self.changes.append(encoder.mixed)
            stream.metadata.update(
                {_KEPT_TAGS[tag]: text for tag, text in source.metadata.items() if tag in _KEPT_TAGS}
            )
            stream.disposition = source.disposition
        self.streams = len(self._copied) + len(self._encoders)

    def write(self, packet: Any) -> None:
        """Append a packet of one of the source's streams. What can't be decoded is left out and counted."""
        index = packet.stream.index
        if index in self._copied:
            begin = packet.dts * packet.time_base
            if begin < self._ends.get(index, begin):  # mp4 can't go back
                self._unusable += 1
                return
            self._ends[index] = begin
            packet.stream = self._copied[index]
            self._container.mux(packet)
        elif index in self._encoders:
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self._unusable += 1
                return
            for frame in frames:
                self._container.mux(self._encoders[index].encode(frame))

    def finish(self) -> None:
        """Write what the encoders still hold."""
        for encoder in self._encoders.values():
            self._container.mux(encoder.rest())
        if self._unusable:
            self.changes.append(f"{self._unusable} packets of sound could not be used")


class _Aac:
    """One encoded stream."""

    def __init__(self, container: Any, source: Any) -> None:
        given = source.codec_context
        self._rate = next((rate for rate in _RATES if rate <= given.sample_rate), _RATES[-1])
        self._layout = _LAYOUTS.get(given.layout.name) or ("5.1" if given.channels > 6 else "stereo")
        self.mixed = ""
        """That channels were given up, in words."""
        if given.layout.name not in _LAYOUTS:
            self.mixed = f"sound mixed down from {given.layout.name} to {self._layout}"
        self.stream = container.add_stream("aac", rate=self._rate)
        self.stream.codec_context.layout = self._layout
        self._resampler: Any = None
        self._form: tuple[str, str, int] | None = None
        self._next = Fraction(0)

    def encode(self, frame: Any) -> list[Any]:
        """Packets, perhaps none, of what is full with av's audio frame."""
        packets = []
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:  # at the beginning, and where a broadcast goes from stereo to surround
            packets += self._resampled(None)
            self._resampler = av.AudioResampler("fltp", self._layout, self._rate)
            self._form = form
        begin = self._next if frame.pts is None else max(frame.pts * frame.time_base, self._next)
        # The encoder's unit, and not the container's, in which the length of a frame need be no whole number.
        frame.pts, frame.time_base = round(begin * frame.sample_rate), Fraction(1, frame.sample_rate)
        self._next = Fraction(frame.pts + frame.samples, frame.sample_rate)
        return packets + self._resampled(frame)

    def rest(self) -> list[Any]:
        """The last packets."""
        return [*self._resampled(None), *self.stream.encode(None)]

    def _resampled(self, frame: Any) -> list[Any]:
        if self._resampler is None:
            return []
        return [packet for part in self._resampler.resample(frame) for packet in self.stream.encode(part)]


def _is_copied(source: Any, live: bool) -> bool:
    codec, rate = source.codec.canonical_name, source.codec_context.sample_rate
    if codec not in _COPIED or (codec == "mp3" and rate < _SLOWEST_MP3):
        return False
    return not live or codec in _COMPLETE or (codec == "aac" and bool(source.codec_context.extradata))
