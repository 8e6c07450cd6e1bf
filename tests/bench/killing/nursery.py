"""Commands as forks of one process that has imported all that they need, so that no kill waits for imports.

A fork goes on as `python -m PACKAGE ...` would after its imports, in a session of its own. What a command
imported that ran to its end, the next one finds imported: so the first one of a kind is the slow one.
"""

import atexit
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NEWS = ".imports"
"""Suffix of the file in which a command leaves the names of what it imported, beside what it said."""


class Fork:
    """One command at work."""

    def __init__(self, process: "subprocess.Popen[str]", arguments: list[str], folder: Path, said: Path):
        assert process.stdin is not None and process.stdout is not None
        self._answers = process.stdout
        process.stdin.write(json.dumps([arguments, str(folder), str(said)]) + "\n")
        process.stdin.flush()
        self.pid = int(self._answers.readline())

    def ended(self, patience: float) -> int | None:
        """Its exit code, or minus the signal that ended it; None if it is at work after these seconds."""
        if not select.select([self._answers], [], [], max(patience, 0))[0]:
            return None
        return int(self._answers.readline())

    def kill(self) -> bool:
        """End it where it is, with all processes that it started; False if it had ended by itself."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return int(self._answers.readline()) == -signal.SIGKILL


class Nursery:
    """Begins commands, one at a time; the next one when the last one has ended."""

    def __init__(self, process: "subprocess.Popen[str]", said: Path) -> None:
        self._process, self._said = process, said

    def begin(self, arguments: list[str], folder: Path) -> Fork:
        """Start a package with its arguments, in a folder."""
        return Fork(self._process, arguments, folder, self._said)

    @property
    def said(self) -> str:
        """What the last command printed."""
        return self._said.read_text(errors="replace")


@contextmanager
def nursery(said: Path) -> Iterator[Nursery]:
    """One that keeps what a command prints in the file `said`."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Nursery(process, said)


def _serve() -> None:
    """Fork for each line of standard input, and answer with the fork's number and then with its end."""
    for line in sys.stdin:
        arguments, folder, said = json.loads(line)
        news = Path(said + NEWS)
        news.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            _become(arguments, folder, said)
        print(child, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for name in news.read_text().split() if news.exists() else ():
            with suppress(Exception):  # what can't be imported alone is imported by the command
                importlib.import_module(name)
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would not have all its threads"
        print(code, flush=True)


def _become(arguments: list[str], folder: str, said: str) -> None:
    """Be `python -m PACKAGE ...` in a folder, with what it prints in a file."""
    known = set(sys.modules)
    code: object = 1
    os.setsid()
    silence, output = os.open(os.devnull, os.O_RDONLY), os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, standard in ((silence, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, standard)
    os.chdir(folder)
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:  # as the interpreter ends, but without taking all modules apart, which takes a second
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        if code == 0:
            names = [name for name in list(sys.modules) if name not in known]
            Path(said + NEWS).write_text("\n".join(names))
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files have common names
    _serve()
