"""Health check of a container: do the pages answer that are being served in it? Light: no heavy library.

What runs is read from the processes, not from words on a command line: `demo` may be the name of a file, and
the first process may be a shell or an init that started the server.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from serve.cli.commands import demo

_FIRST = 1
_SECONDS = 4
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
"""Addresses that mean all of a machine's, and where it is asked then."""
_WITH_VALUE = ("-X", "-W")
"""Options of Python that take the next word."""


class Page(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


def page_of(command: list[str]) -> Page | None:
    """The page that a process with this command line serves; None if it is not `serve demo`.

    That is `serve demo` or `blda serve demo`, as scripts that Python runs, or as modules (`python -m`).
    """
    words = _without_python(command)
    words = [PurePath(word).name for word in words[:1]] + words[1:]
    if words[:1] == ["blda"]:
        words = words[1:]
    if words[:2] != ["serve", "demo"]:
        return None
    # Click's own reading of the rest: any spelling and order of the options, and their defaults.
    options = demo.make_context("demo", words[2:], resilient_parsing=True).params
    return Page(options["host"], options["port"])


def _without_python(command: list[str]) -> list[str]:
    """What an interpreter is told to run, with its arguments; of another program, the command itself."""
    if not PurePath(command[0]).name.startswith("python"):
        return command
    words = command[1:]
    while words and words[0].startswith("-") and words[0] != "-m":
        words = words[2 if words[0] in _WITH_VALUE else 1 :]
    return words[1:] if words[:1] == ["-m"] else words


def descendants(first: int) -> Iterator[int]:
    """A process and those that it started, and so on, as far as they run."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        parent = int(state.rpartition(")")[2].split()[1])  # what stands in brackets may be any text
        children.setdefault(parent, []).append(int(folder.name))
    waiting = [first]
    while waiting:
        yield (process := waiting.pop())
        waiting += children.get(process, [])


def pages(first: int) -> Iterator[Page]:
    """The pages served by a process and its descendants."""
    for process in descendants(first):
        try:
            text = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if text and (page := page_of(os.fsdecode(text.rstrip(b"\0")).split("\0"))) is not None:
            yield page


def answers(page: Page) -> bool:
    """Whether something speaks HTTP there, be it to refuse."""
    host = _ANYWHERE.get(page.host, page.host)
    place = f"[{host}]" if ":" in host else host
    directly = build_opener(ProxyHandler({}))  # whatever proxy the container's environment names
    try:
        with directly.open(f"http://{place}:{page.port}/health", timeout=_SECONDS):
            return True
    except HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def main(first: int = _FIRST) -> int:
    """Exit code: 0 if every page that the process `first` and its descendants serve answers, 1 if not.

    A command that serves no page is healthy while it runs.
    """
    return 0 if all([answers(page) for page in set(pages(first))]) else 1


if __name__ == "__main__":
    sys.exit(main())
