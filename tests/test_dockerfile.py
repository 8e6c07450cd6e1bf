"""The Dockerfile: what it says of its images."""

import json
import subprocess
import sys

import pytest
from dockerfile import PATH, STAGES, commands, lineage, stages_of

from serve.cli import health as demo_health

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
