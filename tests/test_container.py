"""What the Dockerfile's install commands really install, marked slow.

No container engine is needed. `make container` runs this.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile import PATH, STAGES, commands, lineage
from serve_graphs import halves, write_graph


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
