"""The Dockerfile: what it says, quickly; and, marked slow, what its install commands really install.

No container engine is needed. `make container` runs the slow part.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from demo_server import free_port
from dockerfile import PATH, commands, lineage, stages_of
from serve_graphs import halves, write_graph

from serve.cli import health as demo_health

STAGES = stages_of(PATH.read_text())
IMAGES = {"cpu": "build-cpu", "gpu": "build-gpu", "export": "build-export"}
"""Targets, and the stages that their environments are built in."""


def test_the_parser_joins_lines_and_knows_stages():
    stages = stages_of("# x\nFROM a:1 AS one\nRUN x \\\n  # in between\n  && y\nFROM one AS two\nUSER me\n")
    assert [(s.name, s.base) for s in stages.values()] == [("one", "a:1"), ("two", "one")]
    assert commands(lineage(stages, "two"), "RUN") == [["x", "&&", "y"]]
    assert commands(lineage(stages, "two"), "USER") == [["me"]]


def test_the_default_target_is_the_cpu_server():
    assert list(STAGES)[-1] == "cpu"


@pytest.mark.parametrize("image", IMAGES)
def test_images_run_without_root_and_take_only_the_environment(image):
    made = lineage(STAGES, image)
    (user,) = commands(made, "USER")
    assert user not in (["root"], ["0"])
    assert commands(made, "COPY") == [[f"--from={IMAGES[image]}", "/opt/blda", "/opt/blda"]]
    (run,) = commands(made, "RUN")
    assert run[:1] == ["useradd"] and user[0] in run and "pip" not in " ".join(run)


@pytest.mark.parametrize("image", ["cpu", "gpu"])
def test_serving_images_start_serve_and_watch_the_demo(image):
    made = lineage(STAGES, image)
    assert [json.loads(i.text) for i in made if i.word == "ENTRYPOINT"] == [["serve"]]
    (check,) = (i.text for i in made if i.word == "HEALTHCHECK")
    module = json.loads(check[check.index("[") :])[-1]
    assert module == demo_health.__name__
    environment = " ".join(i.text for i in made if i.word == "ENV")
    assert "ORT_DISABLE_TELEMETRY=1" in environment


@pytest.mark.parametrize("stage", IMAGES.values())
def test_what_is_copied_exists_and_reaches_the_build(stage):
    """README.md and LICENSE are part of the package's metadata, so that the build needs them."""
    ignored = (PATH.parent / ".dockerignore").read_text().split()
    for *sources, _ in commands(lineage(STAGES, stage), "COPY"):
        for source in sources:
            assert (PATH.parent / source).exists(), source
            assert f"!{source}" in ignored, f".dockerignore keeps {source} from the build"


@pytest.mark.parametrize("image", IMAGES)
def test_extras_exist(image):
    extras = _requirement(IMAGES[image])[2:-1].split(",")
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import importlib.metadata as m; print(m.metadata('blda').get_all('Provides-Extra'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(repr(extra) in result.stdout for extra in extras)
    assert ("cpu" in extras) != ("gpu" in extras)


def _requirement(stage: str) -> str:
    (install,) = (c for c in commands(lineage(STAGES, stage), "RUN") if "pip" in c[0])
    return next(word for word in install if word.startswith(".["))


# The health check


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


# What the images hold, by their own commands


def _install(stage: str, folder: Path) -> Path:
    """Run a stage's COPY and RUN instructions with `folder` for a root; returns its environment."""
    root = PATH.parent
    source, environment = folder / "source", folder / "blda"
    source.mkdir()
    python = folder / "bin"
    python.mkdir()
    (python / "python").symlink_to(sys.executable)
    made = lineage(STAGES, stage)
    for *sources, target in commands(made, "COPY"):
        for name in sources:
            if (root / name).is_dir():
                shutil.copytree(root / name, source / target / name if target == "./" else source / target)
            else:
                shutil.copy(root / name, source / target)
    path = f"{python}{os.pathsep}{os.environ['PATH']}"
    for instruction in made:
        if instruction.word == "RUN":
            command = instruction.text.replace("/opt/blda", str(environment))
            subprocess.run(["bash", "-c", command], cwd=source, check=True, env=os.environ | {"PATH": path})
    return environment


def _packages(environment: Path) -> set[str]:
    listed = subprocess.run(
        [environment / "bin/python", "-m", "pip", "list", "--format=json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {package["name"].lower().replace("_", "-") for package in json.loads(listed.stdout)}


def _megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_cpu_image_serves_without_torch(tmp_path):
    environment = _install("build-cpu", tmp_path)
    packages = _packages(environment)
    assert {"blda", "onnxruntime", "gradio", "av"} <= packages
    assert packages.isdisjoint({"torch", "torchvision", "onnx", "transformers", "kornia", "onnxruntime-gpu"})
    size = _megabytes(environment)
    print(f"the environment of the CPU image takes {size:.0f} MB")
    assert size < 900

    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), halves()[..., ::-1])
    graph = write_graph(tmp_path / "model.onnx")
    serve = environment / "bin/serve"
    out = tmp_path / "out"
    done = subprocess.run(
        [serve, "image", graph, tmp_path / "a.png", "-o", out], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (out / "labels" / "a.png").is_file()
    with socket.socket() as taken:  # the demo gets as far as its port, which proves that Gradio is whole
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run([serve, "demo", graph, "--port", port], capture_output=True, text=True)
    assert done.returncode == 2 and f"port {port}" in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_gpu_image_would_install():
    """Resolved, not downloaded: CUDA's libraries take gigabytes."""
    (install,) = (c for c in commands(lineage(STAGES, "build-gpu"), "RUN") if "pip" in c[0])
    wanted = [word for word in install[2:] if word != "--no-cache-dir"]
    plan = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--quiet",
            "--report",
            "-",
            *wanted,
        ],
        cwd=PATH.parent,
        capture_output=True,
        text=True,
    )
    assert plan.returncode == 0, plan.stderr[-2000:]
    names = {each["metadata"]["name"].lower() for each in json.loads(plan.stdout)["install"]}
    assert {"onnxruntime-gpu", "nvidia-cudnn-cu13", "gradio"} <= names
    assert names.isdisjoint({"torch", "onnxruntime", "onnx"})
