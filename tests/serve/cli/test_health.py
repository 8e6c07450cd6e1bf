"""The health check of the images: which command serves a page, and whether it answers."""

import os
import signal
import subprocess
import sys
import time

import pytest
from demo_server import free_port
from serve_graphs import write_graph

from serve.cli import health as demo_health


@pytest.mark.parametrize(
    ("command", "page"),
    [
        ("/opt/blda/bin/python /opt/blda/bin/serve demo m.onnx", ("127.0.0.1", 7860)),
        ("serve demo --port 9000 m.onnx", ("127.0.0.1", 9000)),
        ("python3.11 -u -X dev -m serve demo m.onnx --port=80 --host=0.0.0.0", ("0.0.0.0", 80)),
        ("python /opt/blda/bin/blda serve demo --host ::1 m.onnx", ("::1", 7860)),
        ("python -m blda serve demo -- --port", ("127.0.0.1", 7860)),
        ("serve video model.onnx demo -o out", None),
        ("serve image demo --port 9000", None),
        ("python /opt/blda/bin/serve", None),
        ("python /home/me/demo serve demo", None),
        ("python -c print() serve demo", None),
        ("sh -c serve demo m.onnx", None),
        ("export demo", None),
        ("blda adapt demo", None),
        ("blda demo", None),
        ("python", None),
    ],
)
def test_the_health_check_reads_the_subcommand(command, page):
    assert demo_health.page_of(command.split()) == page


FAKE = """#!{python}
import sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(open({status!r}).read()))
        self.end_headers()
    def log_message(self, *_):
        pass
if sys.argv[1] == "demo":
    HTTPServer(("127.0.0.1", int(sys.argv[-1])), Answering).serve_forever()
time.sleep(60)
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Runs commands that may use a program called `serve`, which answers as the file `status` says."""
    (tmp_path / "status").write_text("200")
    program = tmp_path / "serve"
    program.write_text(FAKE.format(python=sys.executable, status=str(tmp_path / "status")))
    program.chmod(0o755)
    (tmp_path / "demo").symlink_to(program)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    running = []

    def start(*command: str) -> subprocess.Popen:
        running.append(subprocess.Popen(command, start_new_session=True))
        return running[-1]

    yield start
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def page_served_by(process, seconds=30):
    """The page, as soon as there is one."""
    end = time.monotonic() + seconds
    while not (found := list(demo_health.pages(process.pid))) and time.monotonic() < end:
        time.sleep(0.05)
    (page,) = found
    return page


def health_of(process, code, seconds=30):
    """The health check's exit code, as soon as it is `code`; else the last one."""
    end = time.monotonic() + seconds
    while (found := demo_health.main(process.pid)) != code and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_health_check_asks_the_page(started, tmp_path, monkeypatch, wrapped):
    port = str(free_port())
    command = ["serve", "demo", "m.onnx", "--port", port]
    process = started("sh", "-c", f"{' '.join(command)}; true") if wrapped else started(*command)
    assert page_served_by(process) == ("127.0.0.1", int(port))
    assert health_of(process, 0) == 0
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert demo_health.main(process.pid) == 0, "a proxy is none of its business"
    for status, code in (("401", 0), ("500", 1)):
        (tmp_path / "status").write_text(status)
        assert demo_health.main(process.pid) == code


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "video", "model.onnx", "demo", "-o", "out"],
        ["sh", "-c", "serve video model.onnx demo -o demo; true"],
        ["sh", "-c", "sleep 60; serve demo m.onnx"],
    ],
)
def test_what_serves_no_page_is_healthy_while_it_runs(started, command):
    process = started(*command)
    assert health_of(process, 1, seconds=0.5) == 0


def test_a_server_that_does_not_answer_is_unhealthy(started, monkeypatch):
    monkeypatch.setattr(demo_health, "_SECONDS", 1)
    process = started("sh", "-c", f"serve demo m.onnx --port {free_port()}; true")
    page_served_by(process)
    assert health_of(process, 0) == 0
    (server,) = (p for p in demo_health.descendants(process.pid) if p != process.pid)
    os.kill(server, signal.SIGSTOP)
    assert health_of(process, 1) == 1


def test_the_real_page_behind_a_shell_is_healthy(tmp_path, started):
    graph = write_graph(tmp_path / "m.onnx")
    port = free_port()
    command = f"{sys.executable} -m serve demo --port={port} {graph}; true"
    process = started("env", f"TMPDIR={tmp_path}", "sh", "-c", command)
    assert health_of(process, 1) == 1, "started, but not there yet"
    assert health_of(process, 0, seconds=120) == 0
