"""How long `--help` takes, of every command: under 0.5 s, the interpreter's own start included."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import click

import adapt.cli
import export.cli.commands
import serve.cli.commands

LIMIT = 0.5
ROOMS = {"adapt": adapt.cli.main, "export": export.cli.commands.main, "serve": serve.cli.commands.main}


def main() -> int:
    commands = [["blda"], *(words for room, group in ROOMS.items() for words in below([room], group))]
    spent = {" ".join(words): timed(words) for words in commands}
    missed = [name for name, (wall, _) in spent.items() if wall >= LIMIT]
    slowest, (wall, work) = max(spent.items(), key=lambda pair: pair[1])
    print(f"{len(spent)} commands; the slowest is {slowest} --help: {wall:.2f} s, {work:.2f} s of CPU time")
    for name in missed:
        print(f"{name} --help: {spent[name][0]:.2f} s (limit {LIMIT} s) MISSED")
    return 1 if missed else 0


def below(words: list[str], command: click.Command) -> Iterator[list[str]]:
    """The command and all inside it, as words to type."""
    yield words
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        yield from below([*words, name], inner)


def timed(words: list[str]) -> tuple[float, float]:
    """Seconds that `--help` takes, and those of them at work; the least of five, others being at work too."""
    least = (float("inf"), float("inf"))
    for _ in range(5):
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", *words, "--help"], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} --help ended with {process.returncode}")
        least = min(least, (time.perf_counter() - begin, used.ru_utime + used.ru_stime))
    return least


if __name__ == "__main__":
    sys.exit(main())
