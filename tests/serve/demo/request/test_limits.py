"""Large frames and many frames: counted before they are decoded, and in little memory."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from demo_server import memory, result, upload
from PIL import Image
from serve_graphs import halves, write_clip
from slow_demo import ask_for_video

from serve.demo.options import Limits
from serve.demo.request.files import Upload
from serve.demo.request.limits import check_video, read_picture
from serve.errors import InputError
from serve.media.video.reader import VideoReader


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


def test_a_clip_of_49_megapixels_takes_little_memory_and_gives_it_back(server, clip, tmp_path):
    """It took 16 GB, and kept them."""
    wide = upload(server, _empty_clip(tmp_path / "large.mp4", 8192, 6000, 3))
    result(
        server, "segment_video", ask_for_video(server, "quick.onnx", clip)
    )  # what is loaded lazily is loaded now
    before = memory(server)
    path = result(server, "segment_video", ask_for_video(server, "quick.onnx", wide))[0]["path"]
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


def test_a_short_clip_of_many_frames_is_refused_by_its_header(server, tmp_path):
    """100 s at 10,000 frames per second passed the limit of time."""
    fast = write_clip(tmp_path / "fast.mp4", times=range(300), time_base=Fraction(1, 10_000))
    sent = upload(server, fast)
    with pytest.raises(AssertionError, match=r"fast\.mp4 has 300 frames or more; .* up to 240"):
        result(server, "segment_video", ask_for_video(server, "quick.onnx", sent))


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
        result(server, "segment_video", ask_for_video(server, "quick.onnx", upload(server, path)))
