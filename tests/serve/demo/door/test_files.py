"""Files of the server, which a visitor must not get: a list that grows with each finding.

What is asked for is in the parameters, what must come of it in the tests: one sentence, which does not tell
whether a file exists, no new file on the server, and nobody contacted.
"""

import http.client
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from attacked import META, NOT_GIVEN, REFUSED, ask, contacts_of, handlers_of, run_all, run_handler
from browser import until
from demo_server import file_data, result

from serve.demo.page import model_names
from serve.demo.request.files import Uploads
from serve.errors import InputError

USUAL_META = ("none", "right")

USUAL_PATHS = ("absolute", "absent", "symlinked", "other address", "web address to an upload")


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
    for number, inputs in handlers_of(site):
        for place, component in enumerate(inputs):
            if component["type"] not in ("image", "video"):
                continue
            for name in names or paths:
                data = [each["props"].get("value") for each in inputs]
                data[place] = {"path": paths[name]} | META[meta]
                asked.append((name, number, data))
    for (name, number, _), answer in zip(asked, run_all(site, asked), strict=True):
        assert not answer["success"], (number, name)
        assert answer["output"]["error"] == REFUSED, (number, name, answer["output"])
    # The picture's handler, the same after another model, the video's.
    assert len(asked) >= 3 * len(names or paths)
    assert site.files() == before and not contacts_of(site)


def test_nor_in_a_value_that_should_be_no_file(site, paths):
    """Sliders, lists of classes and names of models, and deep inside them."""
    before = site.files()
    asked = []
    for number, inputs in handlers_of(site):
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
    for (place, number, _), answer in zip(asked, run_all(site, asked), strict=True):
        assert not answer["success"] and answer["output"]["error"] == REFUSED, (number, place)
    assert site.files() == before and not contacts_of(site)


@pytest.mark.parametrize("payload", [7, "x.png", [], ["x.png"], True, {}, {"path": None}, {"url": "x"}])
def test_nor_what_is_no_file_at_all(site, payload):
    before = site.files()
    for number, inputs in handlers_of(site):
        for place, component in enumerate(inputs):
            if component["type"] in ("image", "video"):
                data = [each["props"].get("value") for each in inputs]
                data[place] = payload
                assert not run_handler(site, number, data)["success"], (number, payload)
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
    status, text = ask(site, "POST", way, json.dumps(body).encode())
    if status == 200 and "event_id" in text:
        event = json.loads(text)["event_id"]
        with pytest.raises(AssertionError) as refused:
            result(site.server, "segment_image", event)
        assert REFUSED in str(refused.value)
    else:
        assert status in (404, 422) or (status == 500 and "error" in json.loads(text)), text
        assert '"data"' not in text
    assert site.files() == before and not contacts_of(site)


def test_no_file_is_given_out_but_the_pages(site, paths):
    for name, path in paths.items():
        address = "/gradio_api/file=" + path.replace("%", "%25").replace("\0", "%00")
        for way in (address, address.replace("/", "%2F").replace("%2Fgradio_api%2F", "/gradio_api/")):
            assert ask(site, "GET", way) == (403, NOT_GIVEN), name
    assert not contacts_of(site)


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
            assert ask(site, "GET", f"/gradio_api/file={path}") == (403, NOT_GIVEN), path
    connection.close()


@pytest.mark.parametrize("folder", ["results", "deep_links"])
def test_nor_a_listing(site, folder):
    for path in (site.folder, site.folder / folder):
        assert ask(site, "GET", f"/gradio_api/file={path}") == (403, NOT_GIVEN)


def test_models_of_one_name_do_not_show_where_they_lie(tmp_path):
    files = [tmp_path / place / "model.onnx" for place in ("day", "night/new")]
    models = [SimpleNamespace(runtime=SimpleNamespace(path=path), profile="") for path in files]
    assert list(model_names(models)) == ["day/model.onnx", "night/new/model.onnx"]
    assert list(model_names(models[:1])) == ["model.onnx"]


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
