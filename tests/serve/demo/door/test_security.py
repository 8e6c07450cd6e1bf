"""What a visitor of the demo, or a web page elsewhere, must not get: a list that grows with each finding.

The server has two secrets beside its folder, a picture and a clip, of a colour that nothing else has. What is
asked for is in the parameters, what must come of it in the tests: one sentence, which does not tell whether a
file exists, no new file on the server, and nobody contacted.
"""

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from browser import until
from click.testing import CliRunner
from demo_server import Demo, demo, file_data, result, side_by_side, submit, upload
from PIL import Image
from serve_graphs import halves, write_clip, write_graph

from serve.cli.commands import main
from serve.demo.door.gate import host_name
from serve.demo.page import model_names
from serve.demo.request.files import Uploads
from serve.errors import InputError

REFUSED = "The request names a file that this page does not have (any more); upload it first."
NOT_GIVEN = "That file is not one of this page's, or was cleaned up.\n"
KNOWN_AS = "demo.example.org"
ALSO = "192.168.1.20"
COLOUR = (250, 0, 250)

META = {
    "none": {},
    "empty": {"meta": {}},
    "null": {"meta": None},
    "another type": {"meta": {"_type": "gradio.Other"}},
    "no mapping": {"meta": ["gradio.FileData"]},
    "right": {"meta": {"_type": "gradio.FileData"}},
    "a stream": {"meta": {"_type": "gradio.FileData"}, "is_stream": True},
    "an address too": {"url": "http://127.0.0.1:9/x.png"},
    "a name": {"orig_name": "street.png", "mime_type": "image/png", "size": 12},
}


USUAL_META = ("none", "right")
USUAL_PATHS = ("absolute", "absent", "symlinked", "other address", "web address to an upload")


class Site(NamedTuple):
    """A running demo and what lies around it."""

    server: Demo
    secret: Path
    secret_clip: Path
    uploaded: str
    """Path on the server of a picture that a visitor sent."""

    @property
    def folder(self) -> Path:
        """Where uploads lie."""
        return next(self.server.temporary.glob(".blda-demo.*"))

    def files(self) -> set[Path]:
        return {path for path in self.folder.rglob("*") if path.is_file()}

    @property
    def port(self) -> int:
        return int(self.server.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    models = (
        write_graph(folder / "sliding.onnx", runtime_tau=True, extras=True),
        write_graph(folder / "plain.onnx"),
    )
    secret, clip = folder / "secret.png", folder / "secret.ts"
    colour = np.full((64, 64, 3), COLOUR, np.uint8)
    Image.fromarray(colour).save(secret)
    write_clip(clip, times=range(12), picture=colour)
    (folder / "examples").mkdir()
    Image.fromarray(halves(60, 60)).save(folder / "examples" / "street.png")
    write_clip(folder / "examples" / "drive.mp4", times=range(6))
    options = ("--examples", folder / "examples", "--allow-host", KNOWN_AS, "--allow-host", ALSO)
    with demo(folder / "server", *models, *options) as running:
        yield Site(running, secret, clip, upload(running, folder / "examples" / "street.png"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(halves(80, 100)).save(tmp_path / "mine.png")
    return tmp_path / "mine.png"


def _ask(site: Site, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of an answer; `headers` with _ for -."""
    status, text, _ = _answer(site, method, path, body, **headers)
    return status, text


def _answer(
    site: Site, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers (names in lower case)."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.putrequest(method, path, skip_host="Host" in headers)
    if body is not None:
        headers.setdefault("Content_Type", "application/json")
        headers["Content_Length"] = str(len(body))
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, text, {name.lower(): value for name, value in answer.getheaders()}


def _config(site: Site) -> dict[str, Any]:
    status, text = _ask(site, "GET", "/config")
    assert status == 200
    return dict(json.loads(text))


def _run(site: Site, number: int, data: list[object]) -> dict[str, Any]:
    """Let a handler run as the page does, be it public or not; the last message about it."""
    session = str(threading.get_ident())  # Gradio is slow to make new ones
    body = {"fn_index": number, "data": data, "session_hash": session}
    status, text = _ask(site, "POST", "/gradio_api/queue/join", json.dumps(body).encode())
    assert status == 200, text
    _, stream = _ask(site, "GET", f"/gradio_api/queue/data?session_hash={session}")
    messages = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line]
    return next(m for m in messages if m["msg"] == "process_completed")


def _run_all(site: Site, asked: list[tuple[Any, int, list[object]]]) -> list[dict[str, Any]]:
    """Several handlers at the same time; each is (anything, its number, its data)."""
    return side_by_side(lambda each: _run(site, each[1], each[2]), asked)


def _handlers(site: Site) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Number and input components of every handler that takes any."""
    config = _config(site)
    components = {component["id"]: component for component in config["components"]}
    for handler in config["dependencies"]:
        if handler["inputs"] and handler["backend_fn"]:
            yield handler["id"], [components[number] for number in handler["inputs"]]


def _paths(site: Site) -> dict[str, str]:
    """What is named: some exist and some do not, and the answer must not tell."""
    link = site.folder / "link.png"
    if not link.is_symlink():
        link.symlink_to(site.secret)
        (site.folder / "folder").symlink_to(site.secret.parent)
        (site.folder / "round").symlink_to(site.folder / "round")
    inside = f"{site.folder}/"
    return {
        "absolute": str(site.secret),
        "absent": str(site.secret.with_name("absent.png")),
        "no folder": "/absent/absent.png",
        "relative": os.path.relpath(site.secret),
        "traversing": inside + os.path.relpath(site.secret, site.folder),
        "traversing to nothing": inside + "../../../../absent.png",
        "neighbour": f"{site.folder}-other/secret.png",
        "symlinked": str(link),
        "symlinked folder": f"{site.folder}/folder/secret.png",
        "circle": f"{site.folder}/round/x.png",
        "the folder": str(site.folder),
        "cleaned up": inside + "0" * 64 + "/x.png",
        "through proc": f"/proc/self/root{site.secret}",
        "own memory": "/proc/self/environ",
        "device": "/dev/zero",
        "home": "~/x.png",
        "file address": f"file://{site.secret}",
        "web address": f"http://127.0.0.1:{site.port}/gradio_api/file={site.secret}",
        "other address": "http://198.51.100.7/x.png",
        "NUL": f"{site.secret}\0.png",
        "long": "/" + "a" * 5000,
        "empty": "",
        "clip": str(site.secret_clip),
        "numbered clip": str(site.secret.with_name("secret%d.png")),
        # Ways that end at a file of the page: what lies on the way would show in the answer, and who takes
        # the text for an address asks there.
        "web address to an upload": "http://198.51.100.7/" + "../" * 20 + site.uploaded.lstrip("/"),
        "local address to an upload": f"file:/{site.uploaded}",
        "past a link": "/bin/.." + site.uploaded,
        "past nothing": "/absent/.." + site.uploaded,
        "past a process": "/proc/self/cwd/" + "../" * 20 + site.uploaded.lstrip("/"),
        "relative to an upload": os.path.relpath(site.uploaded),
        "not plain": site.uploaded.replace("/street", "/./street"),
        "two slashes": "/" + site.uploaded,
    }


@pytest.fixture(scope="module")
def paths(site: Site) -> dict[str, str]:
    return _paths(site)


def _contacts(site: Site) -> list[str]:
    lines = site.server.contacts.read_text().splitlines()
    return [line for line in lines if "127.0.0.1" not in line and "localhost" not in line]


# Files


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        *((meta, None) for meta in USUAL_META),
        *((meta, USUAL_PATHS) for meta in META if meta not in USUAL_META),
        *(pytest.param(meta, None, marks=pytest.mark.slow) for meta in META if meta not in USUAL_META),
    ],
)
def test_no_handler_takes_a_file_that_is_not_the_pages(site, paths, meta, names):
    before = site.files()
    asked = []
    for number, inputs in _handlers(site):
        for place, component in enumerate(inputs):
            if component["type"] not in ("image", "video"):
                continue
            for name in names or paths:
                data = [each["props"].get("value") for each in inputs]
                data[place] = {"path": paths[name]} | META[meta]
                asked.append((name, number, data))
    for (name, number, _), answer in zip(asked, _run_all(site, asked), strict=True):
        assert not answer["success"], (number, name)
        assert answer["output"]["error"] == REFUSED, (number, name, answer["output"])
    # The picture's handler, the same after another model, the video's.
    assert len(asked) >= 3 * len(names or paths)
    assert site.files() == before and not _contacts(site)


def test_nor_in_a_value_that_should_be_no_file(site, paths):
    """Sliders, lists of classes and names of models, and deep inside them."""
    before = site.files()
    asked = []
    for number, inputs in _handlers(site):
        for place in range(len(inputs)):
            for payload in (
                file_data(paths["absolute"]),
                file_data(paths["web address to an upload"]),
                [{"a": [file_data(paths["other address"])]}],
                {"path": 7},
                {"path": [paths["absolute"]]},
            ):
                data = [each["props"].get("value") for each in inputs]
                data[place] = payload
                asked.append((place, number, data))
    for (place, number, _), answer in zip(asked, _run_all(site, asked), strict=True):
        assert not answer["success"] and answer["output"]["error"] == REFUSED, (number, place)
    assert site.files() == before and not _contacts(site)


@pytest.mark.parametrize("payload", [7, "x.png", [], ["x.png"], True, {}, {"path": None}, {"url": "x"}])
def test_nor_what_is_no_file_at_all(site, payload):
    before = site.files()
    for number, inputs in _handlers(site):
        for place, component in enumerate(inputs):
            if component["type"] in ("image", "video"):
                data = [each["props"].get("value") for each in inputs]
                data[place] = payload
                assert not _run(site, number, data)["success"], (number, payload)
    assert site.files() == before


@pytest.mark.parametrize(
    "way",
    [
        "/gradio_api/call/segment_image",
        "/gradio_api/call/v2/segment_image",
        "/gradio_api/run/segment_image",
        "/gradio_api/run/predict",
        "/gradio_api/api/segment_image",
    ],
)
@pytest.mark.parametrize("path", ["absolute", "absent", "other address"])
def test_other_ways_to_the_handlers(site, paths, way, path):
    before = site.files()
    values = {"model": "plain.onnx", "picture": {"path": paths[path]}, "tau": 0, "opacity": 1, "shown": []}
    body = values if "/v2/" in way else {"data": list(values.values()), "fn_index": 0}
    status, text = _ask(site, "POST", way, json.dumps(body).encode())
    if status == 200 and "event_id" in text:
        event = json.loads(text)["event_id"]
        with pytest.raises(AssertionError) as refused:
            result(site.server, "segment_image", event)
        assert REFUSED in str(refused.value)
    else:
        assert status in (404, 422) or (status == 500 and "error" in json.loads(text)), text
        assert '"data"' not in text
    assert site.files() == before and not _contacts(site)


@pytest.mark.parametrize("way", ["run", "api"])
def test_no_request_goes_past_the_queue(site, way):
    """Also none that the page would take: at the queue, their number and the work at a time are limited."""
    before = site.files()
    data = ["plain.onnx", file_data(site.uploaded), 0, 1, []]
    handlers = _config(site)["dependencies"]
    number = next(handler["id"] for handler in handlers if handler["api_name"] == "segment_image")
    for name in ("segment_image", "predict"):
        body = json.dumps({"data": data, "fn_index": number}).encode()
        assert _ask(site, "POST", f"/gradio_api/{way}/{name}", body)[0] == 404, name
    assert site.files() == before


def test_no_file_is_given_out_but_the_pages(site, paths):
    for name, path in paths.items():
        address = "/gradio_api/file=" + path.replace("%", "%25").replace("\0", "%00")
        for way in (address, address.replace("/", "%2F").replace("%2Fgradio_api%2F", "/gradio_api/")):
            assert _ask(site, "GET", way) == (403, NOT_GIVEN), name
    assert not _contacts(site)


def test_files_that_the_server_holds_open_are_not_given_out(site):
    """While somebody's upload arrives: the process has it, and others, under small numbers."""
    form = b'--e\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + b"x" * 2**20
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=e")
    connection.putheader("Content-Length", str(2**21))
    connection.endheaders(form)
    opened = Path(f"/proc/{site.server.process.pid}/fd")
    until(lambda: any(str(site.folder) in os.path.realpath(file) for file in opened.iterdir()), "open file")
    for number in range(3, 64):
        for path in (f"/proc/self/fd/{number}", f"/dev/fd/{number}"):
            assert _ask(site, "GET", f"/gradio_api/file={path}") == (403, NOT_GIVEN), path
    connection.close()


@pytest.mark.parametrize("folder", ["results", "deep_links"])
def test_nor_a_listing(site, folder):
    for path in (site.folder, site.folder / folder):
        assert _ask(site, "GET", f"/gradio_api/file={path}") == (403, NOT_GIVEN)


# Gradio itself takes no file whose `meta` is no mapping.
@pytest.mark.parametrize("meta", [name for name in META if name not in ("null", "no mapping")])
def test_uploads_and_examples_are_the_pages(site, picture, meta):
    sent = upload(site.server, picture)
    samples = [c["props"]["samples"] for c in _config(site)["components"] if c["type"] == "dataset"]
    example = next(s[0][0] for s in samples if s[0][0]["path"].endswith(".png"))
    assert not Path(example["path"]).is_relative_to(site.secret.parent / "examples")
    for path in (sent, example["path"]):
        event = submit(site.server, "segment_image", "plain.onnx", {"path": path} | META[meta], 0, 1, ["red"])
        assert result(site.server, "segment_image", event)[4]["corrected"]["red"] == 0.5
    assert _ask(site, "GET", f"/gradio_api/file={sent}", Accept="*/*")[0] == 200


@pytest.mark.parametrize(
    "name",
    [
        "../../x.png",
        "a\0b.png",
        "a" * 400 + ".png",
        "\x1b[31mx.png",
        "..",
        "..mp4",
        ".hidden.png",
        "𝓍" * 80 + ".png",
        "z\u009b31m\u202e.png",
        "",
        None,
    ],
)
def test_a_visitors_name_for_a_file_leads_nowhere(site, picture, name):
    before = site.files()
    payload = {"path": upload(site.server, picture), "orig_name": name}
    event = submit(site.server, "segment_image", "plain.onnx", payload, 0, 1, [])
    labels = Path(result(site.server, "segment_image", event)[2]["path"])
    assert labels.is_relative_to(site.folder / "results") and labels.name.isprintable()
    assert all(path.is_relative_to(site.folder) for path in site.files() - before)
    assert not list(site.server.temporary.parent.glob("x*"))


def test_nor_into_the_operators_terminal(site, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", times=range(6))
    payload = file_data(upload(site.server, clip)) | {"orig_name": "Zebra\x1b[31m\u009b32m\u202e.mp4"}
    event = submit(site.server, "segment_video", "plain.onnx", payload, 0, 0, "overlay")
    assert result(site.server, "segment_video", event)
    log = site.server.home.with_name("log.txt").read_text()
    assert "Zebra" in log and not set("\x1b\u009b\u202e") & set(log)


# Files that name files


def _playlist(site: Site, folder: Path, kind: str) -> Path:
    clip = site.secret_clip
    if kind == "concat":
        path, text = folder / "clip.ffconcat", f"ffconcat version 1.0\nfile '{clip}'\n"
    elif kind == "session":
        path = folder / "clip.sdp"
        text = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n"
    else:
        path, place = folder / "clip.m3u8", clip
        if kind == "web playlist":
            place = f"http://198.51.100.7/{clip.name}"
        elif kind == "relative playlist":
            place = os.path.relpath(clip, site.folder / "hash")
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1.0,\n{place}\n#EXT-X-ENDLIST\n"
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["playlist", "relative playlist", "web playlist", "concat", "session"])
def test_a_video_that_names_other_files(site, tmp_path, kind):
    """libav would open them: with the playlist, the clip beside it comes back segmented."""
    path = _playlist(site, tmp_path, kind)
    if kind == "playlist":
        with av.open(str(path)) as container:  # it does: else this test would prove nothing
            pixel = next(container.decode(video=0)).to_ndarray(format="rgb24")[32, 32]
        assert pixel.tolist() == pytest.approx(COLOUR, abs=12)
    sent = upload(site.server, path)
    before = site.files()
    event = submit(site.server, "segment_video", "plain.onnx", file_data(sent), 0, 0, "overlay")
    with pytest.raises(AssertionError) as refused:
        result(site.server, "segment_video", event)
    assert f"{path.name} is no video that this page takes" in str(refused.value)
    assert "list of other files" in str(refused.value) and str(site.folder) not in str(refused.value)
    assert site.files() == before and not _contacts(site)


def test_numbered_pictures_are_not_read_as_one_video(site, picture):
    numbered = picture.rename(picture.with_name("a%d.png"))
    event = submit(
        site.server, "segment_video", "plain.onnx", file_data(upload(site.server, numbered)), 0, 0, "overlay"
    )
    with pytest.raises(AssertionError, match="is no video that this page takes"):
        result(site.server, "segment_video", event)


# Other pages


FOREIGN = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "localhost.evil.example:{port}",
    "evil.example#localhost",
    "evil.example/localhost",
    "localhost@evil.example",
    "evil.example:80@localhost",
    "localhost:80:80",
    "localhost.",
    "127.0.0.2",
    "2130706433",
    "0x7f.1",
    "[::2]",
    "[::1",
    "127.0.0.1, evil.example",
    "[.]",
    "[:::::]",
    "localhost:99999",
    f"other.{KNOWN_AS}",
    f"{KNOWN_AS}.evil.example",
    "*",
    "",
]
OWN = [
    "127.0.0.1:{port}",
    "127.0.0.1",
    "localhost:{port}",
    "LOCALHOST",
    "[::1]:{port}",
    KNOWN_AS,
    KNOWN_AS + ":443",
]
ASKED = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/assets/index.js"),
    ("GET", "/gradio_api/info"),
    ("POST", "/gradio_api/call/segment_image"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/upload"),
    ("GET", "/gradio_api/queue/data?session_hash=x"),
]


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused(site, host):
    for method, path in ASKED:
        body = b'{"data": []}' if method == "POST" else None
        status, text = _ask(site, method, path, body, Host=host.format(port=site.port))
        assert status in (400, 403), (path, text)
        assert "components" not in text and "event_id" not in text


def test_the_refusal_says_what_to_do(site):
    status, text = _ask(site, "GET", "/", Host="street.local:7860")
    assert status == 403
    assert (
        text == "This page is not known as street.local. Whoever runs it can add --allow-host street.local.\n"
    )


@pytest.mark.parametrize(
    "lines", [[], ["Host: localhost", "Host: evil.example"], ["Host: evil.example", "Host: localhost"]]
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_exactly_one_host_is_named(site, lines, version):
    head = [f"GET /config HTTP/{version}", *lines, "Connection: close", "", ""]
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall("\r\n".join(head).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split()[1] == b"400" and b"components" not in answer


@pytest.mark.parametrize("host", OWN)
def test_known_names_are_answered(site, host):
    status, text = _ask(site, "GET", "/config", Host=host.format(port=site.port))
    assert status == 200 and "components" in text


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "127.0.0.1:{port}"),
        ("https://evil.example", KNOWN_AS),
        ("http://evil.example:{port}", "evil.example:{port}"),
        ("null", "127.0.0.1:{port}"),
        ("", "127.0.0.1:{port}"),
        ("file://", "127.0.0.1:{port}"),
        ("http://127.0.0.1:1", "127.0.0.1:{port}"),  # another server of this machine
        ("http://127.0.0.1", "127.0.0.1:{port}"),
        ("http://localhost:{port}", "127.0.0.1:{port}"),
        ("http://127.0.0.1:{port}@evil.example", "127.0.0.1:{port}"),
        ("http://evil.example@127.0.0.1:{port}", "127.0.0.1:{port}"),
        ("http://127.0.0.1:{port}.evil.example", "127.0.0.1:{port}"),
        ("http://127.0.0.1:x", "127.0.0.1:{port}"),
        (f"https://{KNOWN_AS}.evil.example", KNOWN_AS),
        ("chrome-extension://abcdefgh", "127.0.0.1:{port}"),
        ("chrome-extension://127.0.0.1:{port}", "127.0.0.1:{port}"),
        ("127.0.0.1:{port}", "127.0.0.1:{port}"),
        (f"http://{KNOWN_AS}:9999", KNOWN_AS + ":{port}"),  # another server of a machine whose name is known
        (f"http://{KNOWN_AS}", KNOWN_AS + ":{port}"),
        (f"https://{KNOWN_AS}:9999", "127.0.0.1:{port}"),
        (f"http://{ALSO}", KNOWN_AS + ":{port}"),
        (f"http://{ALSO}", KNOWN_AS),
        ("http://127.0.0.1:{port}", KNOWN_AS),
        ("http://127.0.0.1:{port}/path", "127.0.0.1:{port}"),
        ("http://localhost", "localhost:65535"),
    ],
)
def test_a_foreign_origin_is_refused(site, picture, origin, host):
    """A request with such a body, or without any, needs no permission of the browser's to be sent."""
    before = site.files()
    headers = {"Origin": origin.format(port=site.port), "Host": host.format(port=site.port)}
    for method, path in ASKED:
        body = b'{"data": []}' if method == "POST" else None
        assert _ask(site, method, path, body, **headers)[0] == 403, path
    form = b'--e\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nx\r\n--e--\r\n'
    kind = {"Content_Type": "multipart/form-data; boundary=e"}
    assert _ask(site, "POST", "/gradio_api/upload", form, **headers, **kind)[0] == 403
    assert site.files() == before


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:{port}", "127.0.0.1:{port}"),
        ("http://[::1]:{port}", "[::1]:{port}"),
        ("https://localhost:{port}", "localhost:{port}"),
        (f"https://{KNOWN_AS}", KNOWN_AS),  # a proxy that ends TLS and hands the name on
        (f"https://{KNOWN_AS}", "127.0.0.1:{port}"),  # one that does not
    ],
)
def test_the_pages_own_origin_is_taken(site, origin, host):
    headers = {"Origin": origin.format(port=site.port), "Host": host.format(port=site.port)}
    assert _ask(site, "GET", "/config", **headers)[0] == 200


@pytest.mark.parametrize("site_header", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("method", "path", "mode", "dest", "status"),
    [
        ("GET", "/", "navigate", "document", 200),  # a link to the page
        ("GET", "/", "navigate", "iframe", 403),
        ("GET", "/", "no-cors", "image", 403),
        ("GET", "/config", "navigate", "document", 403),
        ("GET", "/gradio_api/file={uploaded}", "no-cors", "image", 403),
        ("GET", "/gradio_api/file={uploaded}", "navigate", "document", 403),
        ("POST", "/gradio_api/cancel", "no-cors", "empty", 403),
    ],
)
def test_what_another_page_causes_is_refused(site, site_header, method, path, mode, dest, status):
    """Requests that have no Origin, but of which browsers say where they come from."""
    headers = {"Sec_Fetch_Site": site_header, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}
    body = b"{}" if method == "POST" else None
    assert _ask(site, method, path.format(uploaded=site.uploaded), body, **headers)[0] == status


def test_no_other_page_may_frame_it(site):
    assert _answer(site, "GET", "/")[2]["content-security-policy"] == "frame-ancestors 'self'"


@pytest.mark.parametrize("host", ["evil.example", KNOWN_AS + ".evil.example"])
def test_the_question_before_a_request_is_refused_too(site, host):
    headers = {"Host": host, "Origin": f"http://{host}", "Access_Control_Request_Method": "POST"}
    for path in ("/gradio_api/upload", "/monitoring"):
        status, _, got = _answer(site, "OPTIONS", path, **headers)
        assert status == 403 and "access-control-allow-origin" not in got


@pytest.mark.parametrize("header", ["X_Forwarded_Host", "X_Gradio_Server"])
@pytest.mark.parametrize(
    "value", ["evil.example", "http://evil.example/x", f"evil.example, {KNOWN_AS}", "[.]"]
)
def test_one_visitors_name_for_the_page_is_not_shown_to_others(site, header, value):
    for path in ("/gradio_api/info", "/config", "/", "/gradio_api/openapi.json"):
        for headers in ({header: value}, {}):  # nor to himself: a cache on the way may keep it
            status, text = _ask(site, "GET", path, **headers)
            assert status == 200 and "evil.example" not in text


@pytest.mark.parametrize(
    "name", ["PWN%20%24(id)%22%27%60%3b", "%1b]0;PWNED%07%1b[31mEVIL", "%C2%9b31m", "a/b/c"]
)
@pytest.mark.parametrize("way", ["call/", "call/v2/", "run/"])
def test_names_of_handlers_are_names(site, way, name):
    """Others came back in everybody's description of the API as shell code, or to the operator's terminal."""
    assert _ask(site, "POST", f"/gradio_api/{way}{name}", b'{"data": []}')[0] == 404
    log = site.server.home.with_name("log.txt").read_text()
    assert not any(part in log for part in ("PWN", "\x1b", "\u009b"))


def test_everybody_sees_the_api_under_the_own_name(site):
    """Gradio remembers the answer that it gave first."""
    hosts = [f"127.0.0.1:{site.port}", "localhost:9999", KNOWN_AS, f"127.0.0.1:{site.port}"]
    for host in hosts:
        _, text = _ask(site, "GET", "/gradio_api/info", Host=host)
        assert f"http://{host}/" in text and not any(f"http://{h}/" in text for h in set(hosts) - {host})


def test_a_proxys_name_is_taken_if_it_is_known(site):
    _, text = _ask(site, "GET", "/config", X_Forwarded_Host=KNOWN_AS, X_Forwarded_Proto="https")
    assert json.loads(text)["root"] == f"https://{KNOWN_AS}"


# What is given out


@pytest.mark.parametrize("part", ["", "bytes=0-3", "bytes=2-", "bytes=x"])
def test_a_file_comes_alone(site, part):
    """Gradio sends the headers of a request for a part back to the visitor, for scripts to read."""
    headers = {"Cookie": "access-token-x=secret", "X_Secret": "secret"} | ({"Range": part} if part else {})
    own = {
        "Cache_Control": "public, max-age=99999",
        "ETag": "secret",
        "Vary": "secret",
        "Accept_Ranges": "secret",
    }
    more = {"Content_Encoding": "secret", "Last_Modified": "secret", "Content_Type": "text/secret"}
    status, text, got = _answer(site, "GET", f"/gradio_api/file={site.uploaded}", **headers, **own, **more)
    assert status == {"": 200, "bytes=x": 400}.get(part, 206) and "secret" not in json.dumps(got)
    assert got["content-security-policy"].startswith("sandbox") and got["x-content-type-options"] == "nosniff"
    assert part != "bytes=0-3" or (status == 206 and len(text) == 4)


def test_an_upload_with_a_script_cannot_act(site, tmp_path):
    (tmp_path / "x.html").write_text("<script>alert(1)</script>")
    _, _, got = _answer(site, "GET", f"/gradio_api/file={upload(site.server, tmp_path / 'x.html')}")
    assert got["content-disposition"].startswith("attachment") and got["content-type"] != "text/html"


# What Gradio has and the page does not use


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file/etc/hostname"),
        ("GET", "/gradio_api/proxy=https://x.hf.space/"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/component_server"),
        ("GET", "/gradio_api/deep_link?session_hash=x"),
        ("GET", "/gradio_api/custom_component/x/client/component/index.js"),
        ("POST", "/gradio_api/vibe-edit"),
        ("GET", "/gradio_api/vibe-code"),
        ("POST", "/gradio_api/stream/x"),
        ("GET", "/gradio_api/stream/a/b/1/playlist-file"),
        ("POST", "/gradio_api/run-history/connect"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/profiling/traces"),
        ("GET", "/gradio_api/dev/reload"),
        ("GET", "/monitoring"),
        ("GET", "/logout"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("POST", "/gradio_api//upload"),
        ("POST", "/gradio_api/../gradio_api/component_server"),
    ],
)
def test_what_the_page_does_not_use_is_not_there(site, method, path):
    body = b"{}" if method == "POST" else None
    assert _ask(site, method, path, body) == (404, "This page has nothing of that name.\n")


# Parts


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Demo.Example.ORG", "demo.example.org"),
        ("[::1]", "::1"),
        ("FE80:0::1", "fe80::1"),
        ("10.0.0.7", "10.0.0.7"),
    ],
)
def test_names_are_compared_as_browsers_write_them(given, name):
    assert host_name(given) == name


def test_models_of_one_name_do_not_show_where_they_lie(tmp_path):
    files = [tmp_path / place / "model.onnx" for place in ("day", "night/new")]
    models = [SimpleNamespace(runtime=SimpleNamespace(path=path)) for path in files]
    assert list(model_names(models)) == ["day/model.onnx", "night/new/model.onnx"]
    assert list(model_names(models[:1])) == ["model.onnx"]


@pytest.mark.parametrize("given", ["http://x", "x:80", "*", "*.example.org", "a b", "", "x/y", "x,y"])
def test_what_is_no_name_is_refused(given, tmp_path):
    with pytest.raises(InputError, match="is no host name; give a name or address alone"):
        host_name(given)
    graph = write_graph(tmp_path / "m.onnx")
    done = CliRunner().invoke(main, ["demo", str(graph), "--allow-host", given])
    assert done.exit_code == 2 and "is no host name" in done.output


def test_an_address_of_ipv6(tmp_path):
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text().strip():
        pytest.skip("this machine has no IPv6")
    with demo(tmp_path / "server", write_graph(tmp_path / "m.onnx"), "--host", "::1", host="::1") as running:
        connection = http.client.HTTPConnection("::1", int(running.url.rpartition(":")[2]), timeout=30)
        connection.request("GET", "/config")
        assert connection.getresponse().status == 200


def test_the_same_sentence_for_every_file(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").touch()
    (tmp_path / "out.png").touch()
    uploads = Uploads(tmp_path / "in")
    assert uploads.find({"path": str(tmp_path / "in" / "a.png")}).name == "a.png"
    sentences = set()
    for payload in ({"path": str(tmp_path / "out.png")}, {"path": str(tmp_path / "no.png")}, {}, None, "x"):
        with pytest.raises(InputError) as refused:
            uploads.find(payload)
        sentences.add(refused.value.message)
    assert sentences == {REFUSED}
