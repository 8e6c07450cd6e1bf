"""kill -9 at every moment that matters: before a process makes, opens for writing, renames or removes a file.

`killed(code, root, moments)` runs `code`, which defines `work(folder)`, once per moment in a folder of its
own below `root`, and kills it there. Python announces what it is about to do to files by audit events.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")


def killed(code: str, root: Path, moments: Iterable[int]) -> list[Path]:
    """The folders of those that were killed; a moment after the end of the work kills nothing."""
    root.mkdir(parents=True)
    ran = subprocess.run(
        [sys.executable, __file__, str(root), code, *map(str, moments)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return [root / word for word in ran.stdout.split()]


def _fork(work: Callable[[Path], None], folder: Path, moment: int) -> bool:
    """Whether the child was killed."""
    child = os.fork()
    if child == 0:
        left = moment

        def announced(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            changes = event in CHANGES or (event == "open" and int(arguments[2]) & WRITES)  # type: ignore[call-overload]
            if changes and str(arguments[0]).startswith(str(folder)):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.addaudithook(announced)
        work(folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the work failed at moment {moment}: status {status}"
    return status == signal.SIGKILL


if __name__ == "__main__":
    names: dict[str, Callable[[Path], None]] = {}
    exec(sys.argv[2], names)
    for word in sys.argv[3:]:
        place = Path(sys.argv[1]) / word
        place.mkdir()
        if _fork(names["work"], place, int(word)):
            print(word)
