"""What the pages say in code: commands, options, settings, files. Nothing of it is run here."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from blda import ROOMS
from blda import main as blda

ROOT = Path(__file__).parents[3]
PAGES = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")})
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_SPAN = re.compile(r"`([^`]+)`")


class Command(NamedTuple):
    """A command line as a page has it, comments left out, lines that end in a backslash joined."""

    page: str
    line: str


def commands_of(text: str, page: str) -> list[Command]:
    """Those of the bash blocks, in their order."""
    found = []
    for language, body in _BLOCK.findall(text):
        if language == "bash":
            lines = (line.strip() for line in re.sub(r"\\\n\s*", "", body).splitlines())
            found += [Command(page, re.sub(r"\s+# .*", "", x)) for x in lines if x and x[0] != "#"]
    return found


def spans_of(text: str) -> list[str]:
    """Code within sentences, each on one line."""
    return [" ".join(span.split()) for span in _SPAN.findall(_BLOCK.sub("", text))]


def prose_of(text: str) -> list[tuple[int, str]]:
    """Lines with their numbers that could be broken: not those of blocks and tables."""
    plain = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    return [(n, line) for n, line in enumerate(plain.splitlines(), 1) if not line.startswith("|")]


def ours(line: str) -> Iterator[list[str]]:
    """The words of our own commands in a line, as `blda` takes them: [room, command, argument, …]."""
    for part in re.split(r"\s(?:&&|\|)\s", line):
        words = shlex.split(re.sub(r"\s+>\s+\S+$", "", part))
        if "-m" in words and words[0] in ("python", "torchrun"):  # python -m export …
            words = words[words.index("-m") + 1 :]
        image = [word for word in words if re.fullmatch(r"blda-\w+(:\w+)?", word)]
        if words[:2] == ["docker", "run"] and image:
            room = image[0].split(":")[0].removeprefix("blda-")
            words = [room, *words[words.index(image[0]) + 1 :]]
        if words[0] == "blda":
            words = words[1:]
        if words[:1] and words[0] in ROOMS:
            yield words


def check(words: list[str]) -> None:
    """Parse a command of ours without running it.

    Raises:
        click.ClickException: no such command or option, a value of a wrong kind, an argument too few.
    """
    command: click.Command = blda
    context = click.Context(blda, info_name="blda")
    while isinstance(command, click.Group):
        name, words = words[0], words[1:]
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no such command: {context.command_path} {name}")
        command, context = found, click.Context(found, info_name=name, parent=context)
    if "--help" not in words:
        command.make_context(command.name, words, parent=context.parent)


def options() -> set[str]:
    """Every option of every command of ours."""
    found = {"--help", "--version"}
    context = click.Context(blda)
    for room in ROOMS:
        group = blda.get_command(context, room)
        assert isinstance(group, click.Group)
        for command in group.commands.values():
            found |= {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    return found


def unknown_in(span: str) -> str:
    """What is wrong with a command that a sentence names, as far as it is told; empty if nothing is.

    A sentence may leave out what it does not speak of, and may put ellipses and brackets.
    """
    words = span.replace("[", " ").replace("]", " ").split()
    words = words[2:] if words[:2] == ["python", "-m"] else words
    words = words[1:] if words[0] == "blda" else words
    if len(words) < 2 or words[0] not in ROOMS or not re.fullmatch(r"[a-z-]+", words[1]):
        return ""  # a room alone, or `blda --help`
    group = blda.get_command(click.Context(blda), words[0])
    assert isinstance(group, click.Group)
    if words[1] == "--help":
        return ""
    command = group.commands.get(words[1])
    if command is None:
        return f"no command {words[0]} {words[1]}"
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    wrong = [word for word in words[2:] if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]
    return f"{' '.join(words[:2])} has no {wrong[0]}" if wrong else ""
