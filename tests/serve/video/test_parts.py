"""Parts of a video, fewer of its frames, and smaller ones: just what was asked for, at its time."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from serve_graphs import halves, write_clip

from serve import Segmenter
from serve.errors import InputError
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection
from serve.video.segment import segment_video


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
