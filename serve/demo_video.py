"""The demo's Video tab: a clip in, an overlay that plays out, with progress and a way to stop it."""

import threading
from collections.abc import Callable, Collection, Mapping
from contextvars import copy_context
from typing import Any

import gradio as gr

from serve.demo_files import Results, Uploads
from serve.demo_limits import VIDEOS, check_video, choose, fraction, too_long
from serve.demo_options import Limits
from serve.errors import InputError
from serve.segmenter import Pixels, Segmentation, Segmenter
from serve.video import VideoReport, segment_video

OUTPUTS = ("overlay", "colors", "side-by-side")
EMPTY = '<p class="hint">Give a video: drop a file or record one, then press Segment.</p>'


class Watched(Segmenter):
    """A Segmenter that reports each run to `watch(frames)`, which may stop the work by raising."""

    def __init__(self, segmenter: Segmenter, watch: Callable[[int], None]) -> None:
        vars(self).update(vars(segmenter))  # the same open graph
        self._watch = watch

    def __call__(
        self, frames: Pixels, tau: float | None = None, *, extras: bool | Collection[str] = False
    ) -> Segmentation:
        self._watch(len(frames) if frames.ndim == 4 else 1)
        return super().__call__(frames, tau, extras=extras)


def outputs_of(segmenter: Segmenter) -> list[str]:
    """What this model's videos can show."""
    return [o for o in OUTPUTS if o != "side-by-side" or "uncorrected_labels" in segmenter.extras]


class VideoDesk:
    """Segments clips for many visitors, each of whom may stop their own."""

    def __init__(
        self, segmenters: Mapping[str, Segmenter], uploads: Uploads, results: Results, limits: Limits
    ) -> None:
        self._segmenters = segmenters
        self._uploads = uploads
        self._results = results
        self._limits = limits
        self._stops: dict[str | None, threading.Event] = {}

    def segment(
        self,
        model: str,
        video: dict[str, Any] | None,
        tau: float | None,
        opacity: float,
        output: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio's way to ask for one
    ) -> tuple[str | None, str]:
        """Segment a video.

        Args:
            model: one of the model names of this server.
            video: the video file.
            tau: strength of the correction, 0 to 2; used by models with runtime tau only.
            opacity: of the overlay's colours, 0 to 1.
            output: "overlay" (frames, colours, legend), "colors" (colours only) or "side-by-side"
                (frames, before and after the correction; for models with the output `uncorrected_labels`).

        Returns:
            An H.264 mp4 with the times and the sound of the source, and a sentence about it.
        """
        if video is None:
            raise InputError("There is no video yet; give one first.")
        if output not in OUTPUTS:
            raise InputError(f"There is no output {output!r}; take one of {', '.join(OUTPUTS)}.")
        upload = self._uploads.find(video)
        segmenter = choose(self._segmenters, model)
        correction = segmenter.correction
        progress(0, desc="Reading")
        frames = check_video(upload, self._limits)
        stop = self._stops[request.session_hash] = threading.Event()
        watched = Watched(segmenter, self._watch(stop, upload.name, frames, progress))
        target = self._results.new_file(f"{upload.stem}-segmented.mp4")
        try:
            report = segment_video(
                watched,
                upload.path,
                target,
                title=upload.name,
                formats=VIDEOS,
                output=output,
                opacity=fraction(opacity),
                tau=tau if correction and correction.runtime_tau else None,
            )
        except InputError as error:
            raise InputError(error.message.replace(str(upload.path), upload.name)) from error
        finally:
            self._stops.pop(request.session_hash, None)
        return str(target), _status(report, segmenter.provider)

    def stop(self, request: gr.Request) -> str:
        """Stop this visitor's video, if one is being segmented."""
        if stop := self._stops.get(request.session_hash):
            stop.set()
        return '<p class="hint">Stopped. Nothing was kept.</p>'

    def _watch(
        self, stop: threading.Event, name: str, frames: int | None, progress: gr.Progress
    ) -> Callable[[int], None]:
        done = 0
        most = self._limits.seconds * 120  # frames, for a file that hides its length
        context = copy_context()  # Gradio finds the visitor by it; frames are segmented in another thread

        def watch(count: int) -> None:
            nonlocal done
            if stop.is_set():
                raise InputError("Stopped; nothing was kept.")
            if frames is None and done > most:
                raise InputError(too_long(name, self._limits.seconds + 1, self._limits))
            context.run(
                progress,
                (done if frames is None else min(done, frames), frames),
                desc="Segmenting",
                unit="frames",
            )
            done += count

        return watch


def _status(report: VideoReport, provider: str) -> str:
    sound = "with its sound" if report.audio_streams else "no sound in the source"
    return (
        f'<p class="hint">{report.frames} frames in {report.seconds:.1f} s '
        f"({report.frames / report.seconds:.1f} per second) on {provider}, {sound}.</p>"
    )
