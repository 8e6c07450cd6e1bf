"""A demo with secrets beside it, and the ways to ask it for them.

The server has two secrets beside its folder, a picture and a clip, of a colour that nothing else has.
"""

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from demo_server import Demo, side_by_side

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


def ask(site: Site, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of an answer; `headers` with _ for -."""
    status, text, _ = answer_to(site, method, path, body, **headers)
    return status, text


def answer_to(
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


def config_of(site: Site) -> dict[str, Any]:
    status, text = ask(site, "GET", "/config")
    assert status == 200
    return dict(json.loads(text))


def run_handler(site: Site, number: int, data: list[object]) -> dict[str, Any]:
    """Let a handler run as the page does, be it public or not; the last message about it."""
    session = str(threading.get_ident())  # Gradio is slow to make new ones
    body = {"fn_index": number, "data": data, "session_hash": session}
    status, text = ask(site, "POST", "/gradio_api/queue/join", json.dumps(body).encode())
    assert status == 200, text
    _, stream = ask(site, "GET", f"/gradio_api/queue/data?session_hash={session}")
    messages = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line]
    return next(m for m in messages if m["msg"] == "process_completed")


def run_all(site: Site, asked: list[tuple[Any, int, list[object]]]) -> list[dict[str, Any]]:
    """Several handlers at the same time; each is (anything, its number, its data)."""
    return side_by_side(lambda each: run_handler(site, each[1], each[2]), asked)


def handlers_of(site: Site) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Number and input components of every handler that takes any."""
    config = config_of(site)
    components = {component["id"]: component for component in config["components"]}
    for handler in config["dependencies"]:
        if handler["inputs"] and handler["backend_fn"]:
            yield handler["id"], [components[number] for number in handler["inputs"]]


def contacts_of(site: Site) -> list[str]:
    lines = site.server.contacts.read_text().splitlines()
    return [line for line in lines if "127.0.0.1" not in line and "localhost" not in line]
