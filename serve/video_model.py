"""The inference stage of the video pipeline: frames to labels, in batches if that is faster."""

import time
from collections.abc import Generator
from contextlib import closing
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.segmenter import Segmenter
from serve.video_draw import Labelled
from serve.video_reader import Frame
from serve.video_settings import Settings
from serve.video_smooth import Smoother

_LARGEST = 16
_RUNS = 3  # per size, the first of which may pay for setting up
_WORTH = 0.95  # time per frame that a larger batch has to get below, over the size before


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
        self.smoother = Smoother(settings.smooth, segmenter.labels_of_scores) if settings.smooth else None
        self.batch = BatchSize(1 if live else _LARGEST)
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
                if len(waiting) >= self.batch.size:
                    yield from self._labelled(waiting)
                    waiting = []
            if waiting:
                yield from self._labelled(waiting)

    def _labelled(self, frames: list[Frame]) -> Generator[Labelled]:
        images: NDArray[np.uint8] = np.stack([frame.pixels for frame in frames])
        begin = time.perf_counter()
        try:
            result = self._segmenter(images, self._tau, extras=self._extras)
        except InputError:
            if len(frames) == 1 or self.batch.settled:
                raise
            self.batch.refuse()  # too large for the memory
            for frame in frames:
                yield from self._labelled([frame])
            return
        seconds = time.perf_counter() - begin
        self.seconds += seconds
        if len(frames) == self.batch.size:  # the last ones may be fewer
            self.batch.measured(seconds)
        for position, frame in enumerate(frames):
            labels = result.labels[position]
            if self.smoother and result.scores is not None:
                when = frame.pts * self._time_base
                labels = self.smoother.smooth(labels, result.scores[position], when)
            uncorrected = result.uncorrected_labels
            yield Labelled(frame, labels, None if uncorrected is None else uncorrected[position])


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
        "uncorrected_labels": ("--output side-by-side", settings.output == "side-by-side"),
        "scores": ("--smooth", settings.smooth > 0),
    }
