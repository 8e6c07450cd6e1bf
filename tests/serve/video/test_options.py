"""What may be asked of a video: parts, sizes, codecs, lossless labels, panels, smoothing, batch sizes."""

import csv
import json
import socket
import sys
import threading
import time
from fractions import Fraction
from itertools import count, pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from serve_graphs import CLASSES, halves, write_clip, write_graph

from serve import Segmenter
from serve.background import background
from serve.errors import InputError
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection
from serve.video import shares as video_shares
from serve.video.model import BatchSize, callers
from serve.video.segment import segment_video
from serve.video.settings import Settings
from serve.video.shares import shares_file
from serve.video.smooth import Flicker, Smoother

VARIABLE = (0, 1, 2, 7, 8, 30, 31, 33, 50, 51)  # in units of 1/90 s


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(write_graph(tmp_path_factory.mktemp("graph") / "m.onnx", extras=True), threads=1)


def write_counter(path: Path, frames: int = 40, *, sound: bool = False, size: int = 64) -> Path:
    """A clip at 10 frames/s with a key frame every 7th whose grey level tells the number of the frame."""
    options = {"g": "7", "bf": "2", "crf": "1", "x264-params": "scenecut=0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = size, size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10)
        audio = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((size, size, 3), 5 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            wave = np.sin(np.arange(frames * 4800, dtype=np.float32) / 20)[None]
            for start in range(0, wave.shape[1], 1024):
                part = av.AudioFrame.from_ndarray(wave[:, start : start + 1024], format="fltp", layout="mono")
                part.sample_rate, part.pts, part.time_base = 48000, start, Fraction(1, 48000)
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def read(path: Path, **selection: object) -> list[tuple[int, Fraction]]:
    """(number, time) of the frames of a counter that are read."""
    with VideoReader(path, Selection(**selection)) as reader:
        frames = [item for item in reader.items() if isinstance(item, Frame)]
        return [(round(float(f.pixels.mean()) / 5), f.pts * reader.time_base) for f in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".h264"])
@pytest.mark.parametrize(("start", "end"), [(0, 1), ("1.4", "2.1"), ("0.65", None), ("3.9", None), (0, 99)])
def test_a_part_has_just_the_frames_that_lie_in_it(tmp_path: Path, suffix, start, end) -> None:
    source = write_counter(tmp_path / f"in{suffix}")
    start, end = Fraction(start), None if end is None else Fraction(end)
    whole = read(source)
    assert [number for number, _ in whole] == list(range(40))
    expected = [(n, t) for n, t in whole if t >= start and (end is None or t < end)]
    if not expected:  # a raw stream without times plays faster
        with pytest.raises(InputError, match="no frame in the part asked for"):
            read(source, start=start, end=end)
        return
    found = read(source, start=start, end=end)
    assert [n for n, _ in found] == [n for n, _ in expected]
    for (_, is_at), (_, was_at) in zip(found, expected, strict=True):
        assert abs(is_at - (was_at - start)) <= Fraction(1, 90)  # within a tick of the coarsest time base


def test_every_third_frame_keeps_its_time(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_counter(tmp_path / "in.mp4")
    tenth = Fraction(1, 10)
    assert read(source, every=3) == [(n, n * tenth) for n in range(0, 40, 3)]
    report = segment_video(segmenter, source, tmp_path / "out.mp4", selection=Selection(every=10))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert report.frames == container.streams.video[0].frames == 4
        assert container.duration == 4_000_000  # the last frame stands for the nine after it


def test_the_sound_of_a_part_starts_with_it(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_counter(tmp_path / "in.mp4", sound=True)
    part = Selection(start=Fraction(1), end=Fraction(5, 2))
    segment_video(segmenter, source, tmp_path / "out.mp4", selection=part)
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = [p.pts * p.time_base for p in container.demux(audio=0) if p.pts is not None]
    packet = Fraction(1024, 48000)
    assert 0 <= times[0] < packet and Fraction(3, 2) - packet < times[-1] + packet <= Fraction(3, 2) + packet
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 15


def test_a_part_beyond_the_end(tmp_path: Path, segmenter: Segmenter) -> None:
    with pytest.raises(InputError, match="no frame in the part asked for"):
        segment_video(
            segmenter,
            write_counter(tmp_path / "in.mp4"),
            tmp_path / "out.mp4",
            selection=Selection(Fraction(9)),
        )
    assert not (tmp_path / "out.mp4").exists()


def test_max_size_shrinks_and_never_enlarges(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", picture=halves(72, 96), rotation=90)
    for most, expected in ((48, (48, 36)), (1000, (96, 72)), (1, (1, 1))):
        with VideoReader(source, Selection(max_size=most)) as reader:
            assert reader.size == expected
            assert {f.pixels.shape[:2] for f in reader.items() if isinstance(f, Frame)} == {expected}


@pytest.mark.parametrize(
    ("codec", "name", "preset"), [("h264", "h264", "fast"), ("hevc", "hevc", None), ("av1", "libdav1d", "12")]
)
def test_codecs_keep_times_exactly(tmp_path: Path, segmenter: Segmenter, codec, name, preset, capfd) -> None:
    source = (
        write_clip(
            tmp_path / "in.mp4",
            times=VARIABLE,
            time_base=Fraction(1, 90),
            sound="aac",
            picture=halves(94, 130),
        )
        if codec != "h264"
        else write_clip(tmp_path / "in.mp4", times=VARIABLE, time_base=Fraction(1, 90))
    )
    segment_video(
        segmenter, source, tmp_path / "out.mp4", codec=codec, preset=preset, output="colors", crf=15
    )
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name.startswith(name) or stream.codec_context.codec.name == name
        decoded = [(f.pts * stream.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
    assert [when for when, _ in decoded] == [Fraction(t, 90) for t in VARIABLE]
    assert (decoded[4][1][:70, :40].argmax(2) == 0).mean() > 0.95
    assert "x265" not in capfd.readouterr().err and "Svt" not in capfd.readouterr().err
    if codec == "hevc":
        assert b"hvc1" in (tmp_path / "out.mp4").read_bytes()  # without it, Apple's players show nothing


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"codec": "av1", "crf": 64}, "0 to 63"),
        ({"crf": -1}, "0 to 51"),
        ({"preset": "12"}, "none of h264's"),
        ({"codec": "av1", "preset": "fast"}, "none of av1's"),
        ({"output": "labels", "crf": 20}, "is lossless"),
        ({"output": "frames", "codec": "hevc"}, "is lossless"),
        ({"smooth": -1.0}, "negative"),
        ({"selection": Selection(Fraction(3), Fraction(2))}, "is not after --start"),
    ],
)
def test_settings_that_contradict_themselves(tmp_path: Path, segmenter: Segmenter, settings, words) -> None:
    with pytest.raises(InputError, match=words):
        segment_video(segmenter, write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", **settings)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4"}


def noise_clip(path: Path, frames: int = 6, size: tuple[int, int] = (71, 97)) -> tuple[Path, np.ndarray]:
    """Random pictures without loss, and the labels [N, H, W] that the corrected graph gives them."""
    pictures = np.random.default_rng(0).integers(0, 256, (frames, *size, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path, pictures


def test_labels_video_is_lossless_and_names_its_classes(tmp_path: Path, segmenter: Segmenter) -> None:
    source, pictures = noise_clip(tmp_path / "in.mkv")
    report = segment_video(segmenter, source, tmp_path / "out.mkv", output="labels")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert json.loads(container.metadata["BLDA_CLASSES"]) == list(CLASSES)
        stream = container.streams.video[0]
        frames = [(f.pts * stream.time_base, f.to_ndarray(format="gray")) for f in container.decode(stream)]
    assert [when for when, _ in frames] == [Fraction(n, 10) for n in range(6)] and report.frames == 6
    np.testing.assert_array_equal([picture for _, picture in frames], segmenter(pictures).labels)
    capture = cv2.VideoCapture(str(tmp_path / "out.mkv"))  # the way many will read it
    np.testing.assert_array_equal(capture.read()[1][..., 0], segmenter(pictures[0]).labels)


def test_label_frames_with_their_times(tmp_path: Path, segmenter: Segmenter) -> None:
    source, pictures = noise_clip(tmp_path / "in.mkv")
    segment_video(segmenter, source, tmp_path / "out", output="frames")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{n:06d}.png" for n in range(6)] + ["frames.csv"]
    for number, expected in enumerate(segmenter(pictures).labels):
        written = cv2.imread(str(tmp_path / "out" / f"{number:06d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, expected)
    rows = list(csv.DictReader((tmp_path / "out" / "frames.csv").open()))
    assert [row["file"] for row in rows] == names[:6] and [row["seconds"] for row in rows][3] == "0.300000"


def test_failed_label_frames_leave_no_folder(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_clip(tmp_path / "in.mkv", times=range(60))
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 3])
    with pytest.raises(InputError, match="no frame that can be decoded"):
        segment_video(segmenter, source, tmp_path / "out", output="frames", shares="csv")
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv"}


def test_side_by_side_shows_input_uncorrected_and_corrected(tmp_path: Path, segmenter: Segmenter) -> None:
    """The test graph's correction makes everything dim blue."""
    dim = halves(72, 160) // 4  # below what the correction adds to blue
    source = write_clip(tmp_path / "in.mkv", picture=dim, codec="ffv1", pixel_format="bgr0")
    segment_video(segmenter, source, tmp_path / "out.mp4", output="side-by-side", opacity=1, crf=5)
    with av.open(str(tmp_path / "out.mp4")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    column = (picture.shape[1] - 8) // 3
    assert column >= 160
    middle = 22 + 36  # below the titles
    panels = [picture[middle, i * (column + 4) + 20] for i in range(3)]
    for seen, expected in zip(panels, [(55, 0, 0), (255, 0, 0), (0, 0, 255)], strict=True):
        assert np.abs(seen - expected).max() < 30, panels


def test_what_a_graph_lacks_is_said_before_work(tmp_path: Path) -> None:
    plain = Segmenter(write_graph(tmp_path / "m.onnx"))
    source = write_clip(tmp_path / "in.mp4")
    with pytest.raises(InputError, match=r"'uncorrected_labels', which --output side-by-side needs"):
        segment_video(plain, source, tmp_path / "out.mp4", output="side-by-side")
    with pytest.raises(InputError, match=r"'scores', which --smooth needs; export it again with --scores"):
        segment_video(plain, source, tmp_path / "out.mp4", smooth=0.1)


def test_shares_of_every_frame(tmp_path: Path, segmenter: Segmenter) -> None:
    source, pictures = noise_clip(tmp_path / "in.mkv")
    segment_video(segmenter, source, tmp_path / "out.mp4", shares="csv")
    rows = list(csv.DictReader(shares_file(tmp_path / "out.mp4", "csv").open()))
    assert [row["frame"] for row in rows] == list("012345") and rows[2]["seconds"] == "0.200000"
    for row, labels in zip(rows, segmenter(pictures).labels, strict=True):
        for number, name in enumerate(CLASSES):
            assert abs(float(row[name]) - (labels == number).mean()) < 1e-6


def test_shares_as_parquet_say_the_same_as_csv(tmp_path: Path, segmenter: Segmenter, monkeypatch) -> None:
    from pyarrow import float32, float64, int64, parquet

    monkeypatch.setattr(video_shares, "_ROWS", 4)  # so that six frames need two writes
    source, pictures = noise_clip(tmp_path / "in.mkv")
    for form in ("csv", "parquet"):
        segment_video(segmenter, source, tmp_path / "out.mp4", shares=form)
    table = parquet.read_table(shares_file(tmp_path / "out.mp4", "parquet"))
    assert table.schema.names == ["frame", "seconds", *CLASSES]
    assert table.schema.types == [int64(), float64(), *[float32()] * len(CLASSES)]
    rows = list(csv.reader(shares_file(tmp_path / "out.mp4", "csv").open()))[1:]
    assert len(rows) == table.num_rows == len(pictures)
    made = np.array([list(row.values()) for row in table.to_pylist()])
    np.testing.assert_allclose(made, np.array(rows, float), atol=1e-6)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_shares_of_a_failed_video_are_not_kept(
    tmp_path: Path, segmenter: Segmenter, monkeypatch, form
) -> None:
    source, _ = noise_clip(tmp_path / "in.mkv")

    def run(*_: object) -> None:
        raise RuntimeError("the runtime gives up")

    monkeypatch.setattr(segmenter.runtime.session, "run", run)
    with pytest.raises(InputError, match="failed on a 97x71 picture"):
        segment_video(segmenter, source, tmp_path / "out.mp4", shares=form)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_without_pyarrow_one_sentence_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'blda\[parquet\]'"):
        Settings(shares="parquet")
    Settings(shares="csv")


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


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, segmenter: Segmenter, monkeypatch) -> None:
    source = write_clip(tmp_path / "in.mp4", times=range(30))
    original = Segmenter.__call__

    def touch(self, *args, **kwargs):
        source.touch()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Segmenter, "__call__", touch)
    with pytest.raises(InputError, match="changed while it was read"):
        segment_video(segmenter, source, tmp_path / "out.mp4", shares="csv")
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4"}


def test_a_wrong_extension_is_no_matter(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_clip(tmp_path / "in.mkv").rename(tmp_path / "in.avi")
    assert segment_video(segmenter, source, tmp_path / "out.mp4").frames == 12


def test_an_item_is_dropped_only_when_there_is_no_room() -> None:
    dropped: list[int] = []
    begin = threading.Event()

    def numbers():
        yield from range(20)
        begin.set()

    items = background(numbers(), 3, lambda item: item % 2 == 0 and not dropped.append(item))
    first = next(items)
    time.sleep(0.1)
    rest = list(items)
    assert first == 0 and dropped and begin.is_set()
    assert sorted([first, *rest, *dropped]) == list(range(20)) and rest == sorted(rest)
    assert all(number % 2 == 0 for number in dropped)


def test_an_address_where_nobody_answers(tmp_path: Path, segmenter: Segmenter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=r"gives no video .*check the address"):
        segment_video(segmenter, f"tcp://127.0.0.1:{port}", tmp_path / "out.mp4")
    with pytest.raises(
        InputError, match=r"/dev/video99 is not there, so no such webcam is connected \(found:"
    ):
        segment_video(segmenter, "/dev/video99", tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []
