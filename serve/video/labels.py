"""Lossless label output: one grey FFV1 video, or one PNG per frame.

FFV1 in Matroska is what archives use, and everything built on libav reads it: OpenCV, ffmpeg, PyAV, VLC.
Matroska keeps times in milliseconds, so a frame's time is right to half a millisecond; frames.csv of the PNG
output has them exactly. The sound is left out of both.
"""

import csv
import json
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import numpy as np

from serve.card import Card
from serve.inference.segmenter import Labels
from serve.media.images import encode
from serve.video.writer import check_count

_MILLISECOND = Fraction(1, 1000)
_GROWING = {"cluster_time_limit": "500", "flush_packets": "1"}  # milliseconds
_CLASSES_TAG = "BLDA_CLASSES"
"""Matroska tag with the class names as a JSON list: position = grey value."""


class LabelVideo:
    """A lossless video being written whose grey values are class numbers."""

    def __init__(
        self,
        path: Path,
        card: Card,
        *,
        height: int,
        width: int,
        time_base: Fraction,
        rate: Fraction,
        live: bool = False,
    ) -> None:
        """Open `path`; with `live`, it must be playable while it grows, up to the last second."""
        self.path = path
        """Where the file lies; to be told when it gets another name."""
        self._time_base = time_base
        self._frames = 0
        self._last = -1
        deep = len(card.classes) > 256
        self._format = "gray16le" if deep else "gray"
        self._type: type[np.uint8 | np.uint16] = np.uint16 if deep else np.uint8
        self._container = av.open(str(path), "w", format="matroska", options=_GROWING if live else {})
        self._container.metadata[_CLASSES_TAG] = json.dumps(card.classes)
        # Every frame is a key frame: labels are cut and looked up anywhere. Slices have checksums.
        options = {"level": "3", "g": "1", "slicecrc": "1"}
        self._video = self._container.add_stream("ffv1", rate=rate, options=options)
        self._video.width, self._video.height, self._video.pix_fmt = width, height, self._format
        self._video.codec_context.time_base = _MILLISECOND

    def write_labels(self, labels: Labels, pts: int, duration: int) -> None:
        """Append labels [H, W], shown from `pts` on, for `duration` units if it is the last frame."""
        frame = av.VideoFrame.from_ndarray(labels.astype(self._type, copy=False), format=self._format)
        start = max(round(pts * self._time_base / _MILLISECOND), self._last + 1)
        frame.pts, frame.time_base = start, _MILLISECOND
        for packet in self._video.encode(frame):
            packet.duration = max(round(duration * self._time_base / _MILLISECOND), 1)
            self._container.mux(packet)
        self._frames += 1
        self._last = start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Finish the file and count its frames, as a full disk may show nowhere else."""
        if failure is not None:
            with suppress(av.error.FFmpegError, OSError):  # the failure itself is the one to hear of
                self._container.close()
            return
        self._container.mux(self._video.encode(None))
        self._container.close()
        with av.open(str(self.path)) as written:
            found = sum(packet.size > 0 for packet in written.demux(video=0))
        check_count(found, self._frames)


class LabelFrames:
    """A folder being filled with label PNGs 000000.png, 000001.png ..., and frames.csv with their times."""

    def __init__(self, folder: Path, *, time_base: Fraction) -> None:
        """Fill `folder`, which is there and empty."""
        self.path = folder
        """Where the folder lies; to be told when it gets another name."""
        self._time_base = time_base
        self._frames = 0
        self._times = (folder / "frames.csv").open("w", newline="", buffering=1)
        self._table = csv.writer(self._times)
        self._table.writerow(["file", "seconds"])

    def write_labels(self, labels: Labels, pts: int, duration: int) -> None:
        """Write labels [H, W], shown from `pts` on."""
        name = f"{self._frames:06d}.png"
        (self.path / name).write_bytes(encode(labels, ".png"))
        self._table.writerow([name, f"{float(pts * self._time_base):.6f}"])
        self._frames += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._times.close()
