"""Encodes frames to H.264, HEVC or AV1 in an mp4 that plays in browsers, with the audio of the source.

An ordinary mp4 can't be played before it is finished, as its index is written last (and then moved to the
front). A live one grows as a fragmented mp4, which is playable up to its last fragment whatever becomes of
the process; finished, libav turns it into an ordinary one by adding the index ("hybrid").
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.media.priority import kept_priority
from serve.video.outputs import Encoder
from serve.video.sound import Sound

_BT709 = 1
_LIMITED = 1
_ORDINARY = {"movflags": "faststart"}
_GROWING = {
    # The header goes first, as it would otherwise wait for a stream of sound that never sends.
    "movflags": "hybrid_fragmented+empty_moov",
    "frag_duration": "500000",  # microseconds
    "max_interleave_delta": "500000",  # to wait for the sound, likewise
    "flush_packets": "1",
}
_KEY_FRAMES = 2  # seconds between those of a live file
_QUIET: dict[str, dict[str, str]] = {"libx265": {"x265-params": "log-level=error"}}
os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its version to stderr otherwise: errors only


class VideoWriter:
    """An mp4 file being written; leaving the `with` block finishes and checks it."""

    def __init__(
        self,
        path: Path,
        *,
        height: int,
        width: int,
        time_base: Fraction,
        rate: Fraction,
        encoder: Encoder,
        crf: int | None = None,
        preset: str | None = None,
        sample_aspect_ratio: Fraction = Fraction(1),
        audio: Sequence[Any] = (),
        live: bool = False,
    ) -> None:
        """Open `path` for frames of `height` x `width` pixels.

        4:2:0 needs even sides: an odd one grows by a pixel that repeats the border.

        Args:
            time_base: seconds per unit of the times that frames are given.
            rate: average frames per second (for the encoder's rate control only).
            encoder: of serve.video.outputs.ENCODERS.
            crf: the encoder's quality, less is better; None is its default.
            preset: the encoder's speed; None is its default.
            audio: av audio streams of the source, whose packets will be given to `write_audio`.
            live: the file must be playable while it grows, up to the last second; the frames are those of a
                source that sends them in its own time.
        """
        self.path = path
        """Where the file lies; to be told when it gets another name."""
        self._live = live
        self._odd = (height % 2, width % 2)
        self._time_base = time_base
        self._frames = 0
        self._end = 0
        self._container = av.open(str(path), "w", format="mp4", options=_GROWING if live else _ORDINARY)
        options = {
            "crf": str(encoder.crf if crf is None else crf),
            "preset": preset or encoder.preset,
            **_QUIET.get(encoder.library, {}),
        }
        if live:  # no frame waits in the encoder for later ones
            every = max(round(rate * _KEY_FRAMES), 1)
            options |= {"g": str(every), **encoder.undelayed}
        self._video = self._container.add_stream(encoder.library, rate=rate, options=options)
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        if encoder.tag:
            context.codec_tag = encoder.tag
        context.time_base = time_base
        context.sample_aspect_ratio = sample_aspect_ratio
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        with self._opening():
            self.sound = Sound(self._container, audio, live=live)

    def write_frame(self, pixels: NDArray[np.uint8], pts: int, duration: int) -> None:
        """Append uint8 [H, W, 3] RGB, shown from `pts` to the next one, the last one for `duration` units."""
        if any(self._odd):
            pixels = cv2.copyMakeBorder(pixels, 0, self._odd[0], 0, self._odd[1], cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_numpy_buffer(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED
        )
        frame.pts, frame.time_base = pts, self._time_base
        with self._opening():
            packets = self._video.encode(frame)
        if self._live:  # each is the frame just given, and may be the last
            for packet in packets:
                packet.duration = duration
        self._container.mux(packets)
        self._frames += 1
        self._end = pts + duration

    def write_audio(self, packet: Any) -> None:
        """Append a packet of one of the source's audio streams."""
        with self._opening():
            self.sound.write(packet)

    def _opening(self) -> AbstractContextManager[None]:
        """For what may open the encoder, as the first frame or the first sound does."""
        return nullcontext() if self._video.codec_context.is_open else kept_priority()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Finish the file and count its frames, as a full disk may show nowhere else.

        After a failure inside the block, only let go of the file.

        Raises:
            InputError: the file does not hold every frame.
        """
        if failure is not None:
            with suppress(av.error.FFmpegError, OSError):  # the failure itself is the one to hear of
                self._container.close()
            return
        rest = self._video.encode(None)
        if rest:  # an mp4 ends with its last packet in order of *decoding*, which may not be the last frame
            rest[-1].duration = max(self._end - rest[-1].pts, 0)
        self._container.mux(rest)
        self.sound.finish()
        self._container.close()
        with av.open(str(self.path)) as written:
            found = written.streams.video[0].frames
        check_count(found, self._frames)


def check_count(found: int, written: int) -> None:
    """Raise InputError unless as many frames are in a file as were written to it."""
    if found != written:
        raise InputError(f"only {found} of {written} frames reached the file; is the disk full?")
