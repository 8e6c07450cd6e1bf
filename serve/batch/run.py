"""Segments many videos: resumes where it was interrupted, and a bad one stops nothing."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from serve.batch import sidecar as batch_sidecar
from serve.batch.inputs import target_of
from serve.errors import InputError
from serve.inference.segmenter import Segmenter
from serve.media.files import check_outputs
from serve.media.partial import sweep
from serve.media.progress import Bar
from serve.media.series import FrameSeries
from serve.media.video.source import Selection, Source, listed_frames
from serve.media.whole import replacing
from serve.video.model import check_outputs_of
from serve.video.outputs import OUTPUTS
from serve.video.segment import VideoReport, note, segment_video
from serve.video.settings import Settings

REPORT = "report.json"

Status = Literal["done", "skipped", "failed", "not reached"]


@dataclass(frozen=True)
class Job:
    """One video of a batch."""

    source: Source
    target: Path
    origin: dict[str, Any]
    """What its output depends on, see serve.batch.sidecar."""
    finished: batch_sidecar.Finished | None = None
    """What an earlier batch made, if it is just this output."""
    overwrite: bool = False
    """Whether it may replace what somebody else puts there meanwhile."""


@dataclass(frozen=True)
class Outcome:
    """What became of one video."""

    source: str
    output: str
    status: Status = "not reached"
    """"skipped": an earlier batch had finished it."""
    error: str = ""
    """Why it failed, in one sentence."""
    video: VideoReport | None = None
    """Of a skipped one, what the earlier batch said; None if it failed or was not reached."""


Work = Callable[[Job, str, Callable[[], object]], VideoReport]
"""Segments the video of a job, under a title for its progress bar; calls the function after every frame."""


def plan(
    segmenter: Segmenter,
    sources: Sequence[Source],
    folder: Path,
    settings: Settings,
    *,
    tile: int | str | None = None,
    force: bool = False,
) -> list[Job]:
    """Check a batch before any work starts.

    Args:
        tile: what `segmenter` was opened with, as outputs depend on it.
        force: do everything again and overwrite what is there.

    Raises:
        InputError: a graph that lacks what the settings need, or an output that exists and was made from
            something else, or that can't be written.
    """
    check_outputs_of(segmenter, settings)
    model = batch_sidecar.fingerprint(segmenter.runtime.path)
    jobs = []
    for source in sources:
        target = target_of(source, folder, settings.output)
        origin = batch_sidecar.origin(source, model, settings, tile, segmenter.profile)
        finished = None if force else batch_sidecar.finished(target, origin)
        jobs.append(Job(source, target, origin, finished, force))
    waiting = [job.target for job in jobs if not job.finished]
    check_outputs(waiting, force, folders=not OUTPUTS[settings.output].suffix)
    check_outputs([folder / REPORT], force=True)
    for job in jobs:
        _refuse_input_as_output(job)
    return jobs


def _refuse_input_as_output(job: Job) -> None:
    """An output replaces what is at its place whole: a file, or a folder with all that it holds."""
    if isinstance(job.source, str) or not job.target.exists():
        return
    first = job.source.files[0] if isinstance(job.source, FrameSeries) else job.source
    if first.exists() and any(job.target.samefile(each) for each in (first, *first.resolve().parents)):
        raise InputError(f"{job.target} is the input itself, or holds it; choose another folder.")


def local_work(segmenter: Segmenter, settings: Settings) -> Work:
    """Segment a job's video in this process."""
    named = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}

    def work(job: Job, title: str, on_frame: Callable[[], object]) -> VideoReport:
        sweep(job.target.parent)

        def sign(made: Path, report: VideoReport) -> None:
            batch_sidecar.write(job.target, made, job.origin, report)

        return segment_video(
            segmenter,
            job.source,
            job.target,
            title=title,
            before_naming=sign,
            on_frame=on_frame,
            overwrite=job.overwrite,
            **named,
        )

    return work


def run_batch(
    jobs: Sequence[Job], folder: Path, work: Work, selection: Selection, left_out: Sequence[Path] = ()
) -> list[Outcome]:
    """Do the jobs one after the other; report.json in `folder` says what became of each, even if interrupted.

    Args:
        selection: which part of each video is read; progress and time left are counted in its frames.
        left_out: what the inputs hold besides, for the report.

    Raises:
        OSError: an output can't be written, which would hit all the others too.
    """
    outcomes = [Outcome(str(job.source), str(job.target)) for job in jobs]
    listed = [0 if job.finished else listed_frames(job.source, selection) for job in jobs]
    expected: float = sum(listed)
    try:
        with Bar(total=expected, unit="frame", desc="all", disable=len(jobs) == 1) as progress:
            for position, job in enumerate(jobs):
                title = f"{job.target.stem} [{position + 1}/{len(jobs)}]"
                before = progress.n
                outcomes[position] = _outcome(job, work, title, progress.update)
                done = outcomes[position].video
                if done and not job.finished and done.interrupted and position + 1 < len(jobs):
                    raise KeyboardInterrupt
                expected += progress.n - before - listed[position]
                progress.total = expected  # for the time left of the others
                progress.refresh()
    finally:
        write_report(folder / REPORT, outcomes, left_out)
    return outcomes


def _outcome(job: Job, work: Work, title: str, on_frame: Callable[[], object]) -> Outcome:
    names = str(job.source), str(job.target)
    if job.finished:
        return Outcome(*names, "skipped", video=job.finished.video)
    try:
        return Outcome(*names, "done", video=work(job, title, on_frame))
    except InputError as error:
        return Outcome(*names, "failed", error.message)


def write_report(path: Path, outcomes: Sequence[Outcome], left_out: Sequence[Path] = ()) -> None:
    """Write as JSON what became of each video, and what the inputs hold besides."""
    counts = {status: sum(o.status == status for o in outcomes) for status in get_args(Status)}
    files = [dataclasses.asdict(outcome) for outcome in outcomes]
    content = {"counts": counts, "files": files, "left_out": list(map(str, left_out))}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def to_table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes for a person."""
    rows = [("video", "result", "frames", "frames/s", "note")]
    for outcome in outcomes:
        frames = rate = ""
        said = outcome.error
        if done := outcome.video:
            frames, said = str(done.frames), note(done)
            rate = f"{done.frames / done.seconds:.1f}" if outcome.status == "done" else ""
        rows.append((outcome.source, outcome.status, frames, rate, said))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(w) if i in (2, 3) else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
