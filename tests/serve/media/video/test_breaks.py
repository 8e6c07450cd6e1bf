"""Streams that break off: asked for again, for how long, and recorded on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import av
import numpy as np
import pytest
from live_sources import RATE, Take, camera
from recordings import times

from serve.errors import InputError
from serve.media.video import live as video_live
from serve.media.video.live import LiveItems
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection
from serve.video import sink as video_sink
from serve.video.segment import VideoReport, note, segment_video
from serve.video.settings import Settings


def test_a_stream_that_comes_back_is_recorded_on(tmp_path, segmenter, streams, capsys) -> None:
    away = 1.0
    with camera(Take(streams["first"], 1, away=away), Take(streams["second"], 1)) as source:
        report = segment_video(segmenter, source, tmp_path / "out.mp4", output="colors", reconnect=2)
    shown = times(tmp_path / "out.mp4")
    gaps = np.diff(shown)
    assert report.breaks == 1 and report.gone > away
    assert (gaps > 0).all() and gaps.max() == pytest.approx(report.gone, abs=0.5)
    before, after = shown[: gaps.argmax() + 1], shown[gaps.argmax() + 1 :]
    assert before[-1] == pytest.approx(49 / RATE, abs=0.2)
    assert after[-1] - after[0] == pytest.approx(49 / RATE, abs=0.2)
    heard = times(tmp_path / "out.mp4", "audio")
    assert np.diff(heard).min() > 0
    assert heard[-1] == pytest.approx(shown[-1], abs=0.3)
    assert not [when for when in heard if before[-1] + 0.3 < when < after[0] - 0.3]
    assert report.ended == "the other side hung up, and it did not come back within 2 s"
    assert note(report) == (
        f"{f'{report.dropped} frames came too fast and were dropped; ' if report.dropped else ''}"
        f"the stream broke off once and came back, gone for {report.gone:.1f} s in all; "
        f"the stream broke off: {report.ended}"
    )
    said = capsys.readouterr().err
    assert "broke off (the other side hung up); trying for 2 s" in said and "is back after" in said


@pytest.mark.parametrize(("second", "streams_of_sound"), [("large", 100), ("stereo", 50)])
def test_what_comes_back_changed_fits_the_recording(
    tmp_path, segmenter, streams, monkeypatch, second, streams_of_sound
) -> None:
    original, sizes = video_sink._DrawnSink.write, set()

    def write(self, item) -> None:
        sizes.add((item.frame.pixels.shape, item.labels.shape))
        original(self, item)

    monkeypatch.setattr(video_sink._DrawnSink, "write", write)
    with camera(Take(streams["first"], 0.5), Take(streams[second], 0.5)) as source:
        report = segment_video(segmenter, source, tmp_path / "out.mp4", output="colors", reconnect=1)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert {(f.height, f.width) for f in container.decode(video=0)} == {(64, 64)}
    assert report.breaks == 1 and sizes == {((64, 64, 3), (64, 64))}
    heard = len(times(tmp_path / "out.mp4", "audio")) * 1024 / 48000 * RATE
    assert heard == pytest.approx(streams_of_sound, abs=12)


class _Clock:
    """Stands for the module `time`, and for the event that stops the waiting, which passes the time."""

    def __init__(self, stops_after: int = 10_000) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        self._stops_after = stops_after

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        self.waits.append(seconds)
        return len(self.waits) >= self._stops_after


@pytest.fixture
def gone(streams, monkeypatch) -> VideoReader:
    """A camera that was there just once."""
    with camera(Take(streams["first"], 0)) as source:
        reader = VideoReader(source)
    tries: list[object] = []

    def nobody(*given: object) -> None:
        tries.append(given)
        raise InputError("nobody answers")

    monkeypatch.setattr(video_live, "VideoReader", nobody)
    reader.tries = tries
    return reader


def test_waits_between_tries_grow(gone, monkeypatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(video_live, "time", clock)
    live = LiveItems(gone, Selection(), 100, clock)
    assert sum(isinstance(item, Frame) for item in live.items()) >= 48
    assert clock.waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 8.5]
    assert len(gone.tries) == len(clock.waits) and sum(clock.waits) == 100
    assert live.ended.endswith("and it did not come back within 100 s") and live.breaks == 0


def test_no_tries_are_made_where_none_are_wanted(gone, monkeypatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(video_live, "time", clock)
    live = LiveItems(gone, Selection(), 0, clock)
    assert len(list(live.items())) and gone.tries == clock.waits == []
    assert live.ended == "the other side hung up"


def test_tries_end_when_they_are_stopped_or_the_time_is_over(streams, monkeypatch) -> None:
    for selection, stops_after, waits in [(Selection(), 2, 2), (Selection(end=Fraction(9)), 99, 4)]:
        clock = _Clock(stops_after)
        with camera(Take(streams["first"], 0)) as source:
            reader = VideoReader(source, selection)
        monkeypatch.setattr(video_live, "time", clock)
        live = LiveItems(reader, selection, 1000, clock)
        list(live.items())
        assert len(clock.waits) == waits and live.ended == ""


def test_the_end_that_was_asked_for_counts_over_a_break(tmp_path, segmenter, streams) -> None:
    with camera(Take(streams["first"], 0.5), Take(streams["long"], 60)) as source:
        report = segment_video(
            segmenter, source, tmp_path / "out.mp4", selection=Selection(end=Fraction(4)), reconnect=5
        )
    shown = times(tmp_path / "out.mp4")
    assert report.breaks == 1 and report.ended == ""
    assert shown[-1] < 4 + 1 / RATE  # the sound's lead-in moves all that is growing by half a frame
    assert shown[-1] > 3.5


class _Http(BaseHTTPRequestHandler):
    """Sends a stream, the first time without saying how long it is, and counts how often it was asked."""

    data = b""
    lengths: tuple[bool, ...] = ()
    seen = 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.seen += 1
        self.send_response(200)
        if kind.lengths[min(kind.seen, len(kind.lengths)) - 1]:
            self.send_header("Content-Length", str(len(kind.data)))
        self.end_headers()
        self.wfile.write(kind.data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def website(data: bytes, *lengths: bool) -> Iterator[tuple[str, type[_Http]]]:
    """An address, and who counts; `lengths`: whether each answer says how long it is, the last all others."""
    handler = type("Handler", (_Http,), {"data": data, "lengths": lengths})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/live", handler
        finally:
            server.shutdown()
            thread.join()


def test_a_stream_over_http_is_asked_for_again_and_a_file_is_not(tmp_path, segmenter, streams) -> None:
    data = streams["first"]
    with website(data, False) as (address, website_):
        end = Selection(end=Fraction(4))
        report = segment_video(segmenter, address, tmp_path / "a.mp4", selection=end, reconnect=20)
    shown = times(tmp_path / "a.mp4")
    assert website_.seen == report.breaks + 1 > 1 and all(b > a for a, b in pairwise(shown))
    with website(data, True) as (address, website_):
        report = segment_video(segmenter, address, tmp_path / "b.mp4", reconnect=20)
    assert report.frames == 50 and report.breaks == report.dropped == 0


def test_a_broadcast_that_turns_into_a_file_is_over(tmp_path, segmenter, streams) -> None:
    with website(streams["first"], False, True) as (address, website_):
        report = segment_video(segmenter, address, tmp_path / "out.mp4", reconnect=20)
    assert website_.seen > 1 and report.breaks == 0 and report.ended
    assert times(tmp_path / "out.mp4")[-1] < 2


def test_how_long_to_try_is_a_time() -> None:
    for wrong in (-1, float("nan")):
        with pytest.raises(InputError, match=r"--reconnect .* is no time"):
            Settings(reconnect=wrong)


def test_breaks_are_said_in_one_sentence() -> None:
    report = VideoReport(9, 1.0, 0.5, 0, (), breaks=2, gone=75.04)
    assert note(report) == "the stream broke off 2 times and came back, gone for 75.0 s in all"
