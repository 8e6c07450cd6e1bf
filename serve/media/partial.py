"""Outputs in the making, under a temporary name beside the one that they get.

    .out.4711.partial.mp4  ->  out.mp4

Whoever writes one holds a lock on it (flock), which the kernel takes away however the process ends. So what
nobody holds was left behind by a kill or a power cut, whatever the number of its process: every container
counts from 1. Where a file system has no locks, nothing is taken for left behind.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

_NAME = re.compile(r"\..+\.\d+(-\d+)?\.partial(\..+)?")


@contextmanager
def temporary_for(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """A new, empty file or folder beside `target`, locked; removed in the end unless it was renamed."""
    path, lock = _create(target, folder)
    try:
        yield path
    finally:
        _remove(path)
        if lock is not None:
            os.close(lock)


def give_name(made: Path, target: Path, *, overwrite: bool) -> Path:
    """Rename what was made to `target`, whole; unless allowed to overwrite, to a free name like it.

    Returns its name. Of two processes that name theirs at the same time, one gets `target`.
    """
    if overwrite:
        if made.is_dir() and target.is_dir():  # a rename replaces no folder that holds something
            shutil.rmtree(target)
        return made.replace(target)
    for number in count(1):
        name = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        with suppress(FileExistsError):
            return _rename(made, name)
    raise AssertionError  # numbers do not end


def _rename(made: Path, name: Path) -> Path:
    """Rename to a name that nobody has, or raise FileExistsError, in one step."""
    if made.is_dir():
        name.mkdir()  # a folder may replace an empty one
        return made.replace(name)
    try:
        name.hardlink_to(made)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        name.touch(exist_ok=False)
        return made.replace(name)
    made.unlink()
    return name


def sweep(folder: Path) -> None:
    """Remove what processes that no longer run left unfinished in `folder`."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _NAME.fullmatch(path.name):
            _remove_abandoned(path)


def _create(target: Path, folder: bool) -> tuple[Path, int | None]:
    """The temporary path and the descriptor that locks it, if the file system can."""
    for number in count():
        again = f"-{number}" if number else ""  # another thread's, or another container's
        path = target.with_name(f".{target.stem}.{os.getpid()}{again}.partial{target.suffix}")
        try:
            path.mkdir() if folder else path.touch(exist_ok=False)
        except FileExistsError:
            continue
        except KeyboardInterrupt:  # which does not tell whether it is there already
            _remove_abandoned(path)
            raise
        try:
            lock = _lock(path)
        except (FileNotFoundError, BlockingIOError):
            continue  # swept away before it was locked
        except OSError:
            return path, None
        except KeyboardInterrupt:
            _remove(path)
            raise
        if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
            return path, lock
        os.close(lock)
    raise AssertionError  # numbers do not end


def _lock(path: Path) -> int:
    """Lock a file or folder for as long as the descriptor is open; OSError if that can't be had."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_abandoned(path: Path) -> None:
    """Remove what nobody works on; what can't be locked is in work, or not ours to touch."""
    with suppress(OSError):
        lock = _lock(path)
        try:
            _remove(path)
        finally:
            os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():  # False also where the folder turned out to be none
        path.unlink()
