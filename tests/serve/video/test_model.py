"""How many frames a run takes, and how many runs go side by side."""

import threading
import time
from itertools import count
from pathlib import Path

import av
import numpy as np
from noise_clips import noise_clip
from serve_graphs import write_clip

from serve import Segmenter
from serve.errors import InputError
from serve.video.model import BatchSize, callers
from serve.video.segment import segment_video


def settle(seconds_per_frame: dict[int, float], largest: int = 16) -> list[int]:
    """Sizes of the runs until the batch size is settled, and the one it settles on."""
    batch = BatchSize(largest)
    sizes = []
    while not batch.settled:
        sizes.append(batch.size)
        batch.measured(seconds_per_frame[batch.size] * batch.size)
    return [*sizes, batch.size]


def test_the_batch_size_grows_only_while_that_is_faster() -> None:
    assert settle({1: 1.0, 2: 1.0}) == [1, 1, 1, 2, 2, 2, 1]
    assert settle({1: 1.0, 2: 0.7, 4: 0.6, 8: 0.59}) == [1] * 3 + [2] * 3 + [4] * 3 + [8] * 3 + [4]
    assert settle({1: 1.0, 2: 0.5, 4: 0.25}, largest=4)[-1] == 4
    assert settle({}, largest=1) == [1]


def test_a_slow_first_run_decides_nothing() -> None:
    batch = BatchSize()
    for seconds in (9.0, 1.0, 1.0, 2.0, 2.0, 2.0):
        batch.measured(seconds)
    assert batch.settled and batch.size == 1


def test_a_batch_too_large_for_the_memory_is_taken_back(tmp_path: Path, monkeypatch, segmenter) -> None:
    original = Segmenter.__call__
    calls: list[int] = []

    def call(self, frames, tau=None, *, extras=False):
        calls.append(len(frames))
        if len(frames) > 2:
            raise InputError("out of memory")
        time.sleep(0.02 / len(frames))
        return original(self, frames, tau, extras=extras)

    monkeypatch.setattr(Segmenter, "__call__", call)
    report = segment_video(segmenter, write_clip(tmp_path / "in.mp4", times=range(30)), tmp_path / "out.mp4")
    assert report.frames == 30 and report.batch == 2 and calls.count(4) == 1


def test_frames_side_by_side_leave_in_their_order(tmp_path: Path, segmenter: Segmenter, monkeypatch) -> None:
    source, pictures = noise_clip(tmp_path / "in.mkv")
    two = Segmenter(segmenter.runtime.path, threads=2, callers=2)
    original = Segmenter.__call__
    numbers = count()
    overtaken = threading.Event()

    def call(self, *args, **kwargs):
        number = next(numbers)
        assert number or overtaken.wait(30), "the second frame waits for the first one"
        result = original(self, *args, **kwargs)
        if number == 1:
            overtaken.set()
        return result

    expected = segmenter(pictures).labels
    monkeypatch.setattr(Segmenter, "__call__", call)
    report = segment_video(two, source, tmp_path / "out.mkv", output="labels")
    assert report.frames == len(pictures) and report.batch == 1
    with av.open(str(tmp_path / "out.mkv")) as container:
        made = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(made, expected)


def test_a_video_takes_as_many_threads_as_were_asked_for() -> None:
    assert [callers(threads) for threads in (1, 2, 4, 64)] == [1, 2, 2, 2]
    assert 1 <= callers(None) <= 2
