"""The demo's Video tab: a clip in, an overlay that plays out, with progress and a way to stop it."""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from serve.demo.options import Limits
from serve.demo.request import memory as demo_memory
from serve.demo.request.files import Results, Uploads
from serve.demo.request.limits import VIDEOS, check_video, too_many
from serve.demo.request.values import choose, fraction, one_of, strength
from serve.demo.request.work import WORK, Stoppable, Work
from serve.errors import InputError
from serve.inference.segmenter import Segmenter
from serve.video.outputs import OUTPUTS
from serve.video.segment import VideoReport, note, segment_video

EMPTY = '<p class="hint">Give a video: drop a file or record one, then press Segment.</p>'
STOPPED = '<p class="hint">Stopped. Nothing was kept.</p>'


class Answer(NamedTuple):
    """What the page shows, in the order of its components, under the names that the API gives."""

    video: str
    status: str


def outputs_of(segmenter: Segmenter) -> list[str]:
    """What this model's videos can show."""
    both = "uncorrected_labels" in segmenter.extras
    return [name for name, o in OUTPUTS.items() if not o.lossless and (both or not o.uncorrected)]


class VideoDesk:
    """Segments clips for many visitors."""

    def __init__(
        self, segmenters: Mapping[str, Segmenter], uploads: Uploads, results: Results, limits: Limits
    ) -> None:
        self._segmenters = segmenters
        self._uploads = uploads
        self._results = results
        self._limits = limits

    def segment(
        self,
        model: str,
        video: dict[str, Any] | None,
        tau: float | None,
        opacity: float,
        output: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio's way to ask for one
    ) -> Answer:
        """Segment a video.

        Args:
            model: one of the model names of this server.
            video: the video file.
            tau: strength of the correction, 0 to 2; used by models with runtime tau only.
            opacity: of the overlay's colours, 0 to 1.
            output: "overlay" (frames, colours, legend), "colors" (colours only) or "side-by-side"
                (frames, before and after the correction; for models with the output `uncorrected_labels`).

        Returns:
            `video`, an H.264 mp4 with the times and the sound of the source, and `status`, a sentence about
            it as HTML.
        """
        work = WORK.get()
        segmenter = choose(self._segmenters, model)
        one_of(output, outputs_of(segmenter))
        tau, opacity = strength(tau, segmenter), fraction(opacity)
        if video is None:
            raise InputError("There is no video yet; give one first.")
        upload = self._uploads.find(video)
        progress(0, desc="Reading")
        clip = check_video(upload, self._limits, segmenter.runtime.largest)
        target = self._results.new_file(f"{upload.stem}-segmented.mp4")
        try:
            report = segment_video(
                Stoppable(segmenter, work),
                upload.path,
                target,
                title=upload.name,
                formats=VIDEOS,
                on_frame=self._counter(work, upload.name, clip.frames, progress),
                output=output,
                opacity=opacity,
                tau=tau,
                selection=clip.selection,
            )
        except InputError as error:
            message = error.message.replace(str(upload.path), upload.name)
            raise InputError(message.replace(str(segmenter.runtime.path), model)) from error
        finally:
            demo_memory.give_back()
        return Answer(str(target), _status(report, segmenter.provider))

    def _counter(
        self, work: Work, name: str, frames: int | None, progress: gr.Progress
    ) -> Callable[[], None]:
        """What is done after each frame: headers may say little, or lie."""
        done = 0

        def count() -> None:
            nonlocal done
            work.check()
            done += 1
            if done > self._limits.frames:
                raise InputError(too_many(name, done, self._limits))
            shown = done if frames is None else min(done, frames)
            progress((shown, frames), desc="Segmenting", unit="frames")

        return count


def _status(report: VideoReport, provider: str) -> str:
    sound = "with its sound" if report.audio_streams else "no sound in the source"
    also = f" {said[0].upper()}{said[1:]}." if (said := note(report)) else ""
    return (
        f'<p class="hint">{report.frames} frames in {report.seconds:.1f} s '
        f"({report.frames / report.seconds:.1f} per second) on {provider}, {sound}.{escape(also)}</p>"
    )
