"""Video in, video out: times, sound, orientation, odd sizes, and every way that it may fail."""

import threading
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from bad_videos import bad_videos
from serve_graphs import PALETTE, halves, write_clip, write_graph

from serve import Segmenter
from serve.errors import InputError
from serve.media.video.reader import Frame, VideoReader
from serve.video import sink as video_sink
from serve.video.segment import segment_video

VARIABLE = (0, 1, 2, 7, 8, 30, 31, 33, 50, 51)  # in units of 1/90 s


@pytest.fixture(scope="module", params=[1, 2], ids=["in turn", "side by side"])
def segmenter(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Segmenter:
    graph = write_graph(tmp_path_factory.mktemp("graph") / "model.onnx")
    return Segmenter(graph, threads=request.param, callers=request.param)


def _frames(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(f.pts * stream.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(stream)]


def _times(path: Path) -> list[Fraction]:
    return [when for when, _ in _frames(path)]


def _sound(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(p.pts * p.time_base, bytes(p)) for p in packets if p.pts is not None]


def _mostly(picture: np.ndarray, color: Iterable[int]) -> bool:
    """Is the mean colour this one, within what the codec loses?"""
    return bool(np.abs(picture.reshape(-1, 3).mean(0) - tuple(color)).max() < 25)


def test_overlay_holds_the_frame_the_colours_and_a_legend(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_clip(tmp_path / "in.mp4")
    report = segment_video(segmenter, source, tmp_path / "out.mp4", opacity=0.5)
    frames = _frames(tmp_path / "out.mp4")
    assert report.frames == len(frames) == 12 and report.audio_streams == 0
    picture = frames[5][1]
    assert picture.shape[0] > 72 and picture.shape[1] >= 96
    assert _mostly(picture[8:64, 8:40], (237, 0, 0)) and _mostly(picture[8:64, 56:88], (0, 237, 0))


def test_labels_hold_the_colours_alone(tmp_path: Path, segmenter: Segmenter) -> None:
    segment_video(segmenter, write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4", output="colors", crf=5)
    picture = _frames(tmp_path / "out.mp4")[0][1]
    assert picture.shape == (72, 96, 3)
    assert _mostly(picture[:, 4:44], PALETTE[0]) and _mostly(picture[:, 52:92], PALETTE[1])


def test_output_is_h264_for_browsers(tmp_path: Path, segmenter: Segmenter) -> None:
    segment_video(segmenter, write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")  # faststart: plays before it is loaded


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_variable_frame_times_are_kept_exactly(tmp_path: Path, segmenter: Segmenter, suffix: str) -> None:
    source = write_clip(tmp_path / f"in{suffix}", times=VARIABLE, time_base=Fraction(1, 90))
    segment_video(segmenter, source, tmp_path / "out.mp4")
    given, kept = _times(source), _times(tmp_path / "out.mp4")
    assert len(set(np.diff([float(t) for t in given]).round(3))) > 3
    assert [t - kept[0] for t in kept] == [t - given[0] for t in given]


def test_the_last_frame_keeps_its_duration(tmp_path: Path, segmenter: Segmenter) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 72, 96, "bgr0"
        stream.codec_context.time_base = Fraction(1, 10)
        for pts, duration in [(0, 1), (1, 4), (5, 20)]:
            frame = av.VideoFrame.from_ndarray(halves(), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 10)
            for packet in stream.encode(frame):
                packet.duration = duration
                container.mux(packet)
    segment_video(segmenter, tmp_path / "in.mkv", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.duration == 2_500_000


def test_ntsc_time_base(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_clip(tmp_path / "in.mp4", time_base=Fraction(1001, 30000))
    segment_video(segmenter, source, tmp_path / "out.mp4")
    assert _times(tmp_path / "out.mp4") == [i * Fraction(1001, 30000) for i in range(12)]


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "aac"), (".mkv", "aac"), (".ts", "aac"), (".mkv", "flac")]
)
def test_sound_is_copied_untouched_and_in_time(
    tmp_path: Path, segmenter: Segmenter, suffix: str, codec: str
) -> None:
    source = write_clip(tmp_path / f"in{suffix}", sound=codec)
    report = segment_video(segmenter, source, tmp_path / "out.mp4")
    assert report.audio_streams == 1
    given, kept = _sound(source), _sound(tmp_path / "out.mp4")
    header = 7 if suffix == ".ts" else 0  # ADTS headers, which mp4 has no use for
    assert [data for _, data in kept] == [data[header:] for _, data in given]
    lag_given = given[0][0] - _times(source)[0]
    lag_kept = kept[0][0] - _times(tmp_path / "out.mp4")[0]
    assert abs(lag_given - lag_kept) < Fraction(1, 900)


@pytest.mark.parametrize(("codec", "rate"), [("pcm_s16le", 44100), ("pcm_s16le", 96000), ("mp2", 48000)])
def test_sound_that_mp4_players_do_not_know_becomes_aac(
    tmp_path: Path, segmenter: Segmenter, codec: str, rate: int
) -> None:
    source = write_clip(tmp_path / "in.mkv", sound=codec, sample_rate=rate)
    segment_video(segmenter, source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == "aac"
        wave = np.concatenate([f.to_ndarray()[0] for f in container.decode(stream)])
    seconds = len(wave) / stream.codec_context.sample_rate
    assert abs(seconds - 1) < 0.1
    spectrum = np.abs(np.fft.rfft(wave))
    assert abs(spectrum.argmax() / seconds - 440) < 5


@pytest.mark.parametrize(
    ("rotation", "turned"),
    [
        (90, np.rot90),
        (180, lambda a: a[::-1, ::-1]),
        (270, lambda a: np.rot90(a, -1)),
        (-90, lambda a: np.rot90(a, -1)),
    ],
)
def test_rotated_videos_are_turned_upright(
    tmp_path: Path, segmenter: Segmenter, rotation: int, turned
) -> None:
    source = write_clip(tmp_path / "in.mp4", rotation=rotation)
    with av.open(str(source)) as container:  # av counts counter-clockwise
        assert next(container.decode(video=0)).rotation % 360 == rotation % 360
    segment_video(segmenter, source, tmp_path / "out.mp4", output="colors", crf=5)
    expected = turned(halves())
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
    assert frame.rotation == 0
    picture = frame.to_ndarray(format="rgb24")
    assert picture.shape == expected.shape
    strongest = picture.argmax(2)
    assert (strongest == expected.argmax(2)).mean() > 0.97


@pytest.mark.parametrize("size", [(71, 97), (1, 1), (35, 64)])
def test_odd_and_tiny_sizes(tmp_path: Path, segmenter: Segmenter, size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    picture[..., 1] = 200
    source = write_clip(
        tmp_path / "in.mkv", picture=picture, codec="ffv1", pixel_format="bgr0"
    )  # a codec that takes any size
    for output in ("colors", "overlay"):
        segment_video(segmenter, source, tmp_path / f"{output}.mp4", output=output)
        made = _frames(tmp_path / f"{output}.mp4")[0][1]
        assert made.shape[0] % 2 == 0 and made.shape[1] % 2 == 0
    made = _frames(tmp_path / "colors.mp4")[0][1]
    assert made.shape[:2] == tuple(side + side % 2 for side in size)
    assert _mostly(made, PALETTE[1])


def test_ten_bits(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_clip(tmp_path / "in.mkv", pixel_format="yuv420p10le")
    segment_video(segmenter, source, tmp_path / "out.mp4", output="colors", crf=5)
    assert _mostly(_frames(tmp_path / "out.mp4")[0][1][:, 4:44], PALETTE[0])


def test_pixel_shape_is_kept_and_turned(tmp_path: Path, segmenter: Segmenter) -> None:
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 72, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(halves(), format="rgb24")))
        container.mux(stream.encode(None))
    segment_video(segmenter, tmp_path / "in.mp4", tmp_path / "out.mp4", output="colors")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(3, 4)


def test_a_stream_that_changes_its_size(tmp_path: Path) -> None:
    for name, picture in (("a.h264", halves(72, 96)), ("b.h264", halves(96, 128))):
        write_clip(tmp_path / name, picture=picture)
    joined = (tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes()
    (tmp_path / "in.h264").write_bytes(joined)
    with VideoReader(tmp_path / "in.h264") as reader:
        frames = [item for item in reader.items() if isinstance(item, Frame)]
    assert len(frames) == 24 and {f.pixels.shape for f in frames} == {(72, 96, 3)}
    times = [f.pts for f in frames]
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    "which",
    ["cut.mp4", "cut.mov", "cut.mkv", "text.mp4", "notes.txt", "empty.mp4", "sound.m4a", "missing.mp4"],
)
def test_bad_videos_leave_one_sentence_and_no_output(
    tmp_path: Path, segmenter: Segmenter, which: str
) -> None:
    path, message = bad_videos(tmp_path)[which]
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        segment_video(segmenter, path, tmp_path / "out" / "out.mp4")
    assert str(path) in caught.value.message and "\n" not in caught.value.message
    assert list((tmp_path / "out").iterdir()) == []


def test_the_cover_of_a_song_is_no_video(tmp_path: Path, segmenter: Segmenter) -> None:
    with av.open(str(tmp_path / "song.mp3"), "w") as container:
        sound = container.add_stream("libmp3lame", rate=48000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(halves(64, 64), format="rgb24")))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(InputError, match=r"no video stream \(it has a cover picture, audio\)"):
        segment_video(segmenter, tmp_path / "song.mp3", tmp_path / "out.mp4")


def test_a_video_without_frames(tmp_path: Path, segmenter: Segmenter) -> None:
    with av.open(str(tmp_path / "none.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 72, 96, "yuv420p"
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"none\.mkv"):
        segment_video(segmenter, tmp_path / "none.mkv", tmp_path / "out.mp4")


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), OSError(28, "No space left on device"), RuntimeError("x")]
)
@pytest.mark.parametrize("where", ["decode", "model", "encode"])
def test_a_failure_in_any_stage_leaves_no_output_and_no_thread(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, where: str, failure: BaseException
) -> None:
    source = write_clip(tmp_path / "in.mp4", sound="aac")
    calls = {"n": 0}

    def fail_at_third(original):
        def wrapped(*args, **kwargs):
            calls["n"] += 1
            if calls["n"] == 3:
                raise failure
            return original(*args, **kwargs)

        return wrapped

    owner, name = {
        "decode": (VideoReader, "_frame"),
        "model": (Segmenter, "__call__"),
        "encode": (video_sink.VideoWriter, "write_frame"),
    }[where]
    monkeypatch.setattr(owner, name, fail_at_third(getattr(owner, name)))
    with pytest.raises(type(failure)):
        segment_video(segmenter, source, tmp_path / "out.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]
    assert not [each.name for each in threading.enumerate() if each.name.startswith("background")]


def test_an_existing_output_survives_a_failure(tmp_path: Path, segmenter: Segmenter) -> None:
    (tmp_path / "out.mp4").write_text("old")
    path, _ = bad_videos(tmp_path)["cut.mkv"]
    with pytest.raises(InputError):
        segment_video(segmenter, path, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_text() == "old"
