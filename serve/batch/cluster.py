"""Many videos on a Ray cluster: files are spread over its workers, long ones by segments cut at key frames.

A segment's labels are written without loss; when all are there, one worker draws and encodes the whole video
from them, in one piece. So the encoder gets the same frames as on one machine, whatever was cut, and each
step may be repeated elsewhere when a worker is lost. All paths must mean the same files on every worker, as
on shared storage, and every worker has this package installed.

Segments need each frame's label to depend on that frame alone, and one map per frame: with `smooth`, `every`
or the output "side-by-side", files are spread but not cut.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from serve.batch import sidecar as batch_sidecar
from serve.batch.run import Job, Outcome, local_work
from serve.errors import InputError
from serve.inference.segmenter import Pixels, Segmentation, Segmenter
from serve.media.progress import Bar
from serve.media.video.packets import readable_packets
from serve.media.video.source import MICROSECOND, Selection, find_stream, open_container, rate_of, resets
from serve.media.video.times import RunningTime
from serve.video.model import callers
from serve.video.outputs import OUTPUTS
from serve.video.segment import VideoReport, segment_video
from serve.video.settings import Settings

SEGMENT = Fraction(60)
"""Seconds of video that are worth a segment of their own."""
_RETRIES = 5


@dataclass(frozen=True)
class Opening:
    """How a worker opens the model."""

    path: Path
    fingerprint: str
    """SHA-256 that the file must have, so that no worker runs another model."""
    provider: Any = "auto"
    threads: int = 2
    tile: Any = None
    profile: str | None = None

    @property
    def resources(self) -> dict[str, float]:
        """What Ray sets aside for one step."""
        gpu = {"num_gpus": 1.0} if self.provider in ("cuda", "tensorrt") else {}
        return {"num_cpus": float(self.threads), **gpu}


@lru_cache(maxsize=1)
def _open(opening: Opening) -> Segmenter:
    """A worker process keeps its model from one step to the next."""
    if not opening.path.is_file() or batch_sidecar.fingerprint(opening.path) != opening.fingerprint:
        raise InputError(f"{opening.path} is missing or another file on a worker; put it on shared storage.")
    return Segmenter(
        opening.path,
        provider=opening.provider,
        threads=opening.threads,
        tile=opening.tile,
        callers=callers(opening.threads),
        profile=opening.profile,
    )


def segments(source: Path, selection: Selection, length: Fraction = SEGMENT) -> list[Selection]:
    """Cut the selection of a video at key frames into segments of `length` seconds or a little more."""
    if selection.every != 1:
        return [selection]
    cuts = [selection.start]
    for time in _key_frames(source):
        if selection.end is not None and time >= selection.end:
            break
        if time - cuts[-1] >= length:
            cuts.append(time)
    ends = [*cuts[1:], selection.end]
    return [replace(selection, start=start, end=end) for start, end in zip(cuts, ends, strict=True)]


def _key_frames(source: Path) -> list[Fraction]:
    """Times of the key frames, in seconds from the start of the video; none where the file gives no times."""
    with open_container(source) as container:
        stream = find_stream(container, source)
        start, step = (container.start_time or 0) * MICROSECOND, 1 / rate_of(stream)
        times = RunningTime(start, step=step, resets=resets(container))
        packets = times.packets(p for p in readable_packets(container) if p.stream is stream)
        return sorted(p.pts * p.time_base for p in packets if p.is_keyframe and p.pts is not None)


class Recorded(Segmenter):
    """A Segmenter that has the labels of a video's frames already: in order, in label videos."""

    def __init__(self, segmenter: Segmenter, parts: Sequence[Path]) -> None:
        vars(self).update(vars(segmenter))  # the same card and outputs
        self._callers = 1  # as they come in order
        self._labels = _read_labels(parts)

    def __call__(self, frames: Pixels, tau: float | None = None, *, extras: Any = False) -> Segmentation:
        labels = list(islice(self._labels, len(frames)))
        if len(labels) != len(frames) or labels[0].shape != frames.shape[1:3]:
            raise InputError("the segments do not add up to the video; was it altered meanwhile?")
        return Segmentation(np.stack(labels))


def _read_labels(parts: Sequence[Path]) -> Iterator[Any]:
    for part in parts:
        with av.open(str(part)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray()


def label_segment(opening: Opening, source: Path, part: Path, settings: Settings) -> VideoReport | str:
    """One segment's labels to the label video `part`; or why not, in one sentence."""
    try:
        return segment_video(
            _open(opening), source, part, output="labels", tau=settings.tau, selection=settings.selection
        )
    except InputError as error:
        return error.message


def finish(
    opening: Opening, job: Job, settings: Settings, parts: Sequence[Path], *labelled: VideoReport | str
) -> VideoReport | str:
    """The output of a job: from its labelled segments, or without any, all at once; or why not."""
    failures = [each for each in labelled if isinstance(each, str)]
    if failures:
        return failures[0]
    try:
        segmenter = _open(opening)
        # Of a damaged video, other frames can be decoded from a key frame on than from the start.
        if not parts or any(isinstance(each, VideoReport) and each.damage for each in labelled):
            return local_work(segmenter, settings)(job, job.target.stem, _nobody)
        report = local_work(Recorded(segmenter, parts), settings)(job, job.target.stem, _nobody)
    except InputError as error:
        return error.message
    reports = [each for each in labelled if isinstance(each, VideoReport)]
    return replace(report, model_seconds=sum(each.model_seconds for each in reports))


def _nobody() -> None:
    """Who watches the frames of a worker."""


def run_on_cluster(
    jobs: Sequence[Job],
    opening: Opening,
    settings: Settings,
    address: str = "auto",
    length: Fraction = SEGMENT,
) -> list[Outcome]:
    """Do the jobs on the Ray cluster at `address` ("auto": the one of this machine, "local": start one).

    Raises:
        InputError: Ray is not installed, or no cluster answers.
    """
    jobs = [_absolute(job) for job in jobs]
    ray = connect(address)
    label = ray.remote(label_segment).options(max_retries=_RETRIES, **opening.resources)
    last = ray.remote(finish).options(max_retries=_RETRIES, **opening.resources)
    folders: list[Path] = []
    waiting: dict[Any, int] = {}
    outcomes = [Outcome(str(job.source), str(job.target)) for job in jobs]
    try:
        for position, job in enumerate(jobs):
            if job.finished:
                video = job.finished.video
                outcomes[position] = replace(outcomes[position], status="skipped", video=video)
                continue
            try:
                cuts = _cuts(job, settings, length)
            except InputError as error:
                outcomes[position] = replace(outcomes[position], status="failed", error=error.message)
                continue
            folder = job.target.with_name(f".{job.target.name}.segments")
            folders.append(folder)
            parts = [folder / f"{number:05d}.mkv" for number in range(len(cuts))] if len(cuts) > 1 else []
            labelled = [
                label.remote(opening, job.source, part, replace(settings, selection=cut))
                for part, cut in zip(parts, cuts, strict=False)
            ]
            waiting[last.remote(opening, job, settings, parts, *labelled)] = position
        _collect(ray, waiting, outcomes)
    finally:
        ray.shutdown()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    return outcomes


def _absolute(job: Job) -> Job:
    """Workers have other working folders."""
    source = job.source if isinstance(job.source, str) else job.source.resolve()
    return replace(job, source=source, target=job.target.resolve())


def _cuts(job: Job, settings: Settings, length: Fraction) -> list[Selection]:
    if not isinstance(job.source, Path) or settings.smooth or OUTPUTS[settings.output].uncorrected:
        return [settings.selection]
    return segments(job.source, settings.selection, length)


def _collect(ray: Any, waiting: dict[Any, int], outcomes: list[Outcome]) -> None:
    """Fill in the outcomes as they come."""
    with Bar(total=len(waiting), unit="file") as progress:
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            position = waiting.pop(ready)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayError as error:
                result = f"the cluster gave it up: {str(error).strip().splitlines()[0]}"
            names = outcomes[position]
            if isinstance(result, str):
                outcomes[position] = replace(names, status="failed", error=result)
            else:
                outcomes[position] = replace(names, status="done", video=result)
            progress.update()


def connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed; run `pip install 'blda[cluster]'`.") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise InputError(
            f"no Ray cluster answers at {address}; start one with `ray start --head`, or give its address or "
            "`--ray local`."
        ) from error
    return ray
