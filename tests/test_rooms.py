"""The rooms' walls: who may import whom, what each may install, and that `--help` starts at once."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"adapt": {"adapt", "serve"}, "export": {"adapt", "export", "serve"}, "serve": {"serve"}}
"""Which of our rooms each may import."""
GROUND = ("serve.interruption", "serve.errors", "serve.cores", "serve.media")
"""All that `adapt` may import of `serve`, and that these may import of it: the ground floor of the house."""
EXTRAS = {
    "adapt": ["media", "adapt", "coco", "parquet"],
    "export": ["media", "adapt", "export", "serve", "cpu", "trt"],
    "serve": ["media", "serve", "cpu", "demo", "cluster", "parquet", "heif", "trt"],
}
"""Which extras of pyproject.toml each room's imports come from, besides the base dependencies."""
IMPORT_NAMES = {
    "opencv-python-headless": "cv2",
    "pyyaml": "yaml",
    "pillow": "PIL",
    "cuda-bindings": "cuda",
    "protobuf": "google",
}
FROM_ELSEWHERE = {"export": {"tensorrt"}, "serve": {"tensorrt"}}
"""What a room tries to import and no extra installs: NVIDIA's package index has it, per CUDA version."""
USED_BY_OTHERS = {"tensorboard": "torch.utils.tensorboard", "onnxscript": "torch.onnx.export"}
"""Declared packages that no file of ours imports, and what of theirs does."""
HEAVY = [
    "numpy",
    "torch",
    "transformers",
    "kornia",
    "matplotlib",
    "cv2",
    "av",
    "onnx",
    "onnxruntime",
    "gradio",
]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def modules_imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module.name) of every import, also those inside functions and by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that the walls can be read"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield from ((node.lineno, str(name)) for name in names)


def imports_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, top-level module) of every import."""
    yield from dict.fromkeys((line, name.split(".")[0]) for line, name in modules_imported(tree))


def above_the_ground(files: list[Path]) -> list[str]:
    """Imports of `serve` outside GROUND, as file:line module."""
    return [
        f"{below_the_root(path)}:{line} {name}"
        for path in files
        for line, name in modules_imported(ast.parse(path.read_text()))
        if name.split(".")[0] == "serve" and not on_the_ground(name)
    ]


def below_the_root(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)


def foreign_imports(files: list[Path], allowed: set[str]) -> list[str]:
    """Imports outside the standard library and `allowed`, as file:line module."""
    known = allowed | sys.stdlib_module_names
    return [
        f"{below_the_root(path)}:{line} {module}"
        for path in files
        for line, module in imports_of(ast.parse(path.read_text()))
        if module not in known
    ]


def declared(extras: list[str]) -> set[str]:
    """Import names of the base dependencies and of some extras."""
    names = set()
    for requirement in sum(
        (PROJECT["optional-dependencies"][extra] for extra in extras), PROJECT["dependencies"]
    ):
        if not requirement.startswith("blda["):
            package = requirement.split(">")[0].split("=")[0].split("<")[0].strip()
            names.add(IMPORT_NAMES.get(package, package.replace("-", "_")))
    return names


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_door_allows(room):
    assert len(modules(room)) >= 3
    assert (
        foreign_imports(modules(room), ROOMS[room] | declared(EXTRAS[room]) | FROM_ELSEWHERE.get(room, set()))
        == []
    )


def on_the_ground(module: str) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in GROUND)


def ground() -> list[Path]:
    return [path for path in modules("serve") if on_the_ground(module_of(path))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_adapt_knows_the_ground_floor_of_serve_alone():
    assert above_the_ground(modules("adapt")) == []


def test_the_ground_floor_carries_itself():
    assert {module_of(path) for path in ground()} >= {*GROUND, "serve.media.video.reader"}
    assert above_the_ground(ground()) == []
    assert foreign_imports(ground(), {"serve", *declared(["media", "heif"])}) == []


def test_the_serving_room_declares_nothing_heavy_itself():
    assert declared(["media", "serve", "cpu"]).isdisjoint(
        {"torch", "onnx", "transformers", "gradio", "adapt", "export"}
    )


def test_the_umbrella_imports_only_click():
    assert foreign_imports([ROOT / "blda.py"], {"click"}) == []


def test_every_declared_package_is_used():
    """A dependency nobody imports costs every user an install."""
    used = {
        module
        for room in ROOMS
        for path in modules(room)
        for _, module in imports_of(ast.parse(path.read_text()))
    }
    assert declared(["media", "adapt", "export", "serve", "cpu", "trt"]) - used - set(USED_BY_OTHERS) == set()


def test_the_walker_sees_imports_wherever_they_hide(tmp_path):
    hidden = tmp_path / "hidden.py"
    hidden.write_text(
        "import json\nimport click\n"
        "def f():\n    import torch.nn as nn\n    from onnx.helper import make_node\n"
        "def g():\n    importlib.import_module('export.fold.fold')\n"
    )
    expected = ["hidden.py:4 torch", "hidden.py:5 onnx", "hidden.py:7 export"]
    assert sorted(foreign_imports([hidden], {"click"})) == expected
    hidden.write_text(
        "def f():\n    from serve import media\n    import serve.card\nfrom serve import Segmenter\n"
    )
    assert above_the_ground([hidden]) == ["hidden.py:4 serve.Segmenter", "hidden.py:3 serve.card"]


COMMANDS = ["adapt", "export", "serve", "blda", "blda adapt", "blda export", "blda serve"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_runs_as_a_module(command):
    run = subprocess.run(
        [sys.executable, "-m", *command.split(), "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("Usage:") and "Commands:" in run.stdout


HELP_OF_EVERYTHING = """
import sys, importlib, click
def show(command, context):
    command.get_help(context)
    for name in getattr(command, "commands", {}):
        child = command.get_command(context, name)
        show(child, click.Context(child, info_name=name, parent=context))
main = importlib.import_module(sys.argv[1]).main
show(main, click.Context(main, info_name=sys.argv[1]))
print(*[name for name in sys.argv[2:] if name in sys.modules])
"""


@pytest.mark.parametrize("module", ["adapt.cli", "export.cli", "serve.cli", "blda"])
def test_help_of_every_command_imports_no_heavy_library(module):
    run = subprocess.run(
        [sys.executable, "-c", HELP_OF_EVERYTHING, module, *HEAVY], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


WITHOUT_THE_OTHERS = """
import sys, importlib
absent, *names = sys.argv[1:]
for name in absent.split():
    sys.modules[name] = None  # importing it now fails
for name in names:
    importlib.import_module(name)
"""


@pytest.mark.parametrize(
    ("room", "absent"),
    [("serve", "torch onnx transformers adapt export"), ("adapt", "onnxruntime onnx gradio ray export")],
)
def test_a_room_works_where_the_others_are_not_installed(room: str, absent: str):
    names = [module_of(path) for path in modules(room) if path.stem != "__main__"]
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_OTHERS, absent, *names], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("blda adapt che", "check"),
        ("blda exp", "export"),
        ("adapt check --ev", "--evaluate"),
        ("serve inf", "info"),
    ],
)
def test_the_shell_completes_commands_and_options(words: str, wanted: str):
    program = words.split()[0]
    complete = {
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
        f"_{program.upper()}_COMPLETE": "bash_complete",
    }
    call = (
        f"from {'blda' if program == 'blda' else program + '.cli'} import main; main(prog_name={program!r})"
    )
    run = subprocess.run(
        [sys.executable, "-c", call], capture_output=True, text=True, cwd=ROOT, env=os.environ | complete
    )
    assert f"plain,{wanted}" in run.stdout.splitlines(), (run.stdout, run.stderr)
