"""`serve demo` in a process of its own, as people start it, for the tests that talk to it."""

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.request import Request, urlopen

Given = TypeVar("Given")
Answer = TypeVar("Answer")

# Records every address that the server's process connects to or looks up.
PROGRAM = """
import sys
record = open(sys.argv.pop(1), "a", buffering=1)
def listen(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print(arguments[1] if event == "socket.connect" else arguments[:1], file=record)
sys.addaudithook(listen)
from serve.media import progress
progress.watched = lambda: True  # as in a terminal, where the operator sees what is in work
exec(sys.argv.pop(1))
from serve.cli.commands import main
main(sys.argv[1:], prog_name="serve")
"""


class Demo(NamedTuple):
    """A running server."""

    url: str
    process: subprocess.Popen[str]
    temporary: Path
    """The folder for temporary files that it was given."""
    home: Path
    """The home folder that it was given."""
    contacts: Path
    """One line per network address that it contacted."""


def free_port() -> int:
    with socket.socket() as ground:
        ground.bind(("127.0.0.1", 0))
        return int(ground.getsockname()[1])


@contextmanager
def demo(folder: Path, *arguments: object, host: str = "127.0.0.1", before: str = "") -> Iterator[Demo]:
    """Start `serve demo ARGUMENTS` and wait until it answers at `host`; `folder` takes what it leaves.

    `before` is Python that the process runs first.
    """
    place = f"[{host}]" if ":" in host else host
    port = free_port()
    temporary = folder / "tmp"
    home = folder / "home"
    for made in (temporary, home):
        made.mkdir(parents=True)
    contacts = folder / "contacts.txt"
    printed = folder / "log.txt"
    command = [sys.executable, "-c", PROGRAM, contacts, before, "demo", *arguments, "--port", port]
    environment = os.environ | {"TMPDIR": str(temporary), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    for name in ("GRADIO_TEMP_DIR", "XDG_CACHE_HOME", "HF_HOME"):
        environment.pop(name, None)
    with printed.open("w") as output:
        process = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=subprocess.STDOUT, text=True, env=environment
        )
    try:
        _until_it_answers(f"http://{place}:{port}/", process, printed)
        yield Demo(f"http://{place}:{port}", process, temporary, home, contacts)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def upload(server: Demo, file: Path) -> str:
    """Send a file as the page does; returns its path on the server."""
    head = f'--end\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"\r\n\r\n'
    body = head.encode() + file.read_bytes() + b"\r\n--end--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=end"}
    with urlopen(Request(f"{server.url}/gradio_api/upload", body, kind), timeout=60) as answer:
        return str(json.load(answer)[0])


def upload_endlessly(server: Demo, size: int) -> tuple[int, str, int]:
    """Announce a file of `size` bytes and send it until the server answers.

    Returns the answer's status, its text, and how many MiB were sent by then.
    """
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    connection.send(head)
    sent = 0
    while sent < size // 2**20 and not select.select([connection.sock], [], [], 0)[0]:
        connection.send(bytes(2**20))
        sent += 1
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    connection.close()
    return status, text, sent


def submit(server: Demo, endpoint: str, *values: object) -> str:
    """Put a request into the queue; returns its number there."""
    url = f"{server.url}/gradio_api/call/{endpoint}"
    kind = {"Content-Type": "application/json"}
    with urlopen(Request(url, json.dumps({"data": values}).encode(), kind), timeout=60) as answer:
        return str(json.load(answer)["event_id"])


def result(server: Demo, endpoint: str, event: str) -> list[Any]:
    """Wait for the answer to a request. Raises AssertionError if it was refused."""
    with urlopen(f"{server.url}/gradio_api/call/{endpoint}/{event}", timeout=600) as stream:
        kind, data = "", ""
        for line in stream:
            name, _, rest = line.decode().strip().partition(": ")
            kind, data = (rest, data) if name == "event" else (kind, rest if name == "data" else data)
    assert kind == "complete", f"{kind}: {data}"
    return list(json.loads(data))


@contextmanager
def listening(server: Demo, endpoint: str, event: str) -> Iterator[http.client.HTTPResponse]:
    """Listen for the answer to a request, and go away before it comes."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("GET", f"/gradio_api/call/{endpoint}/{event}")
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def side_by_side(ask: Callable[[Given], Answer], asked: Sequence[Given]) -> list[Answer]:
    """The answers in order, of a few requests at a time: one alone waits longer than it is worked on."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, asked))


def memory(server: Demo, kind: str = "VmRSS") -> int:
    """MB that the server holds, or ("VmHWM") held at most."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1000 for line in lines if line.startswith(kind))


def log(server: Demo) -> str:
    """What the server printed."""
    return server.home.with_name("log.txt").read_text()


def file_data(path: str) -> dict[str, Any]:
    """How the page names a file on the server."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _until_it_answers(url: str, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer within 240 s: {log.read_text()}")
