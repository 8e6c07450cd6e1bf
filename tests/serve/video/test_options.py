"""What may be asked of an output: codecs, lossless labels, panels; and inputs that are not what they seem."""

import csv
import json
import os
import socket
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from noise_clips import noise_clip
from serve_graphs import CLASSES, halves, write_clip, write_graph

from serve import Segmenter
from serve.background import background
from serve.errors import InputError
from serve.media.video.source import Selection
from serve.video.segment import segment_video

VARIABLE = (0, 1, 2, 7, 8, 30, 31, 33, 50, 51)  # in units of 1/90 s


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
    scheduled = os.sched_getscheduler(0)
    segment_video(
        segmenter, source, tmp_path / "out.mp4", codec=codec, preset=preset, output="colors", crf=15
    )
    assert os.sched_getscheduler(0) == scheduled, "SVT-AV1 would make it a real-time thread"
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
