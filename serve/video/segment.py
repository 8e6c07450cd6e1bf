"""Segments a video: decode, inference, and drawing with encoding, each in its own thread."""

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import av

from serve.background import background
from serve.errors import InputError
from serve.inference.segmenter import Segmenter
from serve.interruption import Interruption
from serve.media.progress import Bar
from serve.media.series import FrameSeries
from serve.media.video.damage import Damage
from serve.media.video.live import LiveItems
from serve.media.video.reader import Frame
from serve.media.video.series_reader import Reader, SeriesReader, open_reader
from serve.media.video.source import Source, state
from serve.media.whole import Unfinished, unfinished
from serve.video.draw import Labelled
from serve.video.model import Model
from serve.video.outputs import OUTPUTS
from serve.video.settings import Settings
from serve.video.shares import share_table, shares_file
from serve.video.sink import Growing, Sink, open_sink

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
    sound_changes: tuple[str, ...] = ()
    """What the sound lost, a phrase each."""
    breaks: int = 0
    """How often a live source broke off and came back."""
    gone: float = 0.0
    """How long it was gone then, in seconds of all breaks together."""
    ended: str = ""
    """Why a live source broke off for good; empty if it did not."""
    interrupted: bool = False
    """Whether the recording of a live source was ended by Ctrl-C or SIGTERM."""
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
    before_naming: Callable[[Path, VideoReport], object] = lambda *_: None,
    on_frame: Callable[[], object] = lambda: None,
    formats: str | None = None,
    overwrite: bool = True,
    **settings: Any,
) -> VideoReport:
    """Segment `source` into `target`, with the times and the audio of the source.

    `target` appears complete or not at all. A rotated video (a phone's) is turned upright.

    A live source ends with `selection.end`, when it breaks off for good, or by Ctrl-C, and is kept up to
    there. Its `target` appears with the first second and grows, so that a kill costs the last second only.

    Args:
        target: an mp4 file; for the output "labels" an mkv file, for "frames" a folder.
        title: what the progress bar says; None is the name of the source.
        before_naming: called with the complete output while it still has its temporary name, and what is
            returned.
        on_frame: called after every frame.
        formats: which the file may be read as, see `serve.media.video.source.open_container`; None is any.
        overwrite: replace what is at `target` in the end; else it is kept, see
            `serve.media.whole.unfinished`.
        settings: see serve.video.settings.Settings.

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
        model = Model(segmenter, chosen, live=reader.live, time_base=reader.time_base)
        if segmenter.runtime.on_gpu:
            segmenter.warm_up(*reader.size)
        line = stack.enter_context(_Line(reader, model, chosen))
        table = None
        outputs = []
        if chosen.shares:
            shares = stack.enter_context(unfinished(shares_file(target, chosen.shares), overwrite=overwrite))
            outputs = [shares] if chosen.shares == "csv" else []  # Parquet is nothing without its end
            table = stack.enter_context(closing(share_table(shares.path, segmenter.card)))
        output = stack.enter_context(
            unfinished(target, overwrite=overwrite, folder=not OUTPUTS[chosen.output].suffix)
        )
        stack.push(_on_success(lambda made: before_naming(made, report()), output))
        stack.enter_context(_encoder_errors(source))
        progress = Bar(
            total=reader.frames, unit="frame", desc=title or _name(source), mininterval=0.5, leave=None
        )
        stack.enter_context(progress)
        sink = stack.enter_context(open_sink(reader, segmenter, chosen, output.path))
        growing = Growing([output, *outputs], sink.moved) if reader.live else None
        frames = 0

        def report() -> VideoReport:
            return _report(reader, model, line, sink, frames, time.perf_counter() - begin)

        try:
            for item in line.items():
                if not isinstance(item, Labelled):
                    sink.write_audio(item)
                    continue
                sink.write(item)
                if table:
                    table.write(frames, float(item.frame.pts * reader.time_base), item.labels)
                progress.total = reader.frames  # which may turn out to be more
                if growing and (said := growing.look()):
                    Bar.write(said, file=sys.stderr)
                progress.update()
                on_frame()
                frames += 1
        except KeyboardInterrupt:
            if not (reader.live and frames):
                raise
            line.interrupted = True
        if state(source) != before:  # its frames would be of two videos
            raise InputError(f"{source} changed while it was read; wait until it is complete and run again.")
    return report()


def _report(
    reader: Reader, model: Model, line: "_Line", sink: Sink, frames: int, seconds: float
) -> VideoReport:
    smoother, live = model.smoother, line.live
    return VideoReport(
        frames=frames,
        seconds=seconds,
        model_seconds=model.seconds,
        audio_streams=sink.audio_streams,
        left_out=(*reader.other_streams, *(["audio"] if len(reader.audio) > sink.audio_streams else [])),
        batch=model.batch.size,
        flicker=(smoother.before.share, smoother.after.share) if smoother else None,
        dropped=line.dropped,
        sound_changes=sink.sound_changes,
        breaks=live.breaks if live else 0,
        gone=round(live.gone, 1) if live else 0.0,
        ended=live.ended if live else "",
        interrupted=line.interrupted,
        damage=live.damage if live else reader.damage,
        remarks=reader.remarks,
    )


def _name(source: Source) -> str:
    return source.name if isinstance(source, FrameSeries) else Path(source).name


def _on_success(call: Callable[[Path], object], output: Unfinished) -> Callable[..., None]:
    def leave(failure: type[BaseException] | None, *_: object) -> None:
        if failure is None and not output.is_taken:
            call(output.path)

    return leave


class _Line:
    """The stages up to the model, each in a thread of its own; leaving the `with` block stops them.

    Attributes:
        live: what became of the connection to a live source; None for a file.
        dropped: frames of a live source that there was no time for; the times of the others stand.
        interrupted: whether Ctrl-C ended it.
    """

    def __init__(self, reader: Reader, model: Model, settings: Settings) -> None:
        self.live: LiveItems | None = None
        self.dropped = 0
        self.interrupted = False
        self._interruption = Interruption()
        self._stack = ExitStack()
        if isinstance(reader, SeriesReader) or not reader.live:
            self._stack.enter_context(reader)
            read, drop, stop = reader.items(), None, None
        else:  # whoever reads it closes it, as that one may hang in it
            stop = Event()
            self._stack.enter_context(self._interruption)
            self.live = LiveItems(reader, settings.selection, settings.reconnect, stop)
            read, drop = self.live.items(), self._drop
        decoded = background(read, _AHEAD, drop, stop)
        self._labelled = background(model.label(decoded), _AHEAD, stop=stop)
        self._stack.enter_context(closing(self._labelled))

    def __enter__(self) -> "_Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def items(self) -> Generator[Any]:
        """Labelled frames, and packets of sound. Ctrl-C ends a recording between two of them only."""
        if self.live is None:
            yield from self._labelled
            return
        while True:
            with self._interruption.waiting():
                item = next(self._labelled, None)
            if item is None:
                return
            yield item

    def _drop(self, item: Any) -> bool:
        if not isinstance(item, Frame):
            return False
        self.dropped += 1
        return True


@contextmanager
def _encoder_errors(source: Source) -> Iterator[None]:
    """Word libav's complaints for a person; those of the operating system are worded by `replacing`."""
    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise InputError(f"encoding {source} failed: {error.strerror}.") from error


def note(video: VideoReport) -> str:
    """What else is to be said of a finished video; empty for most."""
    notes = [str(video.damage), *video.remarks] if video.damage else list(video.remarks)
    if video.flicker:
        before, after = video.flicker
        notes.append(f"flicker {before:.2%} -> {after:.2%} of the pixels per frame")
    if video.left_out:
        notes.append(f"left out: {', '.join(video.left_out)}")
    notes += video.sound_changes
    if video.dropped:
        notes.append(f"{video.dropped} frames came too fast and were dropped")
    if video.breaks:
        times = "once" if video.breaks == 1 else f"{video.breaks} times"
        notes.append(f"the stream broke off {times} and came back, gone for {video.gone:.1f} s in all")
    if video.ended:
        notes.append(f"the stream broke off: {video.ended}")
    return "; ".join(notes)
