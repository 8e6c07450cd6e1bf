"""Progress is for those who watch: with the time left on a terminal, and else not at all."""

import os
import pty
import subprocess
import sys
import termios
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from serve.errors import Group
from serve.media import progress

WORK = """
import sys, time
from serve.media.progress import Bar
for _ in Bar(range(3), "working"):
    time.sleep(0.01)
Bar.write("a line that stays", file=sys.stderr)
"""


def test_without_a_terminal_there_are_lines_but_no_bar():
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "a line that stays\n")


def test_on_a_terminal_a_bar_says_the_time_left():
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, (24, 100))
    with subprocess.Popen([sys.executable, "-c", WORK], stderr=inner, stdout=inner) as work:
        os.close(inner)
        seen = b""
        try:
            while part := os.read(outer, 4096):
                seen += part
        except OSError:  # how Linux says that the other end is closed
            pass
        assert work.wait(timeout=120) == 0
    os.close(outer)
    assert b"working: 100%" in seen and b"3/3 [00:00<00:00" in seen and b"a line that stays" in seen
    assert b"\x1b[3" not in seen  # no colours, whatever NO_COLOR says


def test_quiet_is_quiet_on_a_terminal_too(monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    seen = []

    @click.group(cls=Group)
    def main() -> None:
        """A program."""

    @main.command()
    def look() -> None:
        """Look whether somebody watches."""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        seen.append(progress.watched())

    for words in (["look"], ["look", "--quiet"], ["look"]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
    assert seen == [True, False, True]
    assert progress.watched()  # outside of any command, as from Python


@pytest.mark.parametrize("room", ["adapt", "export", "serve"])
def test_every_command_may_be_quiet(room):
    commands = import_module(f"{room}.cli").main.commands
    assert commands and all("quiet" in {p.name for p in each.params} for each in commands.values())
