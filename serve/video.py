"""Segments a video: decode, inference, and drawing with encoding, each in its own thread."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from serve.background import background
from serve.card import Card
from serve.errors import InputError
from serve.files import replacing
from serve.render import Image, Painter, below, every_class, legend
from serve.segmenter import Labels, Segmenter
from serve.video_reader import Frame, VideoReader
from serve.video_writer import VideoWriter

_AHEAD = 4
"""Items that a stage may be ahead of the next one: enough to ride out a slow frame, little memory."""
_GPU_BATCH = 8

Draw = Callable[[Image, Labels], Image]
"""Frame, uint8 [H, W, 3] RGB, and its labels [H, W] -> the output frame; all of one size."""


class Labelled(NamedTuple):
    """A frame with its labels [H, W]."""

    frame: Frame
    labels: Labels


@dataclass(frozen=True)
class VideoReport:
    """What was done to one video."""

    frames: int
    seconds: float
    """Wall-clock time of everything."""
    model_seconds: float
    """Time inside the model."""
    audio_streams: int
    left_out: tuple[str, ...]
    """Kinds of streams of the source that the output lacks."""


def draw_overlay(card: Card, height: int, width: int, opacity: float) -> Draw:
    """Colours over the frame, and a legend of all classes below it."""
    painter = Painter(card.palette)
    strip = legend(every_class(card), height, width)
    return lambda image, labels: below(painter.overlay(image, labels, opacity), strip)


def draw_labels(card: Card) -> Draw:
    """The colour of each pixel's class, nothing else."""
    painter = Painter(card.palette)
    return lambda image, labels: painter.colors(labels)


def segment_video(
    segmenter: Segmenter,
    source: Path,
    target: Path,
    *,
    output: Literal["overlay", "labels"] = "overlay",
    opacity: float = 0.5,
    crf: int = 20,
    tau: float | None = None,
) -> VideoReport:
    """Segment `source` into the mp4 `target`, with the times and the audio of the source.

    `target` appears complete or not at all. A rotated video (a phone's) is turned upright.

    Args:
        output: "overlay" (frame, colours, legend) or "labels" (colours only).
        opacity: of the overlay's colours, in [0, 1].
        crf: x264's quality, 0 to 51; less is better and larger.
        tau: see `Segmenter`.

    Raises:
        InputError: bad video (see VideoReader), bad tau, or a failure to encode.
        OSError: the target can't be written, as when the disk is full.
    """
    segmenter.check_tau(tau)
    begin = time.perf_counter()
    with VideoReader(source) as reader, replacing(target) as temporary, _encoder_errors(source):
        draw = draw_labels(segmenter.card)
        if output == "overlay":
            draw = draw_overlay(segmenter.card, *reader.size, opacity)
        model = _Model(segmenter, tau)
        items = background(model.label(background(reader.items(), _AHEAD)), _AHEAD)
        with (
            closing(items),
            tqdm(total=reader.frames, unit="frame", desc=source.name, mininterval=0.5) as progress,
            _open_writer(reader, draw, temporary, crf) as writer,
        ):
            frames = _encode(items, draw, writer, progress)
    seconds = time.perf_counter() - begin
    return VideoReport(frames, seconds, model.seconds, len(reader.audio), tuple(reader.other_streams))


class _Model:
    """The inference stage, and the time spent in it."""

    def __init__(self, segmenter: Segmenter, tau: float | None) -> None:
        self._segmenter = segmenter
        self._tau = tau
        # One core computes two pictures no faster together than one after the other; a GPU does.
        self._batch = 1 if segmenter.provider in ("cpu", "openvino") else _GPU_BATCH
        self.seconds = 0.0

    def label(self, items: Generator[Any]) -> Generator[Any]:
        """Frames become Labelled; everything else passes, at once."""
        with closing(items):
            waiting: list[Frame] = []
            for item in items:
                if not isinstance(item, Frame):
                    yield item
                    continue
                waiting.append(item)
                if len(waiting) == self._batch:
                    yield from self._labelled(waiting)
                    waiting = []
            if waiting:
                yield from self._labelled(waiting)

    def _labelled(self, frames: list[Frame]) -> list[Labelled]:
        begin = time.perf_counter()
        images: NDArray[np.uint8] = np.stack([frame.pixels for frame in frames])
        labels = self._segmenter(images, self._tau).labels
        self.seconds += time.perf_counter() - begin
        return [Labelled(*pair) for pair in zip(frames, labels, strict=True)]


def _encode(items: Iterable[Any], draw: Draw, writer: VideoWriter, progress: Any) -> int:
    """Draw and write everything; returns the number of frames."""
    frames = 0
    for item in items:
        if isinstance(item, Labelled):
            writer.write_frame(draw(item.frame.pixels, item.labels), item.frame.pts, item.frame.duration)
            progress.update()
            frames += 1
        else:
            writer.write_audio(item)
    return frames


def _open_writer(reader: VideoReader, draw: Draw, path: Path, crf: int) -> VideoWriter:
    sample = draw(*(np.zeros(shape, np.uint8) for shape in ((*reader.size, 3), reader.size)))
    return VideoWriter(
        path,
        height=sample.shape[0],
        width=sample.shape[1],
        time_base=reader.time_base,
        rate=reader.rate,
        crf=crf,
        sample_aspect_ratio=reader.sample_aspect_ratio,
        audio=reader.audio,
    )


@contextmanager
def _encoder_errors(source: Path) -> Iterator[None]:
    """Word libav's complaints for a person; those of the operating system are worded by `replacing`."""
    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise InputError(f"encoding {source} to H.264 failed: {error.strerror}.") from error
