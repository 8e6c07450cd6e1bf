"""Files and folders that appear whole or not at all, and nothing left behind by a process that was killed.

What is being written lies beside its place as `.NAME.HOST-TOKEN.blda-tmp`, locked by its writer (flock). The
kernel takes a lock back with the process that holds it, however that ends, so the next one to write into the
same folder knows what nobody will finish, and removes it. A process id would not tell: another process may
have got it, and containers all count from 1.
"""

import errno
import fcntl
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from adapt.errors import InputError

SUFFIX = ".blda-tmp"
HOST = socket.gethostname()
PATIENCE = 24 * 3600.0
"""Seconds without a change after which what seems dead is taken for dead where locks can't tell: on a disk
without locks, or of another host, whose locks a shared disk may not show."""

_OURS = re.compile(rf"\..+\.{re.escape(HOST)}-[0-9a-f]{{8}}{re.escape(SUFFIX)}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give an empty file beside `path`; renamed to it on success, removed on failure (a full disk, Ctrl-C).

    Raises:
        OSError: it can't be written; names `path`, since nobody knows the temporary name.
    """
    with _unfinished(path, Path.touch) as temporary:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def creating(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a new folder beside `path` to fill; it appears there complete or not at all.

    Args:
        path: where it goes; nothing, or an empty folder.
        replace: take away the folder that is there, once the new one is complete.

    Raises:
        InputError: something is there, and is not to be replaced.
    """
    with _unfinished(path, Path.mkdir) as temporary:
        yield temporary
        if replace and path.is_dir():
            former = _name_beside(path)
            path.rename(former)  # at no moment is half a folder at `path`
            _rename(temporary, path)
            _remove(former)
        elif not _rename(temporary, path):
            raise InputError(f"{path} was made by another process meanwhile; choose another name.")


@contextmanager
def caching(path: Path) -> Iterator[Path]:
    """As `creating`, for what any process would fill in alike: what another one put there first stays."""
    with _unfinished(path, Path.mkdir) as temporary:
        yield temporary
        _rename(temporary, path)


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder in the system's place for such, removed afterwards, or by the next one after a kill."""
    with _unfinished(Path(tempfile.gettempdir()) / "scratch", Path.mkdir) as folder:
        yield folder


def sweep(folder: Path) -> None:
    """Remove what processes that are no more left unfinished in `folder`."""
    for left in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError):  # gone meanwhile, or somebody else's
            _remove_if_dead(left)


def _remove_if_dead(left: Path) -> None:
    descriptor = _open(left)
    try:
        if _is_dead(left, descriptor):
            _remove(left)  # under the lock: see _made
    finally:
        os.close(descriptor)


def _is_dead(left: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # its writer is at work
    except OSError:
        return _rests(left)
    return _OURS.fullmatch(left.name) is not None or _rests(left)


def _rests(left: Path) -> bool:
    """Whether nothing of it has changed for long."""
    changed = max(path.lstat().st_mtime for path in (left, *left.rglob("*")))
    return time.time() - changed > PATIENCE


@contextmanager
def _unfinished(path: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A file or folder of one's own beside `path`, locked; removed at the end if it has not been renamed."""
    sweep(path.parent)
    temporary = path
    try:
        temporary, descriptor = _made(path, make)
        try:
            yield temporary
        finally:
            _remove(temporary)
            os.close(descriptor)
    except OSError as error:
        if error.filename != str(temporary) and error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _made(path: Path, make: Callable[[Path], object]) -> tuple[Path, int]:
    while True:
        temporary = _name_beside(path)
        make(temporary)
        # A sweeper may come between making and locking: it holds the lock while it removes.
        with suppress(FileNotFoundError):
            descriptor = _open(temporary)
            with suppress(OSError):  # a disk without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if temporary.exists():
                return temporary, descriptor
            os.close(descriptor)


def _open(path: Path) -> int:
    """For locking: network disks want files open for writing."""
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)


def _name_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{HOST}-{token_hex(4)}{SUFFIX}")


def _rename(temporary: Path, path: Path) -> bool:
    """False if something is there; an empty folder does not count."""
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
