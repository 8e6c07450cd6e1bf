"""The demo without a browser: what its API takes, answers and contacts."""

import json
import re
from pathlib import Path

import av
import gradio_client
import numpy as np
import pytest
from api_client import segment
from PIL import Image
from serve_graphs import PALETTE, halves, write_clip

from serve.demo.request.files import Results

pytestmark = pytest.mark.usefixtures("downloads_go_with_the_test")


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
    (before, after), legend, labels, overlay, shares = segment(client, picture)
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
    (before, after), legend, labels, _, shares = segment(client, picture, tau=1)
    assert set(np.unique(np.asarray(Image.open(labels)))) == {2}
    assert shares["corrected"]["blue"] == 1 and shares["uncorrected"]["red"] == 0.5
    assert np.asarray(Image.open(after))[40, 20].tolist() == pytest.approx([0, 0, 255], abs=8)
    assert np.asarray(Image.open(before))[40, 20].tolist() == pytest.approx([255, 0, 0], abs=8)
    assert "+100.0" in legend and "−50.0" in legend


def test_classes_switched_off_show_the_picture(client, picture):
    (_, after), legend, labels, *_ = segment(client, picture, shown=["green"])
    shown = np.asarray(Image.open(after)).astype(int)
    assert shown[40, 20].tolist() == pytest.approx([220, 0, 0], abs=8)  # the picture's own red
    assert shown[40, 80].tolist() == pytest.approx([0, 255, 0], abs=8)  # the palette's green
    assert re.search(r'class="off" data-class="red"', legend)
    np.testing.assert_array_equal(np.asarray(Image.open(labels)), halves(80, 100).argmax(2))


def test_a_graph_without_uncorrected_labels_shows_the_picture_before(client, picture):
    (before, _), legend, *_, shares = segment(client, picture, model="plain.onnx", tau=1.5)  # tau: unused
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
            segment(client, picture, **changes)


def test_the_server_contacts_nobody(server, client, picture):
    segment(client, picture)
    contacts = server.contacts.read_text().splitlines()
    assert [line for line in contacts if "127.0.0.1" not in line and "localhost" not in line] == []


def test_equal_content_has_an_equal_path(tmp_path):
    results = Results(tmp_path)
    first, other = halves(8, 8), halves(8, 10)
    assert results.keep_image(first, "a.png") == results.keep_image(first, "a.png")
    assert results.keep_image(first, "a.png") != results.keep_image(other, "a.png")
    assert results.new_file("a.mp4") != results.new_file("a.mp4")
