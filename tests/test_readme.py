"""What the README and the pages of docs/ say in code is so.

The commands of the tour (docs/first-steps.md), of the README and of the other pages are run in one temporary
folder, in this order, which has besides what a person would bring: `theirs.onnx`, its `classes.yaml`, and
`footage.mp4`. Those that a test can't run are listed below with the reason. All of them are parsed.
"""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from commands import PAGES, ROOT, Command, check, commands_of, options, ours, prose_of, spans_of, unknown_in
from plan_picture import PAGE, PICTURE, drawn

NOT_RUN = {
    "installs an environment": (
        "make setup && source .venv/bin/activate",
        "pip install -c constraints.txt -e '.[demo,cpu]'",
    ),
    "takes longer than a test": (
        "make demo",
        "make test",
        "adapt train --source labelled --target footage.mp4 -o run",
        "adapt train --resume run --set training.iterations=60000",
        "torchrun --nproc_per_node=2 -m adapt train --preset demo --source data/source --target data/target "
        "-o run",
    ),
    "keeps running until stopped": (
        "serve demo demo.onnx --examples data/target_eval/images",
        "serve demo model.onnx --host 0.0.0.0 --allow-host demo.example.org --allow-host 192.168.1.20",
    ),
    "needs data that people own": (
        "adapt train --source SOURCE --target drive1.mp4 --target drive2.mp4 -o run "
        "--set 'model.encoder={pretrained: facebook/convnextv2-tiny-22k-224}' "
        "--set training.iterations=20000",
        "adapt train --from their-segformer --target footage.mp4 -o run",
        "adapt train --source OLD --label-map map.yaml --target night/ --target rain.mp4 -o run2",
        "adapt train --source SOURCE --images 'cam/**/*.jpg' --labels 'truth/**/*.png' --label-suffix=-z "
        "--target TARGET -o run",
        "adapt train --source SOURCE --target drive1.mp4 --target-labels FEW -o run",
        "adapt check --source SOURCE --target drive1.mp4 --evaluate FEW -o data.html",
        "adapt check --source labelled --target footage.mp4",
        "adapt train --source synthetic --source labelled=0.3 --target night --target rain.mp4 -o run",
        "adapt train --resume run --source /mnt/new/labelled --target /mnt/new/footage",
        "adapt train --preset daformer-blda --source gta5 --target cityscapes --evaluate cityscapes -o run",
        "adapt eval run --data cityscapes --window 512x512 --confusion confusion.png --json scores.json",
        "adapt statistics run --target footage-of-the-other-city.mp4",
    ),
    "needs several GPUs": (
        "torchrun --nproc_per_node=4 -m adapt train --preset mic-blda --source gta5 --target cityscapes "
        "-o run",
    ),
    "needs a camera": (
        "serve video model.onnx rtsp://camera/1 -o drive.mp4 --end 1:00:00 --reconnect 60",
        "serve video model.onnx 0 -o webcam.mp4",
    ),
    "needs a cluster": ("blda serve video model.onnx drives/ -o segmented --ray 10.0.0.1:6379",),
    "needs a container engine": (
        "docker build -t blda-serve .",
        "docker build -t blda-serve:gpu --target gpu .",
        'docker run --rm -v "$PWD:/data" --user "$(id -u)" blda-serve video model.onnx clip.mp4 -o out.mp4',
    ),
}
FIRST = ("docs/first-steps.md", "README.md")
"""The pages whose commands the others build upon."""
OF_OTHERS = {"--gpus", "--nproc_per_node", "--target gpu", "--logdir"}
"""Options of docker, torchrun and tensorboard."""

TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
COMMANDS = [
    command
    for page in sorted(TEXTS, key=lambda p: (FIRST.index(p) if p in FIRST else len(FIRST), p))
    for command in commands_of(TEXTS[page], page)
]
LISTED = {line for lines in NOT_RUN.values() for line in lines}
SPANS = [(page, span) for page, text in TEXTS.items() for span in spans_of(text)]


def test_commands_are_found_joined_and_without_comments():
    text = (
        "# T\n```bash\n# first\nadapt train \\\n  --seed 1    # why\n\nls\n```\n```python\nx = 1\n```\n"
        "`adapt\ntrain` and `b`\n\n```\n`c`\n```\n"
    )
    assert commands_of(text, "p") == [Command("p", "adapt train --seed 1"), Command("p", "ls")]
    assert spans_of(text) == ["adapt train", "b"]


def test_faults_of_commands_would_be_seen():
    for line in ("adapt trian x", "blda export onnx run -o m --with-corection", "adapt train --set"):
        with pytest.raises(click.ClickException):
            [check(words) for words in ours(line)]
    assert list(ours("python -m serve info m && ls | blda export show m > x")) == [
        ["serve", "info", "m"],
        ["export", "show", "m"],
    ]
    assert unknown_in("adapt eval --windows 5x5") == "adapt eval has no --windows"
    assert unknown_in("blda export verfy") == "no command export verfy"
    assert unknown_in("adapt tau run [--data LABELLED]") == unknown_in("serve image | video") == ""


def test_what_is_not_run_is_still_there():
    assert LISTED - {command.line for command in COMMANDS} == set()


def test_the_tour_goes_through_every_room():
    run = [command.line for command in COMMANDS if command.line not in LISTED]
    wanted = (
        "train",
        "eval",
        "bias",
        "export onnx",
        "export verify",
        "export balance",
        "export calibrate",
        "serve image",
    )
    assert [words for words in wanted if not any(words in line for line in run)] == []


def test_the_readme_fits_a_screen():
    assert len(TEXTS["README.md"]) <= 9000


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.page}: {c.line[:40]}")
def test_commands_name_what_exists(command):
    for words in ours(command.line):
        check(words)
    for target in re.findall(r"\bmake (\w+)", command.line):
        assert target in targets()
    # `export onnx RUN` in a shell sets variables and says nothing: it must be `blda export` or python -m.
    assert not re.match(r"export\s", command.line)


def targets() -> set[str]:
    return set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))


def test_sentences_name_commands_and_options_that_exist():
    known = options() | OF_OTHERS
    wrong = [f"{page}: {fault}" for page, span in SPANS if (fault := unknown_in(span))]
    wrong += [
        f"{page}: {span}"
        for page, span in SPANS
        if span.startswith("--") and span not in known and re.split(r"[ =]", span)[0] not in known
    ]
    wrong += [
        f"{page}: {span}"
        for page, span in SPANS
        for target in re.findall(r"^make ([a-z]+)", span)
        if target not in targets()
    ]
    assert wrong == []


def test_sentences_name_settings_that_exist():
    from adapt.config.settings import Config
    from adapt.config.settings import Settings as Section

    def fault(name: str) -> bool:
        kind: object = Config
        for part in name.split("."):
            if not (isinstance(kind, type) and issubclass(kind, Section)) or part not in kind.model_fields:
                return True
            kind = kind.model_fields[part].annotation
        return False

    named = re.compile(r"((?:data|model|method|training)\.[a-z_]+)(?:=.*)?")
    found = [(page, match[1]) for page, span in SPANS if (match := named.fullmatch(span))]
    files = ("model.onnx", "model.engine", "model.safetensors")
    assert [(page, name) for page, name in found if name not in files and fault(name)] == []
    assert len(found) > 10 and fault("method.hots")


def test_sentences_name_files_that_exist():
    path = re.compile(r"(?:python )?((?:adapt|export|serve|tests|docs|\.ci)/[\w./-]*|\w+\.(?:toml|yml|txt))")
    named = [(page, match[1]) for page, span in SPANS if (match := path.fullmatch(span))]
    assert len(named) > 100
    benches = [(page, f"tests/bench/{span}") for page, span in SPANS if re.fullmatch(r"bench_\w+\.py", span)]
    assert [(page, name) for page, name in named + benches if not (ROOT / name).exists()] == []


def test_python_on_the_pages_imports_what_is_offered():
    blocks = [
        block for text in TEXTS.values() for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    ]
    assert len(blocks) >= 4
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module in ("adapt", "export", "serve"):
                offered = importlib.import_module(node.module).__all__
                assert {alias.name for alias in node.names} <= set(offered)


def test_llms_txt_names_every_page_once():
    listed = re.findall(r"\]\(([\w/-]+\.md)\)", (ROOT / "docs/llms.txt").read_text(encoding="utf-8"))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    decisions = {page for page in pages if page.startswith("decisions/")} - {"decisions/index.md"}
    assert set(listed) == pages - decisions and len(listed) == len(set(listed))


def test_every_key_of_the_metadata_is_described():
    keys = set(re.findall(r'PREFIX \+ "(\w+)"', (ROOT / "serve/card.py").read_text()))
    assert len(keys) > 5
    assert keys == set(re.findall(r"^\| `blda\.(\w+)`", TEXTS["docs/architecture.md"], re.M))


def test_extras_that_are_named_exist():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for text in TEXTS.values():
        for names in re.findall(r"\.\[([\w,]+)\]", text):
            assert set(names.split(",")) <= extras
        assert set(re.findall(r"extras? `(\w+)`", text)) <= extras


def test_lines_are_short():
    long = [f"{p}:{n}" for p, text in TEXTS.items() for n, line in prose_of(text) if len(line) > 120]
    assert long == []


def test_contributing_has_the_lines_of_the_plan():
    stated = " ".join(TEXTS["CONTRIBUTING.md"].split())
    for line in re.findall(r"^(?:adapt|export|serve): .*", PAGE.read_text(encoding="utf-8"), re.M):
        assert line in stated


def test_the_picture_is_of_the_plan():
    """After a change of the lines: python tests/support/pages/plan_picture.py"""
    assert PICTURE.read_text(encoding="utf-8") == drawn(PAGE.read_text(encoding="utf-8"))


@pytest.mark.timeout(900)
def test_the_commands_work_as_printed(tmp_path):
    bring(tmp_path)
    programs = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": programs + os.pathsep + os.environ["PATH"]}
    done: set[str] = set()
    for page, line in COMMANDS:
        if line in LISTED or done.issuperset(line.split(" && ")):
            continue
        run = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert run.returncode == 0, f"`{line}` of {page} ended with {run.returncode}:\n{run.stdout[-3000:]}"
        done.update(line.split(" && "))


def bring(folder: Path) -> None:
    """What the pages take for granted: somebody's model with its class file, and a clip of what it sees."""
    import av
    import cv2
    from foreign_segmenters import write_pictures, write_segmenter

    write_segmenter(folder / "theirs.onnx", inside=1)
    seen = write_pictures(folder / "seen", 12)
    (seen / "classes.yaml").rename(folder / "classes.yaml")
    with av.open(str(folder / "footage.mp4"), "w") as clip:
        stream = clip.add_stream("libx264", rate=6, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for path in sorted((seen / "images").iterdir()):
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(cv2.imread(str(path)), format="bgr24")))
        clip.mux(stream.encode(None))
