"""What Gradio has and the page does not use."""

import json

import pytest
from attacked import ask, config_of
from demo_server import file_data


@pytest.mark.parametrize("way", ["run", "api"])
def test_no_request_goes_past_the_queue(site, way):
    """Also none that the page would take: at the queue, their number and the work at a time are limited."""
    before = site.files()
    data = ["plain.onnx", file_data(site.uploaded), 0, 1, []]
    handlers = config_of(site)["dependencies"]
    number = next(handler["id"] for handler in handlers if handler["api_name"] == "segment_image")
    for name in ("segment_image", "predict"):
        body = json.dumps({"data": data, "fn_index": number}).encode()
        assert ask(site, "POST", f"/gradio_api/{way}/{name}", body)[0] == 404, name
    assert site.files() == before


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
    assert ask(site, method, path, body) == (404, "This page has nothing of that name.\n")
