"""A recording grows as it is made: a kill takes its last second at most."""

from fractions import Fraction

import av
import numpy as np
import pytest
from live_sources import RATE, Take, camera, write_stream
from recordings import names, recording, times, until
from serve_graphs import card

from serve.video.labels import LabelVideo
from serve.video.outputs import ENCODERS
from serve.video.segment import segment_video
from serve.video.writer import VideoWriter


def test_kill_9_keeps_what_was_recorded(graph, tmp_path, streams) -> None:
    out = tmp_path / "live.mp4"
    with (
        camera(Take(streams["long"], 60)) as source,
        recording(graph, source, "-o", out, "--shares") as running,
    ):
        assert until(lambda: out.exists() and times(out)[-1] > 1)
        running.kill()
        running.wait()
    kept = times(out)
    assert kept[-1] > 1 and names(tmp_path) == {"live.mp4", "live.shares.csv"}
    rows = (tmp_path / "live.shares.csv").read_text().splitlines()
    assert rows[0].startswith("frame,") and len(kept) <= len(rows) - 1 <= len(kept) + RATE + 2


def test_kill_9_before_there_is_anything_leaves_nothing_after_the_next_run(graph, tmp_path, streams) -> None:
    out = tmp_path / "live.mp4"
    with (
        camera(Take(streams["first"], 0, silent=60)) as source,
        recording(graph, source, "-o", out, "--shares", "parquet", "--every", "100") as running,
    ):
        assert until(lambda: len(names(tmp_path)) == 2)
        running.kill()
        running.wait()
    assert {name.split(".")[1] for name in names(tmp_path)} == {"live"} and not out.exists()
    with (
        camera(Take(streams["first"], 0.5)) as source,
        recording(graph, source, "-o", tmp_path / "other.mp4", "--reconnect", "0") as running,
    ):
        assert running.wait(60) == 0
    assert names(tmp_path) == {"other.mp4"}


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize(("rate", "lost"), [(Fraction(25), 25), (Fraction(2), 2), (Fraction(1, 3), 1)])
def test_a_growing_mp4_lacks_the_last_second_at_most(tmp_path, codec, rate, lost) -> None:
    base, step = Fraction(1, 90000), round(90000 / rate)
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    path = tmp_path / "live.mp4"
    frames = 4 * lost + 5
    with VideoWriter(
        path, height=64, width=96, time_base=base, rate=rate, encoder=ENCODERS[codec], live=True
    ) as writer:
        for number in range(frames):
            writer.write_frame(np.roll(noise, number, 1), number * step, step)
            if number >= lost:
                assert number + 1 - lost <= len(times(path)) <= number + 1
    assert len(times(path)) == frames
    with av.open(str(path)) as container:
        assert container.duration == round(frames * step * base * 1_000_000)
        keys = [packet.pts for packet in container.demux(video=0) if packet.is_keyframe]
    assert max(np.diff([*keys, frames * step])) <= max(2 * 90000, step) + step  # to jump to


def test_growing_labels_lack_the_last_second_at_most(tmp_path) -> None:
    path = tmp_path / "live.mkv"
    with LabelVideo(
        path, card(), height=64, width=96, time_base=Fraction(1, 25), rate=Fraction(25), live=True
    ) as writer:
        for number in range(70):
            writer.write_labels(np.full((64, 96), number % 3, np.uint8), number, 1)
            if number > 25:
                assert len(times(path)) >= number + 1 - 25
    assert len(times(path)) == 70


def test_sound_that_never_comes_does_not_hold_up_a_growing_mp4(tmp_path) -> None:
    write_stream(tmp_path / "in.mkv", 5, sound="aac")
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with (
        av.open(str(tmp_path / "in.mkv")) as source,
        VideoWriter(
            tmp_path / "out.mp4",
            height=64,
            width=96,
            time_base=Fraction(1, 25),
            rate=Fraction(25),
            encoder=ENCODERS["h264"],
            audio=source.streams.audio,
            live=True,
        ) as writer,
    ):
        for number in range(70):
            writer.write_frame(noise, number, 1)
        assert len(times(tmp_path / "out.mp4")) >= 70 - 25
    assert len(times(tmp_path / "out.mp4")) == 70


@pytest.mark.parametrize("output", ["labels", "frames"])
def test_other_outputs_grow_too(tmp_path, segmenter, streams, monkeypatch, output) -> None:
    target = tmp_path / ("live.mkv" if output == "labels" else "live")
    seen: list[bool] = []

    def look() -> None:
        seen.append(target.exists())

    with camera(Take(streams["first"], 1)) as source:
        report = segment_video(segmenter, source, target, output=output, reconnect=0, on_frame=look)
    assert seen[-1] and names(tmp_path) == {target.name}
    if output == "frames":
        assert len(list(target.glob("*.png"))) == report.frames
    else:
        assert len(times(target)) == report.frames
