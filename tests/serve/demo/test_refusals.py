"""What the demo refuses: a sentence for the visitor, and the server stays."""

import http.client
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import gradio_client
import numpy as np
import pytest
from api_client import segment
from demo_server import file_data, result, submit, upload, upload_endlessly
from PIL import Image, ImageFile
from serve_graphs import halves, write_clip

from serve.demo.options import Limits
from serve.demo.request.files import Upload
from serve.demo.request.limits import read_picture
from serve.errors import InputError

pytestmark = pytest.mark.usefixtures("downloads_go_with_the_test")


def _huge_png(path: Path, width: int, height: int) -> Path:
    """A valid header that promises width x height pixels, and almost none of them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 3 * width))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("case", ["text", "huge", "empty", "truncated"])
def test_pictures_that_are_refused(client, picture, tmp_path, case):
    bad, words = tmp_path / "bad.png", "bad.png is (not a picture|truncated or damaged)"
    if case == "text":
        bad.write_text("no picture at all")
    elif case == "huge":
        _huge_png(bad, 50_000, 50_000)
        words = "bad.png has far too many pixels"
    elif case == "empty":
        bad.touch()
    else:
        bad.write_bytes(picture.read_bytes()[:120])
    with pytest.raises(gradio_client.exceptions.AppError, match=words) as refused:
        segment(client, bad)
    assert "/tmp" not in str(refused.value) and "Traceback" not in str(refused.value)
    assert segment(client, picture)[2]


def test_pixels_are_counted_before_any_is_decoded(tmp_path, monkeypatch):
    bad = _huge_png(tmp_path / "x", 9000, 9000)  # within Pillow's own limit
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda picture: pytest.fail("decoded"))
    with pytest.raises(
        InputError, match=r"my\.png has 9000 x 9000 = 81 megapixels; this demo takes up to 50"
    ):
        read_picture(Upload(bad, "my.png"), Limits())


def test_large_pictures_are_scaled_down(tmp_path):
    Image.fromarray(halves(100, 300)).save(tmp_path / "a.png")
    image = read_picture(Upload(tmp_path / "a.png", "a.png"), Limits(side=150))
    assert image.shape == (50, 150, 3)


@pytest.mark.parametrize("case", ["two hours", "text", "sound only"])
def test_videos_that_are_refused(client, tmp_path, case):
    bad = tmp_path / "bad.mp4"
    words = {"two hours": "bad.mp4 lasts 1[12]. min", "text": "bad.mp4", "sound only": "no video stream"}[
        case
    ]
    if case == "two hours":
        write_clip(bad, times=range(120), time_base=Fraction(60))
    elif case == "text":
        bad.write_text("no video at all\n" * 20)
    else:
        with av.open(str(bad), "w") as container:
            stream = container.add_stream("aac", rate=48000)
            for packet in [*stream.encode(_silence()), *stream.encode(None)]:
                container.mux(packet)
    with pytest.raises(gradio_client.exceptions.AppError, match=words) as refused:
        client.predict(
            model="plain.onnx",
            video=gradio_client.handle_file(bad),
            tau=0,
            opacity=1,
            output="overlay",
            api_name="/segment_video",
        )
    assert "/tmp" not in str(refused.value)


def _silence() -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 48000
    return frame


def test_an_upload_beyond_the_limit_is_cut_off(server):
    """Four gigabytes are announced and sent in pieces; the server answers long before their end."""
    status, text, sent = upload_endlessly(server, 4 * 2**30)
    assert status == 413 and "exceeded maximum allowed size" in text
    assert 20 <= sent < 200
    stored = sum(path.stat().st_size for path in server.temporary.rglob("*") if path.is_file())
    assert server.process.poll() is None and stored < 30 * 2**20


def test_no_file_of_the_server_can_be_asked_for(server, picture):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    for path in ("/gradio_api/file=/etc/hostname", "/gradio_api/file=../../../../etc/hostname"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (403, 404)
    sound = upload(server, picture)
    for path, allowed in ((sound, True), (str(picture), False), ("/etc/hostname", False)):
        event = submit(server, "segment_image", "plain.onnx", file_data(path), 0, 1, ["red"])
        if allowed:
            assert result(server, "segment_image", event)
        else:
            with pytest.raises(AssertionError, match="error"):
                result(server, "segment_image", event)
