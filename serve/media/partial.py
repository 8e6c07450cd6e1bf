"""Outputs in the making, under a temporary name beside the one that they get; what a kill leaves is removed.

    .out.HOST-BOOT-TOKEN.partial.mp4  ->  out.mp4

Whoever writes one holds a lock on it (flock). The kernel takes a lock back with the process that holds it,
however that ends, so the next one to write into the same folder knows what nobody will finish, and removes
it. A process id would not tell: another process may have got it, and containers all count from 1.
"""

import fcntl
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from secrets import token_hex
from zlib import crc32

PATIENCE = 24 * 3600.0
"""Seconds without a change after which what seems dead is taken for dead where locks can't tell: on a disk
without locks, or of another machine, whose locks a shared disk may not show."""
HOST = socket.gethostname()
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BOOT = _BOOT_ID.read_text()[:8] if _BOOT_ID.exists() else f"{crc32(HOST.encode()):08x}"
"""What all containers of a machine share, from one start of it to the next."""

_LONGEST_STEM = 32  # as much of a name as fits in beside the rest
_EIGHT = "[0-9a-f]{8}"
# Names that were given before this one was.
_FORMER = rf"\..+\.\d+(-\d+)?\.partial(\..+)?|\..+\.{re.escape(HOST)}-{_EIGHT}\.blda-tmp"
_UNFINISHED = re.compile(rf"\..+-{_EIGHT}-{_EIGHT}\.partial(\..+)?|\..+\.blda-tmp|{_FORMER}")
_OF_THIS_MACHINE = re.compile(
    rf"\..+(\.{re.escape(HOST)}-{_EIGHT}|-{BOOT})-{_EIGHT}\.partial(\..+)?|{_FORMER}"
)


@contextmanager
def temporary_for(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """A new, empty file or folder beside `target`, locked; removed in the end unless it was renamed.

    The folder that it lies in is made if need be.

    Raises:
        OSError: it can't be written; names `target`, since nobody knows the temporary name.
    """
    path = target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path, lock = _create(target, folder)
        try:
            yield path
        finally:
            _remove(path)
            if lock is not None:
                os.close(lock)
    except OSError as error:
        place = Path(str(error.filename or path))
        if path not in (place, *place.parents):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error


def give_name(made: Path, target: Path, *, overwrite: bool) -> Path:
    """Rename what was made to `target`, whole; unless allowed to overwrite, to a free name like it.

    Returns its name. Of two processes that name theirs at the same time, one gets `target`.
    """
    if made.is_file():
        with made.open("rb") as file:
            os.fsync(file.fileno())
    if overwrite:
        if not (made.is_dir() and target.is_dir()):
            return made.replace(target)
        former = _name_beside(target)
        target.rename(former)  # at no moment is half a folder at `target`
        made.rename(target)
        _remove(former)
        return target
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


def _create(target: Path, folder: bool) -> tuple[Path, int | None]:
    """The temporary path and the descriptor that locks it, if the file system can."""
    while True:
        path = _name_beside(target)
        try:
            path.mkdir() if folder else path.touch(exist_ok=False)
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


def _name_beside(target: Path) -> Path:
    """A new one; libav, for one, looks at the suffix."""
    stem = target.stem[:_LONGEST_STEM]
    return target.with_name(f".{stem}.{HOST}-{BOOT}-{token_hex(4)}.partial{target.suffix}")


def _lock(path: Path) -> int:
    """Lock a file or folder for as long as the descriptor is open; OSError if that can't be had."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _open(path: Path) -> int:
    """For locking: network disks want files open for writing."""
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():  # False also where the folder turned out to be none
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what processes that no longer run left unfinished in `folder`."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _UNFINISHED.fullmatch(path.name):
            with suppress(OSError):  # gone meanwhile, or somebody else's
                _remove_if_dead(path)


@cache
def sweep_once(folder: Path) -> None:
    """As `sweep`, the first time that this process asks, which may write many files there."""
    with suppress(OSError):  # whoever writes there will hear of it
        sweep(folder)


def _remove_if_dead(path: Path) -> None:
    descriptor = _open(path)
    is_ours = bool(_OF_THIS_MACHINE.fullmatch(path.name))
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # its writer is at work
        except OSError:
            is_ours = False  # as far as can be told here
        if is_ours or _rests(path):
            _remove(path)  # under the lock: see _create
    finally:
        os.close(descriptor)


def _rests(path: Path) -> bool:
    """Whether nothing of it has changed for long."""
    changed = max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
    return time.time() - changed > PATIENCE
