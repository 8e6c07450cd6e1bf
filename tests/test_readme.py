"""The README's commands work as printed, in the order they are printed.

Every ```bash block is run, command by command, in one temporary folder with the environment's programs first
in PATH. A block that a test can't run has a comment line directly before it:

    <!-- not run: REASON -->

with one of the reasons below, so that nothing drops out unnoticed.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

README = Path(__file__).parent.parent / "README.md"
REASONS = {
    "installs an environment",
    "needs a GPU",
    "needs your own files",
    "takes longer than a test",
    "keeps running until stopped",
}
BLOCK = re.compile(r"(?:^<!-- not run: (?P<reason>[^\n]*?) -->\n)?^```bash\n(?P<body>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    commands: list[str]
    reason: str | None


def blocks_of(text: str) -> list[Block]:
    """The bash blocks; comments and empty lines left out, lines that end in a backslash joined."""
    blocks = []
    for match in BLOCK.finditer(text):
        lines = match["body"].replace("\\\n", " ").splitlines()
        blocks.append(
            Block([x.strip() for x in lines if x.strip() and not x.lstrip().startswith("#")], match["reason"])
        )
    return blocks


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return blocks_of(README.read_text(encoding="utf-8"))


def test_blocks_are_found_joined_and_excused():
    text = (
        "# T\n```bash\n# first\nadapt train \\\n  --seed 1\n\nls\n```\n\n<!-- not run: needs a GPU -->\n"
        "```bash\nmake\n```\n<!-- not run: far away -->\n\n```bash\npwd\n```\n```python\nx = 1\n```\n"
    )
    assert blocks_of(text) == [
        Block(["adapt train    --seed 1", "ls"], None),
        Block(["make"], "needs a GPU"),
        Block(["pwd"], None),
    ]


def test_blocks_are_left_out_for_a_known_reason_only(blocks):
    assert {block.reason for block in blocks} - {None} <= REASONS


def test_the_tour_goes_through_every_room(blocks):
    run = [command for block in blocks if block.reason is None for command in block.commands]
    for words in ("adapt train", "adapt eval", "adapt bias", "export onnx", "export verify", "serve image"):
        assert any(words in command for command in run), f"the README runs no `{words}`"


def test_no_command_meets_the_shells_own_export(blocks):
    """`export onnx RUN` in a shell sets variables and says nothing: it must be `blda export` or python -m."""
    assert [c for block in blocks for c in block.commands if re.match(r"export\s", c)] == []


def test_the_commands_work_as_printed(blocks, tmp_path):
    programs = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": programs + os.pathsep + os.environ["PATH"]}
    for command in (command for block in blocks if block.reason is None for command in block.commands):
        run = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert run.returncode == 0, f"`{command}` ended with {run.returncode}:\n{run.stdout[-3000:]}"
