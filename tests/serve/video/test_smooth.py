"""Smoothing over time, and the flicker that it takes away."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from serve_graphs import halves, write_graph

from serve import Segmenter
from serve.media.video.reader import Frame, VideoReader
from serve.video.segment import segment_video
from serve.video.smooth import Flicker, Smoother


def flickering(path: Path, frames: int = 24) -> Path:
    """Grey noise around a left red and a right green half: labels of the graph change from frame to frame."""
    rng = np.random.default_rng(1)
    base = np.full((72, 96, 3), 60, np.int64)
    base[:, :48, 0] += 12
    base[:, 48:, 1] += 12
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 72, 96, "bgr0"
        for _ in range(frames):
            coarse = rng.normal(0, 6, (18, 24, 3))
            picture = (base + np.kron(coarse, np.ones((4, 4, 1)))).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_smoothing_reduces_the_flicker_and_says_by_how_much(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "m.onnx", extras=True, runtime_tau=True)
    segmenter = Segmenter(graph, threads=1)
    source = flickering(tmp_path / "in.mkv")
    target = tmp_path / "out.mkv"
    report = segment_video(segmenter, source, target, output="labels", smooth=0.5, tau=0)
    assert report.flicker is not None
    before, after = report.flicker
    assert before > 0.1 and after < before / 2
    with av.open(str(target)) as container:
        labels = [f.to_ndarray(format="gray") for f in container.decode(video=0)]
    seen = np.mean([(a != b).mean() for a, b in pairwise(labels)])
    assert abs(seen - after) < 1e-9
    truth = halves(72, 96).argmax(2)
    raw = [(segmenter(p, 0).labels == truth).mean() for p in _pictures(source)]
    assert np.mean([(a == truth).mean() for a in labels[5:]]) > np.mean(raw) + 0.1


def _pictures(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [item.pixels for item in reader.items() if isinstance(item, Frame)]


def test_smoothing_depends_on_time_not_on_the_number_of_frames() -> None:
    """Scores that are constant between two times average to the same, however many frames show them."""

    def decide(scores: np.ndarray, height: int, width: int) -> np.ndarray:
        seen.append(scores.copy())
        return np.zeros((height, width), np.uint8)

    last = []
    for frames in (1, 2, 8):
        seen: list[np.ndarray] = []
        smoother = Smoother(0.3, decide)
        labels = np.zeros((4, 4), np.uint8)
        smoother.smooth(labels, np.full((2, 1, 1), 5.0, np.float32), Fraction(0))
        for step in range(1, frames + 1):
            smoother.smooth(labels, np.full((2, 1, 1), -1.0, np.float32), Fraction(step, frames))
        last.append(float(seen[-1][0, 0, 0]))
    expected = -1 + 6 * np.exp(-1 / 0.3)
    np.testing.assert_allclose(last, expected, rtol=1e-5)


def test_smoothing_starts_anew_at_a_cut() -> None:
    smoother = Smoother(10.0, lambda scores, height, width: np.full((4, 4), scores.argmax(0)[0, 0], np.uint8))
    for number, label in enumerate([0, 0, 0, 1]):
        scores = np.eye(2, dtype=np.float32)[label].reshape(2, 1, 1)
        labels = smoother.smooth(np.full((4, 4), label, np.uint8), scores, Fraction(number, 10))
    assert (labels == 1).all()


def test_flicker_is_the_share_of_changed_pixels() -> None:
    flicker = Flicker()
    assert flicker.share == 0
    for picture in ([[0, 1], [2, 3]], [[0, 1], [2, 4]], [[0, 1], [2, 4]]):
        flicker.add(np.array(picture, np.uint8))
    assert flicker.share == 0.125
