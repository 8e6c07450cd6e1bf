"""The demo under load that hurts: large frames, many frames, visitors who leave, the end of the process."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from browser import AVAILABLE, MISSING, chromium, until
from demo_server import Demo, demo, file_data, listening, log, memory, result, submit, upload
from PIL import Image
from selenium.webdriver.common.by import By
from serve_graphs import halves, write_clip, write_graph, write_slow_graph

from serve.demo.options import Limits
from serve.demo.request import work as demo_work
from serve.demo.request.files import Upload
from serve.demo.request.limits import check_video, read_picture
from serve.demo.request.work import Stoppable, Visitors, Work
from serve.errors import InputError
from serve.inference import large
from serve.inference.memory import Need
from serve.inference.opening import open_runtime
from serve.inference.runtime import Runtime
from serve.inference.segmenter import Segmenter
from serve.media.video.reader import VideoReader

AT_ONCE = 60.0
"""Seconds until a slot has to be free, on any machine; alone it is half a second, and the work minutes."""


@pytest.fixture(scope="module")
def slow_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes minutes per picture."""
    return write_slow_graph(tmp_path_factory.mktemp("slow") / "slow.onnx", 600)


@pytest.fixture(scope="module")
def server(slow_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """For short videos only."""
    folder = tmp_path_factory.mktemp("load")
    with demo(
        folder / "server", write_graph(folder / "quick.onnx"), slow_graph, "--max-seconds", 4
    ) as running:
        yield running


@pytest.fixture(scope="module")
def picture(server: Demo, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("picture") / "street.png"
    Image.fromarray(halves(64, 64)).save(path)
    return upload(server, path)


@pytest.fixture(scope="module")
def clip(server: Demo, tmp_path_factory: pytest.TempPathFactory) -> str:
    return upload(server, write_clip(tmp_path_factory.mktemp("clip") / "drive.mp4", times=range(24)))


def _picture(server: Demo, model: str, picture: str) -> str:
    return submit(server, "segment_image", model, file_data(picture), None, 0.5, ["red"])


def _video(server: Demo, model: str, clip: str) -> str:
    return submit(server, "segment_video", model, file_data(clip), None, 0.5, "overlay")


def _empty_clip(path: Path, width: int, height: int, frames: int, pixel_format: str = "yuv420p") -> Path:
    """A clip of large grey frames, a few kB for each."""
    options = {"preset": "ultrafast", "threads": "1"}
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=12, options=options)
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        frame = av.VideoFrame(width, height, pixel_format)
        for plane in frame.planes:
            plane.update(bytes([100]) * plane.buffer_size)
        for number in range(frames):
            frame.pts, frame.time_base = number, Fraction(1, 12)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


# Large frames


def test_a_clip_of_49_megapixels_takes_little_memory_and_gives_it_back(server, clip, tmp_path):
    """It took 16 GB, and kept them."""
    wide = upload(server, _empty_clip(tmp_path / "large.mp4", 8192, 6000, 3))
    result(server, "segment_video", _video(server, "quick.onnx", clip))  # what is loaded lazily is loaded now
    before = memory(server)
    path = result(server, "segment_video", _video(server, "quick.onnx", wide))[0]["path"]
    assert memory(server, "VmHWM") < before + 1500
    assert memory(server) < before + 250
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.width) == (3, 1920) and stream.height >= 1406


def test_memory_is_counted_before_a_frame_is_decoded(tmp_path):
    """There is no frame to decode: every byte after the header is zero."""
    path = write_clip(tmp_path / "c.mp4", picture=halves(720, 1280), times=range(3))
    data = path.read_bytes()
    body = data.index(b"mdat") + 4
    path.write_bytes(data[:body] + bytes(len(data) - body))
    upload = Upload(path, "my.mp4")
    assert check_video(upload, Limits()).frames == 3
    with pytest.raises(
        InputError, match=r"my\.mp4 would take \d+ MB of memory to decode; this demo takes up to 20 MB for"
    ):
        check_video(upload, Limits(memory_mb=20))
    with pytest.raises(InputError, match=r"my\.mp4 .* more than the 0\.5 megapixels that this demo takes"):
        check_video(upload, Limits(megapixels=0.5))
    upload.path.write_bytes(data)
    with pytest.raises(InputError, match=r"my\.mp4 has 1280 x 720 = 1 megapixels; .* up to 0\.5"):
        check_video(upload, Limits(megapixels=0.5))


def test_deep_colours_count(tmp_path):
    plain = Upload(_empty_clip(tmp_path / "plain.mp4", 640, 480, 1), "plain.mp4")
    deep = Upload(_empty_clip(tmp_path / "deep.mp4", 640, 480, 1, "yuv444p10le"), "deep.mp4")
    limits = Limits(memory_mb=60)
    assert check_video(plain, limits)
    with pytest.raises(InputError, match=r"deep\.mp4 would take"):
        check_video(deep, limits)


def test_the_memory_for_a_picture_is_counted_by_its_header(tmp_path):
    Image.fromarray(halves(300, 400)).save(tmp_path / "a.png")
    upload = Upload(tmp_path / "a.png", "a.png")
    assert read_picture(upload, Limits(memory_mb=3)).shape == (300, 400, 3)
    upload.path.write_bytes(upload.path.read_bytes()[:60])  # the header alone
    with pytest.raises(InputError, match=r"a\.png would take 2 MB of memory to decode; .* up to 2 MB"):
        read_picture(upload, Limits(memory_mb=2))


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("libx264", ".ts"),
        ("mpeg2video", ".ts"),
        ("mpeg4", ".avi"),
        ("libvpx-vp9", ".mkv"),
        ("libvpx", ".mkv"),
    ],
)
def test_frames_larger_than_the_header_says_are_not_decoded(tmp_path, codec, suffix):
    """Two streams joined: the header is that of the first, the second is 64 times as large."""
    small = write_clip(tmp_path / f"small{suffix}", picture=halves(64, 64), codec=codec)
    large = write_clip(tmp_path / f"large{suffix}", picture=halves(512, 512), codec=codec)
    joined = tmp_path / f"joined{suffix}"
    with av.open(str(joined), "w") as container, av.open(str(small)) as first, av.open(str(large)) as second:
        stream = container.add_stream_from_template(first.streams.video[0])
        packets = [packet for each in (first, second) for packet in each.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            packet.stream, packet.time_base = stream, Fraction(1, 12)
            packet.pts = packet.dts = number
            container.mux(packet)
    selection = check_video(Upload(joined, "joined"), Limits()).selection
    sizes = set()
    with (
        pytest.raises(InputError, match=rf"joined{suffix} has frames that are larger than its header says"),
        VideoReader(joined, selection) as reader,
    ):
        for item in reader.items():
            sizes.add(item.pixels.shape)
    assert sizes <= {(64, 64, 3)}


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", ".mp4"), ("mpeg4", ".avi"), ("flv1", ".flv"), ("wmv2", ".asf")]
)
@pytest.mark.parametrize("size", [(16, 16), (100, 200), (1280, 128), (128, 1280)])
def test_frames_as_large_as_the_header_says_are_decoded(tmp_path, codec, suffix, size):
    """Some decoders take more pixels than a frame has, for what they keep beside it."""
    clip = write_clip(
        tmp_path / f"a{suffix}", picture=halves(*size), codec=codec, times=range(3), time_base=Fraction(1, 25)
    )
    with VideoReader(clip, check_video(Upload(clip, clip.name), Limits()).selection) as reader:
        assert len(list(reader.items())) == 3 and not reader.damage


def test_frames_shrink_to_what_an_engine_takes(tmp_path):
    clip = Upload(write_clip(tmp_path / "a.mp4", picture=halves(100, 200), times=range(2)), "a.mp4")
    assert check_video(clip, Limits()).selection.max_size == 200
    with VideoReader(clip.path, check_video(clip, Limits(), (60, 400)).selection) as reader:
        assert max(reader.size) == 60  # a video may turn out to be upright
    Image.fromarray(halves(100, 200)).save(tmp_path / "a.png")
    picture = Upload(tmp_path / "a.png", "a.png")
    assert read_picture(picture, Limits(), (60, 400)).shape == (60, 120, 3)
    assert read_picture(picture, Limits(), (400, 50)).shape == (25, 50, 3)


# Many frames


def test_a_short_clip_of_many_frames_is_refused_by_its_header(server, tmp_path):
    """100 s at 10,000 frames per second passed the limit of time."""
    fast = write_clip(tmp_path / "fast.mp4", times=range(300), time_base=Fraction(1, 10_000))
    sent = upload(server, fast)
    with pytest.raises(AssertionError, match=r"fast\.mp4 has 300 frames or more; .* up to 240"):
        result(server, "segment_video", _video(server, "quick.onnx", sent))


def test_frames_are_counted_where_the_header_does_not_say(server, tmp_path):
    path = tmp_path / "hidden.mkv"
    with av.open(str(path), "w", format="matroska", options={"live": "1"}) as container:
        video = container.add_stream("libx264", rate=100)
        video.width = video.height = 64
        for _ in range(300):
            container.mux(video.encode(av.VideoFrame.from_ndarray(halves(64, 64), format="rgb24")))
        container.mux(video.encode(None))
    assert check_video(Upload(path, "hidden.mkv"), Limits(seconds=4)).frames is None
    with pytest.raises(AssertionError, match=r"hidden\.mkv has 241 frames or more; .* up to 240"):
        result(server, "segment_video", _video(server, "quick.onnx", upload(server, path)))


# Visitors who leave


@pytest.mark.parametrize("kind", ["segment_image", "segment_video"])
def test_a_client_that_leaves_frees_the_slot(server, picture, clip, kind):
    ask, file = (_picture, picture) if kind == "segment_image" else (_video, clip)
    with listening(server, kind, ask(server, "slow.onnx", file)):
        time.sleep(1)  # it is at work
    begin = time.monotonic()
    assert result(server, kind, ask(server, "quick.onnx", file))
    assert time.monotonic() - begin < AT_ONCE
    until(lambda: not list(server.temporary.rglob("*.partial*")), "the unfinished file's end")
    assert "Traceback" not in log(server)


@pytest.mark.skipif(not AVAILABLE, reason=MISSING)
def test_a_visitor_who_closes_the_page_frees_the_slot(server, clip, tmp_path):
    drive = write_clip(tmp_path / "mine.mp4", times=range(24))
    with chromium() as window:
        window.get(server.url)
        until(lambda: window.find_elements(By.CSS_SELECTOR, "#model input"), "page", 60)
        window.find_element(By.CSS_SELECTOR, "#model input").click()
        until(lambda: window.find_elements(By.CSS_SELECTOR, "[role=option]"), "models")[1].click()
        tabs = window.find_elements(By.CSS_SELECTOR, "button[role=tab]")
        next(tab for tab in tabs if tab.text == "Video").click()
        window.find_element(By.CSS_SELECTOR, "#video input[type=file]").send_keys(str(drive))
        until(lambda: window.find_elements(By.CSS_SELECTOR, "#video video"), "preview")
        window.find_element(By.CSS_SELECTOR, "#start").click()
        until(lambda: "mine.mp4" in log(server), "work")
        with listening(server, "segment_video", _video(server, "quick.onnx", clip)) as answer:
            time.sleep(1)
            window.switch_to.new_window("tab")  # the browser itself goes on
            window.switch_to.window(window.window_handles[0])
            begin = time.monotonic()
            window.close()
            assert b"event: complete" in answer.read()
            assert time.monotonic() - begin < AT_ONCE
    assert "Traceback" not in log(server)


def test_the_answer_comes_to_a_visitor_whose_stream_broke_off_for_a_moment():
    async def visit() -> bool:
        visitors = Visitors()
        with visitors.working(["session", "request"]) as work:
            with visitors.listening("session"):
                pass
            with visitors.listening("request"):
                await asyncio.sleep(3 * demo_work._BACK_WITHIN)
                work.check()
        return True

    assert asyncio.run(visit())


@pytest.mark.parametrize("heard", [False, True])
def test_work_that_nobody_listens_for_is_stopped(monkeypatch, heard):
    monkeypatch.setattr(demo_work, "_BACK_WITHIN", 0.05)
    monkeypatch.setattr(demo_work, "_THERE_WITHIN", 0.2)

    async def visit() -> None:
        visitors = Visitors()
        with visitors.working(["session"]) as work, visitors.working(["other"]) as others:
            others.at_stop(lambda: pytest.fail("somebody else's work was stopped")) if heard else None
            with visitors.listening("other"):
                if heard:
                    with visitors.listening("session"):
                        await asyncio.sleep(0.4)
                        work.check()
                await asyncio.sleep(0.1 if heard else 0.4)
                with pytest.raises(InputError, match="Stopped"):
                    work.check()

    asyncio.run(visit())


def _in_another_session(monkeypatch: pytest.MonkeyPatch, folder: Path, free: float) -> None:
    """Treat pictures as large: so many bytes of memory are free, of which a pixel takes a thousand."""

    def opened(runtime: Runtime, threads: int | None, callers: int) -> tuple[Runtime, Need]:
        frugal = open_runtime(runtime.path, "cpu", threads, callers, record=str(folder / "runs"))
        return frugal, Need(np.array([1000.0]), np.array([0.0]))

    monkeypatch.setattr(large, "open_frugal", opened)
    monkeypatch.setattr(large, "available", lambda: free)


@pytest.mark.parametrize("free", [None, 1e9, 3e8], ids=["as it is", "large", "in tiles"])
def test_a_run_is_stopped_in_its_midst(tmp_path, monkeypatch, slow_graph, free):
    if free is not None:
        _in_another_session(monkeypatch, tmp_path, free)
    work = Work()
    slow = Stoppable(Segmenter(slow_graph), work)
    loop = asyncio.new_event_loop()
    loop.call_later(0.5, work.stop)
    begin = time.monotonic()
    running = loop.run_in_executor(None, slow, halves(600, 800))
    with pytest.raises(InputError, match="Stopped; nothing was kept"):
        loop.run_until_complete(running)
    assert time.monotonic() - begin < AT_ONCE
    loop.close()
    told = []
    work.at_stop(lambda: told.append("at once"))
    assert told == ["at once"]
    assert bool(slow.notice) == (free == 3e8)


@pytest.mark.parametrize("free", [None, 1e9, 3e8], ids=["as it is", "large", "in tiles"])
def test_what_is_not_stopped_is_as_ever(tmp_path, monkeypatch, free):
    if free is not None:
        _in_another_session(monkeypatch, tmp_path, free)
    segmenter = Stoppable(Segmenter(write_graph(tmp_path / "quick.onnx")), Work())
    labels = segmenter(halves(600, 800)).labels
    assert (labels[:, :400] == 0).all() and (labels[:, 400:] == 1).all()


def _held() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_run_gives_its_memory_back(tmp_path, monkeypatch):
    """Of ONNX Runtime's own stock, which keeps that of the largest run."""
    monkeypatch.setattr(large, "available", lambda: None)  # one session for all sizes
    picture = halves(2000, 2000)
    segmenter = Segmenter(write_graph(tmp_path / "quick.onnx"))
    before = _held()
    Stoppable(segmenter, Work())(picture)
    given_back = _held()
    segmenter(picture)
    assert given_back - before < (_held() - before) / 2


def test_what_is_stopped_gives_way_before_the_next_begins():
    """A task that is cancelled waits for its thread."""

    async def serve() -> float:
        work = Work()

        def in_thread() -> None:
            with work.in_thread():
                time.sleep(0.3)

        begin = time.monotonic()
        running = asyncio.get_running_loop().run_in_executor(None, in_thread)
        await asyncio.sleep(0.05)
        await work.ended()
        await running
        return time.monotonic() - begin

    assert asyncio.run(serve()) >= 0.3


# The end


@pytest.mark.parametrize(
    ("number", "busy"),
    [
        (signal.SIGTERM, True),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_it_at_once(tmp_path, slow_graph, number, busy):
    with demo(tmp_path / "server", slow_graph) as running:
        events = []
        if busy:
            clip = upload(running, write_clip(tmp_path / "drive.mp4"))
            events = [_video(running, "slow.onnx", clip) for _ in range(3)]  # one at work, two that wait
            events += [submit(running, "segment_image", "slow.onnx", None, None, 0.5, [])]
            until(lambda: "drive.mp4" in log(running), "work")
            assert any(path.is_file() for path in running.temporary.rglob("*"))
        with listening(running, "segment_video", events[0] if busy else "none"):
            begin = time.monotonic()
            running.process.send_signal(number)
            assert running.process.wait(20) == 0
            assert time.monotonic() - begin < 8  # two here, if the machine has time for it
        assert list(running.temporary.iterdir()) == []
        assert not [path for path in running.home.rglob("*") if path.is_file()]
        assert "Traceback" not in log(running)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_leave_anything_behind(tmp_path, first):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "upload.png").touch()
    program = (
        "import sys, time; from serve.demo.start import _ending\n"
        "with _ending(sys.argv[1]): print('ready', flush=True); time.sleep(120)"
    )
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as working:
        assert working.stdout is not None and working.stdout.readline() == "ready\n"
        for number in (first, signal.SIGINT, signal.SIGTERM):
            working.send_signal(number)
        _, said = working.communicate(timeout=60)
    assert (working.returncode, said) == (0, "")
    assert not folder.exists()


@pytest.mark.slow
def test_a_second_signal_does_not_leave_anything_of_the_page_behind(tmp_path):
    with demo(tmp_path / "server", write_graph(tmp_path / "quick.onnx")) as running:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            running.process.send_signal(number)
        assert running.process.wait(20) == 0
        assert list(running.temporary.iterdir()) == []


def test_a_signal_before_the_page_is_up(tmp_path):
    (tmp_path / "tmp").mkdir()
    graph = write_graph(tmp_path / "quick.onnx")
    command = [
        sys.executable,
        "-m",
        "serve",
        "demo",
        str(graph),
        "--port",
        "9",
    ]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    environment.pop("GRADIO_TEMP_DIR", None)
    starting = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    until(lambda: list((tmp_path / "tmp").glob(".blda-demo.*")), "folder", 60)
    starting.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    starting.wait(20)
    assert time.monotonic() - begin < AT_ONCE
    assert not list((tmp_path / "tmp").glob(".blda-demo.*"))
