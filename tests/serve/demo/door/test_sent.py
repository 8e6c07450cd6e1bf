"""What visitors send: names lead nowhere, files name no other files, scripts cannot act."""

import json
import os
from pathlib import Path

import av
import pytest
from attacked import COLOUR, META, Site, answer_to, ask, config_of, contacts_of
from demo_server import file_data, result, submit, upload
from serve_graphs import write_clip


# Gradio itself takes no file whose `meta` is no mapping.
@pytest.mark.parametrize("meta", [name for name in META if name not in ("null", "no mapping")])
def test_uploads_and_examples_are_the_pages(site, picture, meta):
    sent = upload(site.server, picture)
    samples = [c["props"]["samples"] for c in config_of(site)["components"] if c["type"] == "dataset"]
    example = next(s[0][0] for s in samples if s[0][0]["path"].endswith(".png"))
    assert not Path(example["path"]).is_relative_to(site.secret.parent / "examples")
    for path in (sent, example["path"]):
        event = submit(site.server, "segment_image", "plain.onnx", {"path": path} | META[meta], 0, 1, ["red"])
        assert result(site.server, "segment_image", event)[4]["corrected"]["red"] == 0.5
    assert ask(site, "GET", f"/gradio_api/file={sent}", Accept="*/*")[0] == 200


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
    assert site.files() == before and not contacts_of(site)


def test_numbered_pictures_are_not_read_as_one_video(site, picture):
    numbered = picture.rename(picture.with_name("a%d.png"))
    event = submit(
        site.server, "segment_video", "plain.onnx", file_data(upload(site.server, numbered)), 0, 0, "overlay"
    )
    with pytest.raises(AssertionError, match="is no video that this page takes"):
        result(site.server, "segment_video", event)


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
    status, text, got = answer_to(site, "GET", f"/gradio_api/file={site.uploaded}", **headers, **own, **more)
    assert status == {"": 200, "bytes=x": 400}.get(part, 206) and "secret" not in json.dumps(got)
    assert got["content-security-policy"].startswith("sandbox") and got["x-content-type-options"] == "nosniff"
    assert part != "bytes=0-3" or (status == 206 and len(text) == 4)


def test_an_upload_with_a_script_cannot_act(site, tmp_path):
    (tmp_path / "x.html").write_text("<script>alert(1)</script>")
    _, _, got = answer_to(site, "GET", f"/gradio_api/file={upload(site.server, tmp_path / 'x.html')}")
    assert got["content-disposition"].startswith("attachment") and got["content-type"] != "text/html"
