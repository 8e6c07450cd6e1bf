"""The Dockerfile: what it says, quickly; and, marked slow, what its install commands really install.

No container engine is needed. `make container` runs the slow part.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from dockerfile import PATH, commands, lineage, stages_of
from serve_graphs import halves, write_graph

from serve import demo_health

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
    ("command", "port"),
    [
        ("python /opt/blda/bin/serve demo m.onnx", 7860),
        ("python /opt/blda/bin/serve demo --port 9000 m.onnx", 9000),
        ("python /opt/blda/bin/serve demo m.onnx --port=80", 80),
        ("python /opt/blda/bin/serve video m.onnx a.mp4 -o b.mp4", None),
    ],
)
def test_the_health_check_reads_the_port(command, port):
    assert demo_health.port_of(command.split()) == port


def test_the_health_check_asks_the_page(tmp_path, monkeypatch):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(demo_health, "_FIRST_PROCESS", tmp_path / "cmdline")
    (tmp_path / "cmdline").write_bytes(f"serve\0demo\0--port\0{server.server_port}\0".encode())
    for status, code in ((200, 0), (401, 0), (500, 1)):  # noqa: B007 - the handler reads it
        assert demo_health.main() == code
    server.shutdown()
    server.server_close()
    assert demo_health.main() == 1
    (tmp_path / "cmdline").write_bytes(b"serve\0image\0")
    assert demo_health.main() == 0


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
