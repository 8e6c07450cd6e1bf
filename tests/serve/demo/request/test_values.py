"""Requests that make no sense: every wrong value, in every place of every handler, gets one sentence.

A small fuzzer: values of all kinds in each place, requests of all forms to each address that takes any. What
it looks for is a server error, an answer without a sentence, and a traceback in the server's log.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import gradio_client
import pytest
from demo_server import file_data, side_by_side

pytestmark = pytest.mark.usefixtures("nothing_in_the_log")


VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    7,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "x",
    "a\0b",
    "\ud800",
    "<b>&'\"</b>",
    "sliding.onnx",
    [],
    [None],
    ["x"],
    [[["a"]]],
    ["x"] * 5000,
    {},
    {"path": None},
    {"path": 7},
    {"path": ["x"]},
    {"path": "a\0b", "meta": {"_type": "gradio.FileData"}},
    {"url": "x"},
    {"value": 1},
    {"__type__": "update"},
    "data:image/png;base64,AAAA",
]

FORMS = [
    b"",
    b"x",
    b"\xff\xfe",
    b"[]",
    b"null",
    b"7",
    b"{}",
    b'{"data": null}',
    b'{"data": "x"}',
    b'{"data": {}}',
    b'{"data": []}',
    b'{"data": [], "fn_index": 99, "session_hash": "x"}',
    b'{"data": [], "fn_index": "0", "session_hash": "x"}',
    b'{"data": [], "fn_index": true, "session_hash": "x"}',
    b'{"data": [], "fn_index": 1, "session_hash": 7}',
    b'{"data": [], "fn_index": 1, "session_hash": "a b"}',
    b'{"data": [], "fn_index": 1, "session_hash": "\\ud800"}',
    b'{"data": [], "fn_index": 1, "session_hash": "a", "trigger_id": "x"}',
    b'{"data": [], "fn_index": 1, "session_hash": "a", "batched": true, "event_data": 5, "event_id": "b"}',
    b'{"model": 1}',
    b'{"model": "plain.onnx", "picture": null, "nothing": 1}',
    b'{"event_id": "x", "session_hash": "y", "fn_index": 1}',
    b'{"event_id": 7, "session_hash": "y", "fn_index": 1}',
    b'{"data": ' + b"1" * 5000 + b"}",
    b'{"data": ' + b"[" * 500 + b"]" * 500 + b"}",
    b"[" * 100_000,
    b'{"data": ["' + b"x" * 2**21 + b'"]}',
]

WAYS = [
    "call/segment_image",
    "call/segment_video",
    "call/v2/segment_image",
    "call/v2/segment_video",
    "call/nothing",
    "call/v2/nothing",
    "queue/join",
    "run/predict",
    "run/segment_image",
    "cancel",
    "reset",
]


def _is_sentence(text: object) -> bool:
    return isinstance(text, str) and len(text) > 20 and text[-1] == "." and "\n" not in text


def test_every_value_in_every_place(site):
    asked = [
        (number, component["type"], value, [*values[:place], value, *values[place + 1 :]])
        for number, inputs, values in site.handlers()
        for place, component in enumerate(inputs)
        for value in VALUES
    ]
    assert len(asked) > 15 * len(VALUES)  # five for a picture, twice, five for a video, examples, the model
    answers = side_by_side(lambda each: site.run(each[0], each[3]), asked)
    for (number, kind, value, _), answer in zip(asked, answers, strict=True):
        said = answer["output"].get("error")
        assert answer["success"] or _is_sentence(said), (number, kind, value, said)
        assert len(said or "") < 400, said


def test_every_number_of_values(site):
    for number, _, values in site.handlers():
        for data in ([], values[:-1], [*values, None], [values]):
            if len(data) != len(values):
                answer = site.run(number, data)
                assert not answer["success"]
                assert answer["output"]["error"] == (
                    f"The request gives {len(data)} value(s), but {len(values)} are needed; see the "
                    "description of the API."
                )


@pytest.mark.parametrize("way", WAYS)
def test_every_form_at_every_address(site, way):
    for form in FORMS:
        status, text = site.ask("POST", f"/gradio_api/{way}", form)
        if status == 200 and "event_id" in text:  # of the right form: what is wrong comes as an event
            name, event = way.rpartition("/")[2], json.loads(text)["event_id"]
            if way.startswith("call"):
                _, stream = site.ask("GET", f"/gradio_api/call/{name}/{event}")
                assert stream.startswith("event: error\n") and '"error": null' not in stream, (
                    form[:80],
                    stream,
                )
        else:
            assert status in (200, 400, 404), (form[:80], status, text)
            assert status == 200 or text.startswith("{") or _is_sentence(text.strip()), (form[:80], text)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD"])
def test_every_address_with_odd_questions(site, method):
    for path in (
        "/?page=x",
        "/?deep_link=a",
        "/config?deep_link=..",
        "/gradio_api/info?page=x&all_endpoints=x",
        "/gradio_api/openapi.json?page=x",
        "/gradio_api/queue/status",
        "/gradio_api/queue/data",
        "/gradio_api/queue/data?session_hash=x",
        "/gradio_api/call/segment_image/abc",
        "/gradio_api/call/v2/segment_image/abc",
        "/gradio_api/upload_progress",
        "/gradio_api/file=%00",
        "/gradio_api/file=" + "a" * 3000,
        "/static/" + "a" * 3000,
        "/assets/%00",
        "/assets/%ff",
        "/login",
    ):
        assert site.ask(method, path, b"" if method in ("POST", "PUT") else None)[0] < 500, path


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({1: None, 2: "x"}, "The tau is 'x', but must be a number between 0 and 2."),
        ({2: True}, "The tau is True, but must be a number between 0 and 2."),
        ({2: float("nan")}, "The tau is nan, but must be a number between 0 and 2."),
        ({3: [0.5]}, "The opacity is [0.5], but must be a number between 0 and 1."),
        ({4: None}, "The classes shown are None, but must be a list of names, such as red, green, blue."),
        ({4: "red"}, "The classes shown are 'red', but must be a list of names, such as red, green, blue."),
        ({4: ["grey"]}, "There is no class 'grey' in this model; there are red, green, blue."),
        ({0: "x\0"}, "There is no model 'x\\x00' here; there are sliding.onnx, plain.onnx."),
        ({0: ["plain.onnx"]}, "There is no model ['plain.onnx'] here; there are sliding.onnx, plain.onnx."),
        # An API client gets plain text, and the page, where it is HTML, no element.
        (
            {0: "<img src=x>&'\""},
            "There is no model '‹img src=x›&\\'\"' here; there are sliding.onnx, plain.onnx.",
        ),
    ],
)
def test_the_sentence_says_what_is_wrong(site, values, said):
    data: list[Any] = ["sliding.onnx", file_data(site.picture), 0.2, 0.5, ["red"]]
    for place, value in values.items():
        data[place] = value
    kind, answer = site.call("segment_image", *data)
    assert (kind, answer["error"]) == ("error", said)


@pytest.mark.parametrize(
    ("about", "taken"),
    [
        ({"orig_name": 7}, False),
        ({"orig_name": ["x"]}, False),
        ({"meta": 7}, False),
        ({"meta": ["gradio.FileData"]}, False),
        ({"meta": None, "orig_name": None}, True),
        ({"size": "x", "mime_type": 7, "is_stream": "x", "url": 7}, True),  # nobody needs them
    ],
)
def test_what_is_said_about_a_file(site, about, taken):
    kind, answer = site.call("segment_image", "plain.onnx", {"path": site.picture} | about, None, 0.5, [])
    assert kind == ("complete" if taken else "error")
    if not taken:
        assert (
            _is_sentence(answer["error"]) and '"orig_name" is a text and "meta" a mapping' in answer["error"]
        )


def test_outputs_that_a_model_does_not_have(site):
    kind, answer = site.call("segment_video", "plain.onnx", file_data(site.clip), None, 0.5, "side-by-side")
    assert (kind, answer["error"]) == (
        "error",
        "There is no output 'side-by-side' here; take one of overlay, colors.",
    )


def test_names_of_parameters(site):
    way = "/gradio_api/call/v2/segment_image"
    assert site.ask("POST", way, b'{"nothing": 1}') == (
        400,
        "segment_image has no parameter 'nothing'; its parameters are model, picture, tau, opacity, shown.\n",
    )
    assert site.ask("POST", way, b'{"tau": 1}') == (
        400,
        "segment_image needs 'picture'; its parameters are model, picture, tau, opacity, shown.\n",
    )
    status, text = site.ask("POST", way, json.dumps({"picture": {"path": site.picture}}).encode())
    event = json.loads(text)["event_id"]
    assert status == 200 and "complete" in site.ask("GET", f"{way}/{event}")[1]


def test_outputs_have_names(site, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where gradio_client leaves what it fetched
    described = json.loads(site.ask("GET", "/gradio_api/info")[1])["named_endpoints"]
    names = {name: [each["label"] for each in endpoint["returns"]] for name, endpoint in described.items()}
    assert names == {
        "/segment_image": ["pictures", "legend", "labels", "overlay", "shares"],
        "/segment_video": ["video", "status"],
    }
    for name, outputs in names.items():
        assert all(f"`{output}`" in described[name]["description"] for output in outputs)
    client = gradio_client.Client(site.server.url, verbose=False)
    seen = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/segment_image"]
    picture = gradio_client.handle_file(site.picture)
    answers = client.predict(model="plain.onnx", picture=picture, api_name="/segment_image")
    named = dict(zip([each["label"] for each in seen["returns"]], answers, strict=True))
    assert Path(named["labels"]).suffix == ".png" and Path(named["overlay"]).suffix == ".jpg"
    assert named["shares"]["corrected"]["red"] == 0.5
