"""The demo without a browser: what its options refuse, what its API answers, what it keeps and contacts."""

import http.client
import json
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from urllib.error import HTTPError

import av
import gradio_client
import numpy as np
import pytest
from click.testing import CliRunner
from demo_server import Demo, demo, file_data, result, submit, upload, upload_endlessly
from PIL import Image
from serve_graphs import PALETTE, halves, write_clip, write_graph

from serve.cli.commands import main
from serve.demo.options import Limits
from serve.demo.request.files import Results, Upload
from serve.demo.request.limits import read_picture
from serve.errors import InputError


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    return (
        write_graph(folder / "sliding.onnx", runtime_tau=True, extras=True),
        write_graph(folder / "plain.onnx"),
    )


@pytest.fixture(scope="module")
def server(graphs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("server"), *graphs, "--max-seconds", 60, "--max-upload", 20) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Demo) -> gradio_client.Client:
    return gradio_client.Client(server.url, verbose=False)


@pytest.fixture(autouse=True)
def _downloads_go_with_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gradio_client leaves a folder in the temporary one for every file that it fetched."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(halves(80, 100)).save(tmp_path / "street.png")
    return tmp_path / "street.png"


def _segment(client: gradio_client.Client, picture: Path, **changes):
    arguments = {
        "model": "sliding.onnx",
        "picture": gradio_client.handle_file(picture),
        "tau": 0,
        "opacity": 1,
        "shown": ["red", "green", "blue"],
    }
    return client.predict(**arguments | changes, api_name="/segment_image")


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


# The API


def test_the_api_says_what_it_takes_and_gives(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/segment_image", "/segment_video"}
    for name, parameters in {
        "/segment_image": ["model", "picture", "tau", "opacity", "shown"],
        "/segment_video": ["model", "video", "tau", "opacity", "output"],
    }.items():
        assert [p["parameter_name"] for p in endpoints[name]["parameters"]] == parameters
        assert endpoints[name]["description"].startswith("Segment ")
    assert "strength of the correction" in json.dumps(endpoints["/segment_image"])


def test_a_picture_through_the_api(client, picture):
    (before, after), legend, labels, overlay, shares = _segment(client, picture)
    assert Path(labels).name == "street-labels.png" and Path(overlay).name == "street-overlay.jpg"
    expected = halves(80, 100).argmax(2)
    np.testing.assert_array_equal(np.asarray(Image.open(labels)), expected)
    painted = np.asarray(PALETTE)[expected]
    for side in (before, after):
        shown = np.asarray(Image.open(side)).astype(int)
        assert shown.shape == painted.shape and np.abs(shown - painted)[:, 5:45].max() < 12
    assert shares == {"corrected": {"red": 0.5, "green": 0.5, "blue": 0.0}} | {
        "uncorrected": {"red": 0.5, "green": 0.5, "blue": 0.0}
    }
    assert ">red<" in legend and "50.0" in legend and "Not in this picture: blue" in legend


def test_tau_changes_the_after_and_not_the_before(client, picture):
    (before, after), legend, labels, _, shares = _segment(client, picture, tau=1)
    assert set(np.unique(np.asarray(Image.open(labels)))) == {2}
    assert shares["corrected"]["blue"] == 1 and shares["uncorrected"]["red"] == 0.5
    assert np.asarray(Image.open(after))[40, 20].tolist() == pytest.approx([0, 0, 255], abs=8)
    assert np.asarray(Image.open(before))[40, 20].tolist() == pytest.approx([255, 0, 0], abs=8)
    assert "+100.0" in legend and "−50.0" in legend


def test_classes_switched_off_show_the_picture(client, picture):
    (_, after), legend, labels, *_ = _segment(client, picture, shown=["green"])
    shown = np.asarray(Image.open(after)).astype(int)
    assert shown[40, 20].tolist() == pytest.approx([220, 0, 0], abs=8)  # the picture's own red
    assert shown[40, 80].tolist() == pytest.approx([0, 255, 0], abs=8)  # the palette's green
    assert re.search(r'class="off" data-class="red"', legend)
    np.testing.assert_array_equal(np.asarray(Image.open(labels)), halves(80, 100).argmax(2))


def test_a_graph_without_uncorrected_labels_shows_the_picture_before(client, picture):
    (before, _), legend, *_, shares = _segment(client, picture, model="plain.onnx", tau=1.5)  # tau: unused
    assert np.asarray(Image.open(before))[40, 20].tolist() == pytest.approx([220, 0, 0], abs=8)
    assert set(shares) == {"corrected"} and "correction" not in legend


def test_a_video_through_the_api(client, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", times=range(24), sound="aac")
    result, status = client.predict(
        model="sliding.onnx",
        video=gradio_client.handle_file(clip),
        tau=2,
        opacity=1,
        output="colors",
        api_name="/segment_video",
    )
    result = result["video"] if isinstance(result, dict) else result
    with av.open(result) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.frames) == ("h264", 24)
        assert [s.type for s in container.streams] == ["video", "audio"]
        pixel = next(container.decode(video=0)).to_ndarray(format="rgb24")[30, 30]
    assert pixel.tolist() == pytest.approx([0, 0, 255], abs=12)
    assert "24 frames in" in status and "with its sound" in status


def test_requests_that_make_no_sense(client, picture):
    for changes, words in (
        ({"model": "other.onnx"}, "no model"),
        ({"opacity": 7}, "between 0 and 1"),
        ({"tau": 3}, "tau is 3, but must be a number between 0 and 2"),
    ):
        with pytest.raises((gradio_client.exceptions.AppError, ValueError), match=words):
            _segment(client, picture, **changes)


# What is refused: a sentence for the visitor, and the server stays


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
        _segment(client, bad)
    assert "/tmp" not in str(refused.value) and "Traceback" not in str(refused.value)
    assert _segment(client, picture)[2]


def test_pixels_are_counted_before_any_is_decoded(tmp_path):
    bad = _huge_png(tmp_path / "x", 9000, 9000)  # within Pillow's own limit
    begin = time.perf_counter()
    with pytest.raises(
        InputError, match=r"my\.png has 9000 x 9000 = 81 megapixels; this demo takes up to 50"
    ):
        read_picture(Upload(bad, "my.png"), Limits())
    assert time.perf_counter() - begin < 0.5


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


def test_the_server_contacts_nobody(server, client, picture):
    _segment(client, picture)
    contacts = server.contacts.read_text().splitlines()
    assert [line for line in contacts if "127.0.0.1" not in line and "localhost" not in line] == []


# Starting and stopping


@pytest.mark.slow
def test_everything_is_gone_after_the_end(graphs, picture, tmp_path):
    with demo(tmp_path / "server", graphs[1]) as running:
        client = gradio_client.Client(running.url, verbose=False)
        client.predict(
            picture=gradio_client.handle_file(picture), tau=0, opacity=1, shown=[], api_name="/segment_image"
        )
        assert any(path.is_file() for path in running.temporary.rglob("*"))
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) == 0
        assert list(running.temporary.iterdir()) == []
        assert not [path for path in running.home.rglob("*") if path.is_file()]


def _refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["demo", *map(str, arguments)])
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    return result.stderr


def test_options_that_are_refused(graphs, tmp_path):
    accounts = tmp_path / "accounts"
    assert "missing.onnx is not a file" in _refused(tmp_path / "missing.onnx")
    assert f"--auth {accounts} can't be read" in _refused(graphs[0], "--auth", accounts)
    accounts.write_text("")
    assert "is empty" in _refused(graphs[0], "--auth", accounts)
    accounts.write_text("ada:x\nnobody\n")
    assert "not NAME:PASSWORD" in _refused(graphs[0], "--auth", accounts)
    assert "holds no picture or video" in _refused(graphs[0], "--examples", tmp_path)


def test_more_requests_than_may_wait_are_refused(graphs, tmp_path):
    clip = write_clip(tmp_path / "long.mp4", picture=halves(480, 640), times=range(400))
    with demo(tmp_path / "server", graphs[1], "--max-queue", 1) as server:
        request = ("segment_video", "plain.onnx", file_data(upload(server, clip)), None, 0.5, "overlay")
        submit(server, *request)
        for _ in range(100):  # until the first one left the queue for its work
            try:
                submit(server, *request)
                break
            except HTTPError:
                time.sleep(0.05)
        else:
            raise AssertionError("the queue never took a second request")
        with pytest.raises(HTTPError) as refused:
            submit(server, *request)
        assert refused.value.code == 503 and "queue" in refused.value.read().decode().lower()
        assert server.process.poll() is None


def test_a_port_in_use(server, graphs):
    port = server.url.rpartition(":")[2]
    assert f"port {port} of 127.0.0.1 can't be used" in _refused(graphs[1], "--port", port)


def test_without_gradio_one_sentence_says_what_to_install(graphs):
    program = (
        "import sys; sys.modules['gradio'] = None\n"
        f"from serve.cli.commands import main; main(['demo', {str(graphs[0])!r}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'blda[demo]'" in done.stderr
    assert "Traceback" not in done.stderr


# Parts


def test_equal_content_has_an_equal_path(tmp_path):
    results = Results(tmp_path)
    first, other = halves(8, 8), halves(8, 10)
    assert results.keep_image(first, "a.png") == results.keep_image(first, "a.png")
    assert results.keep_image(first, "a.png") != results.keep_image(other, "a.png")
    assert results.new_file("a.mp4") != results.new_file("a.mp4")
