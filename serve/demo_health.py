"""Health check of a container: does the page answer that its first process serves? Standard library only."""

import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

_FIRST_PROCESS = Path("/proc/1/cmdline")


def port_of(command: list[str]) -> int | None:
    """The port that the command line serves a page on; None if it is not `serve demo`."""
    if "demo" not in command:
        return None
    for word, value in zip(command, [*command[1:], ""], strict=True):
        name, _, attached = word.partition("=")
        if name == "--port":
            return int(attached or value)
    return 7860


def answers(port: int) -> bool:
    """Whether something speaks HTTP on this port of this machine, be it to refuse."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=4):
            return True
    except HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def main() -> int:
    """Exit code: 0 if healthy, 1 if not."""
    port = port_of(_FIRST_PROCESS.read_bytes().decode().split("\0"))
    return 0 if port is None or answers(port) else 1


if __name__ == "__main__":
    sys.exit(main())
