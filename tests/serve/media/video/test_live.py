"""Cameras and streams: recorded until they end or are told to, over breaks and kills."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from live_sources import RATE, Take, camera, write_stream
from serve_graphs import card, write_graph

from serve import Segmenter
from serve.cli.commands import main
from serve.errors import InputError
from serve.interruption import Interruption, interrupt, like_ctrl_c
from serve.media.video import live as video_live
from serve.media.video.live import LiveItems
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection
from serve.media.whole import NameTakenError
from serve.video import sink as video_sink
from serve.video.labels import LabelVideo
from serve.video.outputs import ENCODERS
from serve.video.segment import VideoReport, note, segment_video
from serve.video.settings import Settings
from serve.video.writer import VideoWriter


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "m.onnx")


@pytest.fixture(scope="module")
def segmenter(graph: Path) -> Segmenter:
    return Segmenter(graph, threads=1)


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("streams")
    return {
        "long": write_stream(folder / "long.ts", 1500),
        "first": write_stream(folder / "first.ts", 50, sound="aac"),
        "second": write_stream(folder / "second.ts", 50, first=50, sound="aac"),
        "large": write_stream(folder / "large.ts", 50, first=50, sound="aac", size=128),
        "stereo": write_stream(folder / "stereo.ts", 50, first=50, sound="aac", layout="stereo"),
    }


def until(there: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait for something to happen; whether it did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if there():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def recording(
    graph: Path, *arguments: object, before: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """`serve video` in a process of its own."""
    command = [*before, sys.executable, "-m", "serve", "video", graph, *arguments]
    running = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def times(path: Path, kind: str = "video") -> list[float]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [float(frame.pts * stream.time_base) for frame in container.decode(stream)]


def boxes(path: Path) -> list[bytes]:
    """The kinds of an mp4's outermost parts."""
    data, kinds, position = path.read_bytes(), [], 0
    while position < len(data):
        kinds.append(data[position + 4 : position + 8])
        position += int.from_bytes(data[position : position + 4]) or len(data)
    return kinds


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_recording_and_keeps_it(graph, tmp_path, streams, number) -> None:
    out = tmp_path / "out" / "live.mp4"
    with (
        camera(Take(streams["long"], 60)) as source,
        recording(graph, source, "-o", out, "--shares") as running,
    ):
        assert until(out.exists), "it has its name while it grows"
        running.send_signal(number)
        said, complaint = running.communicate(timeout=60)
    assert running.returncode == 0, complaint
    shown = times(out)
    assert f"Wrote {out}: {len(shown)} frames" in said and shown[-1] > 0.3
    assert boxes(out)[-1] == b"moov" and b"moof" not in boxes(out)  # an ordinary mp4
    assert names(out.parent) == {"live.mp4", "live.shares.csv"}
    assert len((out.parent / "live.shares.csv").read_text().splitlines()) == len(shown) + 1


def test_the_first_process_of_a_container_obeys_sigterm(graph, tmp_path, streams) -> None:
    alone = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces for processes here")
    out = tmp_path / "live.mp4"
    with (
        camera(Take(streams["long"], 60)) as source,
        recording(graph, source, "-o", out, before=alone) as running,
    ):
        assert until(out.exists)
        (inside,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        own = next(
            line for line in Path(f"/proc/{inside}/status").read_text().splitlines() if "NSpid" in line
        )
        assert own.split()[-1] == "1"
        os.kill(int(inside), signal.SIGTERM)
        said, complaint = running.communicate(timeout=60)
    assert running.returncode == 0, complaint
    assert f"Wrote {out}: {len(times(out))} frames" in said


def test_sigterm_ends_other_commands_as_ctrl_c_does(graph, tmp_path, streams) -> None:
    (tmp_path / "in.ts").write_bytes(streams["long"])
    results = []
    for number in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / f"{number}.mp4"
        with recording(graph, tmp_path / "in.ts", "-o", out, "--preset", "veryslow") as running:
            assert until(lambda: any(path.stat().st_size for path in tmp_path.glob(".*.partial.mp4")))
            running.send_signal(number)
            said, complaint = running.communicate(timeout=60)
        results.append((running.returncode, said, complaint.splitlines()[-1]))
        assert names(tmp_path) == {"in.ts"}
    assert results[0] == results[1] == (1, "", "Aborted!")


@pytest.fixture
def untouched() -> Iterator[None]:
    """Signals as a new process has them; Ray, which other tests start in this one, leaves handlers behind."""
    former = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("untouched")
def test_an_ignored_signal_stays_ignored_and_handlers_come_back() -> None:
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with like_ctrl_c():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # while it tidies up
        assert signal.getsignal(signal.SIGTERM) == former[signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, former[signal.SIGHUP])


@pytest.mark.usefixtures("untouched")
def test_a_recording_is_interrupted_between_two_frames_only() -> None:
    with like_ctrl_c(), Interruption() as interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            interruption.caught = False
            os.kill(os.getpid(), number)  # outside of `waiting`
            with pytest.raises(KeyboardInterrupt), interruption.waiting():
                raise AssertionError("it was not told of what had come before")
            interruption.caught = False
            with pytest.raises(KeyboardInterrupt), interruption.waiting():
                os.kill(os.getpid(), number)
                time.sleep(5)
        assert signal.getsignal(signal.SIGTERM) is not interrupt
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_that_are_somebody_elses_are_left_alone() -> None:
    def own(*_: object) -> None:
        """A handler of the program that uses ours."""

    former = signal.signal(signal.SIGTERM, own)
    try:
        with like_ctrl_c(), Interruption():
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, former)


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


def test_live_sound_is_kept_and_in_time(tmp_path, segmenter, streams) -> None:
    for codec in ("aac", "ac3", "mp2"):
        data = write_stream(tmp_path / "in.ts", 75, sound=codec)
        with camera(Take(data, 1)) as source:
            report = segment_video(segmenter, source, tmp_path / "out.mp4", reconnect=0)
        heard = times(tmp_path / "out.mp4", "audio")
        assert report.audio_streams == 1
        assert heard[0] < 0.1 and abs(heard[-1] - times(tmp_path / "out.mp4")[-1]) < 0.3


def test_a_camera_is_recorded_until_it_hangs_up(tmp_path, segmenter, streams) -> None:
    with camera(Take(streams["first"], 0.5)) as source:
        report = segment_video(segmenter, source, tmp_path / "out.mp4", output="colors", reconnect=0)
    assert len(times(tmp_path / "out.mp4")) == report.frames
    assert report.frames + report.dropped >= 48  # libav may lack the last ones when the line is cut
    assert note(report).endswith("the stream broke off: the other side hung up")


def test_ctrl_c_keeps_what_a_camera_sent(tmp_path, segmenter, streams, monkeypatch) -> None:
    original = video_sink.VideoWriter.write_frame
    calls = []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, *args)

    monkeypatch.setattr(video_sink.VideoWriter, "write_frame", interrupted)
    with camera(Take(streams["first"], 0.5, silent=60)) as source:
        report = segment_video(segmenter, source, tmp_path / "out.mp4")
    assert report.interrupted
    assert len(times(tmp_path / "out.mp4")) == report.frames == 5  # the one in hand is finished


def test_a_silent_camera_does_not_delay_the_end(graph, tmp_path, streams) -> None:
    """Docker waits for ten seconds; a read of a silent stream takes fifteen."""
    out = tmp_path / "live.mp4"
    with (
        camera(Take(streams["first"], 1, silent=120)) as source,
        recording(graph, source, "-o", out) as running,
    ):
        assert until(out.exists)
        time.sleep(1.5)  # all is said, and the reader waits for more
        begin = time.monotonic()
        running.send_signal(signal.SIGTERM)
        said, complaint = running.communicate(timeout=60)
    assert running.returncode == 0 and time.monotonic() - begin < 10, complaint
    assert f"Wrote {out}: {len(times(out))} frames" in said


def test_an_interruption_ends_a_batch_after_the_recording(graph, tmp_path, streams) -> None:
    (tmp_path / "later.ts").write_bytes(streams["first"])
    out = tmp_path / "out"
    with camera(Take(streams["long"], 60)) as source:
        listed = tmp_path / "list.txt"
        listed.write_text(f"{source}\n")
        with recording(graph, source, source.replace("127.0.0.1", "localhost"), "-o", out) as running:
            assert until(lambda: bool(list(out.glob("127*.mp4"))))
            running.send_signal(signal.SIGTERM)
            _, complaint = running.communicate(timeout=60)
    assert running.returncode == 1 and complaint.endswith("Aborted!\n")
    files = json.loads((out / "report.json").read_text())["files"]
    assert [file["status"] for file in files] == ["done", "not reached"]
    assert files[0]["video"]["interrupted"] and len(times(Path(files[0]["output"]))) > 0


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


def test_a_signal_ends_the_waiting_at_once(graph, tmp_path, streams) -> None:
    out = tmp_path / "live.mp4"
    with (
        camera(Take(streams["first"], 0.5)) as source,
        recording(graph, source, "-o", out, "--reconnect", "1000") as running,
    ):
        for line in running.stderr:
            if "trying for 1000 s" in line:
                break
        time.sleep(1.6)  # it has tried twice, and now it waits for two seconds, or four
        begin = time.monotonic()
        running.send_signal(signal.SIGTERM)
        said, complaint = running.communicate(timeout=60)
    assert running.returncode == 0 and time.monotonic() - begin < 10, complaint
    assert f"Wrote {out}: {len(times(out))} frames" in said


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


def test_a_recording_does_not_take_the_name_of_another(tmp_path, segmenter, streams, capsys) -> None:
    out = tmp_path / "live.mp4"
    began: list[Path] = []

    def meanwhile() -> None:
        if not began:  # with its first frame, it is too early for its name
            out.write_text("somebody else's")
        began.append(out)

    sentence = f"{out} was made by somebody else meanwhile, so this one is kept as {tmp_path / 'live-2.mp4'}."
    signed: list[object] = []
    with camera(Take(streams["first"], 1)) as source, pytest.raises(NameTakenError) as caught:
        segment_video(
            segmenter,
            source,
            out,
            overwrite=False,
            reconnect=0,
            shares="csv",
            on_frame=meanwhile,
            before_naming=lambda *made: signed.append(made),
        )
    assert caught.value.message == sentence and not signed
    assert sentence in capsys.readouterr().err  # at once, as it may go on for long
    assert out.read_text() == "somebody else's" and len(times(tmp_path / "live-2.mp4")) == len(began)
    assert names(tmp_path) == {"live.mp4", "live-2.mp4", "live.shares.csv"}


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


def test_a_failure_leaves_what_was_recorded(tmp_path, segmenter, streams) -> None:
    def fail() -> None:
        if (tmp_path / "live.mp4").exists():
            raise OSError(28, "No space left on device")

    with camera(Take(streams["first"], 2)) as source, pytest.raises(OSError, match="No space left"):
        segment_video(segmenter, source, tmp_path / "live.mp4", reconnect=0, on_frame=fail)
    assert times(tmp_path / "live.mp4")


def test_a_camera_that_is_not_there_leaves_nothing(tmp_path, graph) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    arguments = ["video", graph, f"tcp://127.0.0.1:{port}", "-o", tmp_path / "out.mp4"]
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exit_code == 2 and "check the address" in result.stderr
    assert names(tmp_path) == set()


def test_how_long_to_try_is_a_time() -> None:
    for wrong in (-1, float("nan")):
        with pytest.raises(InputError, match=r"--reconnect .* is no time"):
            Settings(reconnect=wrong)


def test_breaks_are_said_in_one_sentence() -> None:
    report = VideoReport(9, 1.0, 0.5, 0, (), breaks=2, gone=75.04)
    assert note(report) == "the stream broke off 2 times and came back, gone for 75.0 s in all"
