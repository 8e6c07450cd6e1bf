"""The inference stage of the video pipeline: frames to labels, several at once.

On a CPU, two frames are run side by side, which keeps all cores busy while others are decoded and encoded: at
1280x720 on two cores it took a fifth off the time of one frame after the other, and batches never paid. (More
cores were not at hand to measure on.) On a GPU, frames go in batches, if that is faster.
"""

import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.cores import cores
from serve.errors import InputError
from serve.inference.segmenter import Segmentation, Segmenter
from serve.media.video.reader import Frame
from serve.video.draw import Labelled
from serve.video.outputs import OUTPUTS
from serve.video.settings import Settings
from serve.video.smooth import Smoother

_SIDE_BY_SIDE = 2  # frames, at most: each needs the memory of a run, a gigabyte for MiT-B0 at 1280x720
_WAITING = 2  # frames per caller that wait for one, so that none waits for a slower one before it
_LARGEST = 16
_RUNS = 3  # per size, the first of which may pay for setting up
_WORTH = 0.95  # time per frame that a larger batch has to get below, over the size before


def callers(threads: int | None) -> int:
    """How many frames of a video to run at the same time on so many CPU threads (None: one per core)."""
    return min(threads or cores(), _SIDE_BY_SIDE)


class BatchSize:
    """Finds how many frames per run take the least time per frame, on the work itself.

    It doubles `size` as long as that saves 5 % per frame, so it settles after a few dozen frames at most and
    no frame is computed twice.
    """

    def __init__(self, largest: int = _LARGEST) -> None:
        self.size = 1
        self.settled = largest == 1
        self._largest = largest
        self._best = float("inf")
        self._times: list[float] = []

    def measured(self, seconds: float) -> None:
        """A run of `size` frames took so long."""
        if self.settled:
            return
        self._times.append(seconds / self.size)
        if len(self._times) < _RUNS:
            return
        fastest = min(self._times)
        self._times.clear()
        if fastest > self._best * _WORTH:
            self.refuse()
        elif 2 * self.size > self._largest:
            self.settled = True
        else:
            self._best = fastest
            self.size *= 2

    def refuse(self) -> None:
        """The present size is not worth it, or too large for the memory: go back for good."""
        self.size = max(self.size // 2, 1)
        self.settled = True


class Model:
    """Labels the frames of one video, and counts what that takes."""

    def __init__(self, segmenter: Segmenter, settings: Settings, *, live: bool, time_base: Fraction) -> None:
        """Prepare for one video.

        Args:
            live: frames come in their own time, so waiting for a batch would only delay them.
            time_base: seconds per unit of the frames' times.

        Raises:
            InputError: the graph lacks the output that the settings need.
        """
        check_outputs_of(segmenter, settings)
        self._segmenter = segmenter
        self._tau = settings.tau
        self._extras = [name for name, (_, wanted) in _needs(settings).items() if wanted]
        self._time_base = time_base
        decide = partial(segmenter.labels_of_scores, tau=settings.tau)
        self.smoother = Smoother(settings.smooth, decide) if settings.smooth else None
        self.batch = BatchSize(1 if live or segmenter.callers > 1 else _LARGEST)
        self.seconds = 0.0
        """Time inside the model; of frames side by side, their share of it."""

    def label(self, items: Generator[Any]) -> Generator[Any]:
        """Frames become Labelled; everything else passes, at once."""
        with closing(items):
            yield from self._in_turn(items) if self._segmenter.callers == 1 else self._side_by_side(items)

    def _side_by_side(self, items: Generator[Any]) -> Generator[Any]:
        """Frames leave in the order in which they came, whichever is done first."""
        lanes = self._segmenter.callers
        pool = ThreadPoolExecutor(lanes)
        waiting: deque[tuple[Frame, Future[tuple[Segmentation, float]]]] = deque()

        def first() -> Labelled:
            frame, future = waiting.popleft()
            result, seconds = future.result()
            self.seconds += seconds / lanes
            return self._labelled(frame, result, 0)

        try:
            for item in items:
                if not isinstance(item, Frame):
                    yield item
                    continue
                waiting.append((item, pool.submit(self._run, item.pixels[None])))
                if len(waiting) > lanes * (1 + _WAITING):
                    yield first()
            while waiting:
                yield first()
        finally:
            pool.shutdown(cancel_futures=True)

    def _in_turn(self, items: Generator[Any]) -> Generator[Any]:
        """One run after the other, of as many frames as is fastest."""
        waiting: list[Frame] = []
        for item in items:
            if not isinstance(item, Frame):
                yield item
                continue
            waiting.append(item)
            if len(waiting) >= self.batch.size:
                yield from self._batch(waiting)
                waiting = []
        if waiting:
            yield from self._batch(waiting)

    def _batch(self, frames: list[Frame]) -> Generator[Labelled]:
        try:
            result, seconds = self._run(np.stack([frame.pixels for frame in frames]))
        except InputError:
            if len(frames) == 1 or self.batch.settled:
                raise
            self.batch.refuse()  # too large for the memory
            for frame in frames:
                yield from self._batch([frame])
            return
        self.seconds += seconds
        if len(frames) == self.batch.size:  # the last ones may be fewer
            self.batch.measured(seconds)
        for position, frame in enumerate(frames):
            yield self._labelled(frame, result, position)

    def _run(self, images_NHWC: NDArray[np.uint8]) -> tuple[Segmentation, float]:
        """Also the seconds that it took."""
        begin = time.perf_counter()
        result = self._segmenter(images_NHWC, self._tau, extras=self._extras)
        return result, time.perf_counter() - begin

    def _labelled(self, frame: Frame, result: Segmentation, position: int) -> Labelled:
        """A frame with its part of a result; to be called in the order of the frames."""
        labels = result.labels[position]
        if self.smoother and result.scores is not None:
            labels = self.smoother.smooth(labels, result.scores[position], frame.pts * self._time_base)
        uncorrected = result.uncorrected_labels
        return Labelled(frame, labels, None if uncorrected is None else uncorrected[position])


def check_outputs_of(segmenter: Segmenter, settings: Settings) -> None:
    """Raise InputError unless the graph has the optional outputs that `settings` need, and takes its tau."""
    segmenter.check_tau(settings.tau)
    for name, (option, wanted) in _needs(settings).items():
        if wanted and name not in segmenter.extras:
            raise InputError(
                f"{segmenter.runtime.path} has no output {name!r}, which {option} needs; export it again "
                f"with --{name.replace('_', '-')}."
            )


def _needs(settings: Settings) -> dict[str, tuple[str, bool]]:
    """Optional outputs of a graph: the option that needs each, and whether it is on."""
    return {
        "uncorrected_labels": (f"--output {settings.output}", OUTPUTS[settings.output].uncorrected),
        "scores": ("--smooth", settings.smooth > 0),
    }
