"""What people install: the wheel holds every file of ours, and works where the checkout is not."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from serve_graphs import write_graph

ROOMS = ("adapt", "export", "serve")
BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # setuptools sets it anew
build_meta.build_wheel(folder)
build_meta.build_sdist(folder)
"""


def run(*words: str | Path, cwd: Path, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def sources(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a package is built from, since building writes into it."""
    copy = tmp_path_factory.mktemp("sources")
    for room in ROOMS:
        shutil.copytree(root / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("blda.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    return copy


@pytest.fixture(scope="module")
def built(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-c", BUILD, folder, cwd=sources)
    return folder


def ours(sources: Path) -> set[str]:
    found = {path.relative_to(sources) for room in ROOMS for path in (sources / room).rglob("*")}
    return {path.as_posix() for path in found if path.suffix in {".py", ".typed"}} | {"blda.py"}


def test_the_wheel_holds_every_file(built, sources):
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == ours(sources)
    assert {f"{room}/py.typed" for room in ROOMS} <= names and len(names) > 200


def test_the_source_distribution_holds_every_file(built, sources):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert ours(sources) | {"README.md", "LICENSE", "pyproject.toml"} <= names


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; it borrows this one's libraries, but not its link to the checkout."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, symlinks=True)
    libraries = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = built.glob("*.whl")
    pip = (sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", "-q", "--no-deps")
    run(*pip, "--ignore-installed", wheel, cwd=place)
    return place / "bin"


def test_the_wheel_works_outside_the_checkout(installed, root, tmp_path):
    where = "import adapt, export, serve; print(adapt.__file__, export.__file__, serve.__file__)"
    for place in run(installed / "python", "-c", where, cwd=tmp_path).split():
        assert Path(place).is_relative_to(installed.parent)
    assert "adapt" in run(installed / "blda", "--help", cwd=tmp_path)
    assert "wrote" in run(installed / "adapt", "sample-data", "data", cwd=tmp_path)
    assert len(list((tmp_path / "data" / "source" / "images").iterdir())) > 10
    write_graph(tmp_path / "model.onnx")
    assert "classes" in run(installed / "serve", "info", "model.onnx", cwd=tmp_path)
    names = "from adapt import train; from export import export_onnx; from serve import Segmenter"
    run(installed / "python", "-c", names, cwd=tmp_path)
