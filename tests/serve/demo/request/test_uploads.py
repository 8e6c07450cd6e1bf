"""Uploads of every form, of another type, too many or broken off: one sentence, and nothing stays."""

import http.client
from pathlib import Path

import pytest
from browser import until
from fuzzed import Site

pytestmark = pytest.mark.usefixtures("nothing_in_the_log")


def _part(about: bytes, content: bytes = b"x") -> bytes:
    return b"--e\r\nContent-Disposition: form-data; " + about + b"\r\n\r\n" + content + b"\r\n"


END = b"--e--\r\n"

FILE = b'name="files"; filename="a.png"'


def _stray(site: Site) -> list[Path]:
    """Files that lie where uploads arrive."""
    return [path for path in site.server.temporary.glob(".blda-demo.*/*") if path.is_file()]


@pytest.mark.parametrize("tracked", ["", "?upload_id=u"])
@pytest.mark.parametrize(
    "form",
    [
        b"",
        END,
        b"garbage",
        _part(FILE)[:-3],
        _part(b'name="files"') + END,
        _part(b'name="files"; filename=""') + END,
        _part(b'name="files"; filename=".."') + END,
        _part(b'name="files"; filename="a\0b"') + END,
        _part(b'filename="x"') + END,
        _part(b'name="other"; filename="a.png"', b"x" * 100_000) + END,
        _part(FILE) + _part(b'name="other"; filename="a.png"') + END,
        b"--e\r\n" + b"A: b\r\n" * 5000,
    ],
)
def test_uploads_of_every_form(site, form, tracked):
    """What Gradio does not take to the end stayed on the disk until the server stopped."""
    status, _ = site.ask("POST", f"/gradio_api/upload{tracked}", form, "multipart/form-data; boundary=e")
    assert status in (200, 400, 413)
    until(lambda: not _stray(site), "the end of what arrived")


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary="])
def test_uploads_of_another_type(site, kind):
    assert site.ask("POST", "/gradio_api/upload", _part(FILE) + END, kind)[0] == 400


def test_uploads_are_bounded_as_a_whole(site):
    kind = "multipart/form-data; boundary=e"
    assert site.ask("POST", "/gradio_api/upload", _part(FILE) * 8 + END, kind)[0] == 200
    assert site.ask("POST", "/gradio_api/upload", _part(FILE) * 9 + END, kind) == (
        413,
        "The upload has more than 8 parts; send files one by one.\n",
    )
    megabytes = _part(FILE, bytes(100 * 2**20))  # each within the limit, which is 200
    assert site.ask("POST", "/gradio_api/upload", megabytes * 3 + END, kind) == (
        413,
        "The upload exceeded maximum allowed size; send smaller files, one by one.\n",
    )
    until(lambda: not _stray(site), "the end of what arrived")


def test_an_upload_that_breaks_off_leaves_nothing(site):
    connection = http.client.HTTPConnection(site.server.url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=e")
    connection.putheader("Content-Length", str(2**22))
    connection.endheaders(_part(FILE, bytes(2**20)))
    until(lambda: _stray(site), "arriving file")
    # Another one that ends meanwhile does not take it away.
    kind = "multipart/form-data; boundary=e"
    assert site.ask("POST", "/gradio_api/upload", _part(b'name="other"; filename="b"') + END, kind)[0] == 200
    until(lambda: len(_stray(site)) < 3, "the end of the other")
    assert _stray(site)
    connection.close()
    until(lambda: not _stray(site), "the end of what arrived")
