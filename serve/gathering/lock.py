"""One writer for a file that is replaced at every writing: a lock on a hidden file beside it."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from serve.errors import InputError


class Lock:
    """Held by one process at most, until it is released or the process ends, however that ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock on the file at `path`, which need not exist.

        Raises:
            InputError: another one has it.
            OSError: the folder can't be written to.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._place = path.with_name(f".{path.name}.lock")
        while True:
            self._descriptor = os.open(self._place, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._descriptor)
                raise InputError(
                    f"another process gathers into {path}; give each its own file and `serve merge` them."
                ) from error
            except OSError:  # a disk without locks: nothing can be told there
                return
            if self._place.exists() and os.path.samestat(os.fstat(self._descriptor), self._place.stat()):
                return
            os.close(self._descriptor)  # who had it before took the file away

    def release(self) -> None:
        """Give it back, and take the file away."""
        with suppress(OSError):
            self._place.unlink()
        os.close(self._descriptor)
