"""Segments a video: decode, inference, and drawing with encoding, each in its own thread."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from serve.background import background
from serve.errors import InputError
from serve.files import replacing
from serve.render import Image
from serve.segmenter import Segmenter
from serve.series import FrameSeries
from serve.series_reader import SeriesReader, open_reader
from serve.video_damage import Damage
from serve.video_draw import Draw, Labelled, drawing
from serve.video_labels import LabelFrames, LabelVideo
from serve.video_model import Model
from serve.video_reader import Frame, VideoReader
from serve.video_settings import ENCODERS, Settings
from serve.video_shares import share_table, shares_file
from serve.video_source import Source, state
from serve.video_writer import VideoWriter

_AHEAD = 4
"""Items that a stage may be ahead of the next one: enough to ride out a slow frame, little memory."""


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
    batch: int = 1
    """Frames per run that the model was given in the end."""
    flicker: tuple[float, float] | None = None
    """Mean share of pixels that change their label from one frame to the next, before and after smoothing;
    None without smoothing."""
    dropped: int = 0
    """Frames of a live source that came faster than they could be segmented."""
    ended: str = ""
    """Why a live source broke off; empty if it did not."""
    damage: Damage = field(default_factory=Damage)
    """What of the source could not be decoded."""
    remarks: tuple[str, ...] = ()
    """What else is to be said of the source, a phrase each."""


def segment_video(
    segmenter: Segmenter,
    source: Source,
    target: Path,
    *,
    title: str | None = None,
    before_naming: Callable[[Path], None] | None = None,
    on_frame: Callable[[], object] = lambda: None,
    formats: str | None = None,
    **settings: Any,
) -> VideoReport:
    """Segment `source` into `target`, with the times and the audio of the source.

    `target` appears complete or not at all. A rotated video (a phone's) is turned upright. A live source ends
    with `selection.end`, when it breaks off, or by Ctrl-C, and is kept up to there.

    Args:
        target: an mp4 file; for the output "labels" an mkv file, for "frames" a folder.
        title: what the progress bar says; None is the name of the source.
        before_naming: called with the complete output while it still has its temporary name.
        on_frame: called after every frame.
        formats: which the file may be read as, see `serve.video_source.open_container`; None is any.
        settings: see serve.video_settings.Settings.

    Raises:
        InputError: bad video (see VideoReader), bad settings, a graph that lacks what they need, a file that
            changed while it was read, or a failure to encode.
        OSError: the target can't be written, as when the disk is full.
    """
    chosen = Settings(**settings)
    begin = time.perf_counter()
    with ExitStack() as stack:
        before = state(source)
        reader = open_reader(source, chosen.selection, formats)
        stack.enter_context(reader)
        model = Model(segmenter, chosen, live=reader.live, time_base=reader.time_base)
        if segmenter.runtime.on_gpu:
            segmenter.warm_up(*reader.size)
        table = None
        if chosen.shares:
            table = stack.enter_context(share_table(shares_file(target, chosen.shares), segmenter.card))
        temporary = stack.enter_context(replacing(target))
        if before_naming is not None:
            stack.push(_on_success(before_naming, temporary))
        stack.enter_context(_encoder_errors(source))
        backlog = _Backlog()
        decoded = background(reader.items(), _AHEAD, backlog.drop if reader.live else None)
        items = stack.enter_context(closing(background(model.label(decoded), _AHEAD)))
        progress = tqdm(
            total=reader.frames, unit="frame", desc=title or _name(source), mininterval=0.5, leave=None
        )
        stack.enter_context(progress)
        sink = stack.enter_context(_open_sink(reader, segmenter, chosen, temporary))
        frames = 0
        try:
            for item in items:
                if not isinstance(item, Labelled):
                    sink.write_audio(item)
                    continue
                sink.write(item)
                if table:
                    table.write(frames, float(item.frame.pts * reader.time_base), item.labels)
                progress.total = reader.frames  # which may turn out to be more
                progress.update()
                on_frame()
                frames += 1
        except KeyboardInterrupt:
            if not (reader.live and frames):
                raise
        if state(source) != before:  # its frames would be of two videos
            raise InputError(f"{source} changed while it was read; wait until it is complete and run again.")
    smoother = model.smoother
    return VideoReport(
        frames,
        time.perf_counter() - begin,
        model.seconds,
        sink.audio_streams,
        (*reader.other_streams, *(["audio"] if len(reader.audio) > sink.audio_streams else [])),
        model.batch.size,
        (smoother.before.share, smoother.after.share) if smoother else None,
        backlog.dropped,
        reader.ended,
        reader.damage,
        reader.remarks,
    )


def _name(source: Source) -> str:
    return source.name if isinstance(source, FrameSeries) else Path(source).name


def _on_success(call: Callable[[Path], None], path: Path) -> Callable[..., None]:
    def leave(failure: type[BaseException] | None, *_: object) -> None:
        if failure is None:
            call(path)

    return leave


class _Backlog:
    """Lets go of the frames of a live source that there is no time for; the times of the others stand."""

    def __init__(self) -> None:
        self.dropped = 0

    def drop(self, item: Any) -> bool:
        if not isinstance(item, Frame):
            return False
        self.dropped += 1
        return True


class _DrawnSink:
    """Frames as pictures, and the sound, to an mp4."""

    def __init__(self, draw: Draw, writer: VideoWriter, audio_streams: int) -> None:
        self._draw = draw
        self._writer = writer
        self.audio_streams = audio_streams

    def write(self, item: Labelled) -> None:
        self._writer.write_frame(self._draw(item), item.frame.pts, item.frame.duration)

    def write_audio(self, packet: Any) -> None:
        self._writer.write_audio(packet)


class _LabelSink:
    """Label maps alone."""

    audio_streams = 0

    def __init__(self, writer: LabelVideo | LabelFrames) -> None:
        self._writer = writer

    def write(self, item: Labelled) -> None:
        self._writer.write_labels(item.labels, item.frame.pts, item.frame.duration)

    def write_audio(self, packet: Any) -> None:
        """Nobody listens to labels."""


@contextmanager
def _open_sink(
    reader: VideoReader | SeriesReader, segmenter: Segmenter, settings: Settings, path: Path
) -> Iterator[_DrawnSink | _LabelSink]:
    height, width = reader.size
    if settings.output == "frames":
        with LabelFrames(path, time_base=reader.time_base) as frames:
            yield _LabelSink(frames)
        return
    common = {"time_base": reader.time_base, "rate": reader.rate}
    if settings.output == "labels":
        with LabelVideo(path, segmenter.card, height=height, width=width, **common) as video:
            yield _LabelSink(video)
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
        **common,
    ) as writer:
        yield _DrawnSink(draw, writer, len(reader.audio))


@contextmanager
def _encoder_errors(source: Source) -> Iterator[None]:
    """Word libav's complaints for a person; those of the operating system are worded by `replacing`."""
    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise InputError(f"encoding {source} failed: {error.strerror}.") from error
