"""Where labelled frames go: pictures and sound to an mp4, or label maps alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from serve.card import Card
from serve.inference.segmenter import Segmenter
from serve.media.images import Image
from serve.media.video.reader import Frame
from serve.media.video.series_reader import Reader
from serve.media.whole import Unfinished
from serve.video.draw import Draw, Labelled, drawing
from serve.video.labels import LabelFrames, LabelVideo
from serve.video.outputs import ENCODERS, OUTPUTS
from serve.video.settings import Settings
from serve.video.writer import VideoWriter


class Sink(Protocol):
    """An output that is being written."""

    @property
    def audio_streams(self) -> int:
        """How many of the source's streams of sound it has."""

    @property
    def sound_changes(self) -> tuple[str, ...]:
        """What is not as in the source, a phrase each; complete when it is finished."""

    def write(self, item: Labelled) -> None:
        """Append a frame."""

    def write_audio(self, packet: Any) -> None:
        """Append a packet of the source's sound."""

    def moved(self, path: Path) -> None:
        """Take notice that what is being written has got another name."""


@contextmanager
def open_sink(reader: Reader, segmenter: Segmenter, settings: Settings, path: Path) -> Iterator[Sink]:
    """The sink that the settings ask for, at `path`; finished when the block is left."""
    height, width = reader.size
    if OUTPUTS[settings.output].lossless:
        with STORES[settings.output](reader, segmenter.card, path) as labels:
            yield _LabelSink(labels)
        return
    draw = drawing(segmenter.card, settings, height, width)
    black = np.zeros((height, width), np.uint8)
    sample: Image = draw(Labelled(Frame(np.zeros((height, width, 3), np.uint8), 0, 0), black, black))
    with VideoWriter(
        path,
        height=sample.shape[0],
        width=sample.shape[1],
        encoder=ENCODERS[settings.codec],
        crf=settings.crf,
        preset=settings.preset,
        sample_aspect_ratio=reader.sample_aspect_ratio,
        audio=reader.audio,
        time_base=reader.time_base,
        rate=reader.rate,
        live=reader.live,
    ) as writer:
        yield _DrawnSink(draw, writer)


def _label_video(reader: Reader, card: Card, path: Path) -> LabelVideo:
    height, width = reader.size
    times: dict[str, Any] = {"time_base": reader.time_base, "rate": reader.rate, "live": reader.live}
    return LabelVideo(path, card, height=height, width=width, **times)


def _label_frames(reader: Reader, card: Card, path: Path) -> LabelFrames:
    return LabelFrames(path, time_base=reader.time_base)


STORES: dict[str, Callable[[Reader, Card, Path], LabelVideo | LabelFrames]] = {
    "labels": _label_video,
    "frames": _label_frames,
}
"""By the output's name in `serve.video.outputs.OUTPUTS`: those that are label maps."""


class _DrawnSink:
    def __init__(self, draw: Draw, writer: VideoWriter) -> None:
        self._draw = draw
        self._writer = writer

    @property
    def audio_streams(self) -> int:
        return self._writer.sound.streams

    @property
    def sound_changes(self) -> tuple[str, ...]:
        return tuple(self._writer.sound.changes)

    def write(self, item: Labelled) -> None:
        self._writer.write_frame(self._draw(item), item.frame.pts, item.frame.duration)

    def write_audio(self, packet: Any) -> None:
        self._writer.write_audio(packet)

    def moved(self, path: Path) -> None:
        self._writer.path = path


class _LabelSink:
    audio_streams = 0
    sound_changes = ()

    def __init__(self, writer: LabelVideo | LabelFrames) -> None:
        self._writer = writer

    def write(self, item: Labelled) -> None:
        self._writer.write_labels(item.labels, item.frame.pts, item.frame.duration)

    def write_audio(self, packet: Any) -> None:
        """Nobody listens to labels."""

    def moved(self, path: Path) -> None:
        self._writer.path = path


class Growing:
    """Gives the outputs of a live source their names as soon as the first one can be played.

    A recording then grows under its own name, and a kill leaves it there, playable up to its last second;
    under a temporary name it would lie hidden until somebody looked for it, or the next run swept it away.
    Before that there is nothing worth keeping, and a kill leaves no file that can't be opened.
    """

    def __init__(self, outputs: list[Unfinished], moved: Callable[[Path], None]) -> None:
        """Watch `outputs`, of which the first is the video; `moved` is told its name."""
        self._outputs = outputs
        self._moved = moved
        self._seen = -1

    def look(self) -> str:
        """To be called after every frame; a sentence for the user if a name was taken by somebody else."""
        first = self._outputs[0]
        if first.named or not self._is_playable(first.path):
            return ""
        for output in self._outputs:
            output.name()
        self._moved(first.path)
        return " ".join(output.elsewhere for output in self._outputs if output.elsewhere)

    def _is_playable(self, path: Path) -> bool:
        if path.is_dir():
            return True
        size = path.stat().st_size
        if size == self._seen:
            return False
        self._seen = size
        try:
            with av.open(str(path)) as written:
                return any(packet.size for packet in written.demux(video=0))
        except av.error.FFmpegError:
            return False
