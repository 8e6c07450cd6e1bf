"""Input files by name, folder or pattern; output files never overwritten unasked, never left half-written."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from glob import escape, glob
from pathlib import Path

from serve.errors import InputError


def find_files(inputs: Sequence[str], suffixes: Set[str], kind: str) -> list[Path]:
    """Files, folders (the files right inside with one of `suffixes`, in order of name) and glob patterns.

    `kind` says what the files are, for the error messages: "picture" or "video".

    Raises:
        InputError: an input that does not exist or matches nothing, or two files with the same stem, whose
            results would overwrite each other.
    """
    found: dict[Path, None] = {}  # a dict keeps the order and drops repetitions
    for given in inputs:
        matches = list(_matches(given, suffixes))
        if not matches:
            raise InputError(
                f"{given} holds no {kind}; give {kind} files, a folder of them or a quoted pattern."
            )
        found.update(dict.fromkeys(matches))
    stems: dict[str, Path] = {}
    for path in found:
        other = stems.setdefault(path.stem, path)
        if other != path:
            raise InputError(
                f"{other} and {path} would both be written as {path.stem}; segment them into two folders."
            )
    return list(found)


def _matches(given: str, suffixes: Set[str]) -> Iterator[Path]:
    path = Path(given)
    if path.is_dir():
        yield from sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and p.is_file())
    elif path.exists():
        yield path
    else:
        yield from sorted(p for p in map(Path, glob(given, recursive=True)) if p.is_file())  # noqa: PTH207


def check_outputs(targets: Iterable[Path], force: bool, *, folders: bool = False) -> None:
    """Check, before any work, that every output can be written and none overwrites what nobody offered.

    Targets are files, or with `folders`, folders that are replaced whole.

    Raises:
        InputError: a target exists and `force` is not set, a target is a folder where it must be a file or
            the reverse, or its folder is none or can't be written to.
    """
    targets = list(targets)
    for folder in {target.parent for target in targets}:
        _refuse_unwritable(folder)
    existing = [target for target in targets if target.exists()]
    for target in existing:
        if target.is_dir() != folders:
            there, wanted = ("a file", "a folder") if folders else ("a folder", "a file")
            raise InputError(
                f"{target} is {there}, but {wanted} is to be written there; choose another name."
            )
    if existing and not force:
        more = f" and {len(existing) - 1} more exist" if len(existing) > 1 else " exists"
        raise InputError(f"{existing[0]}{more}; choose another output or pass --force to overwrite.")


def _refuse_unwritable(folder: Path) -> None:
    """The folder itself, or the one that it will be made in."""
    ground = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not ground.is_dir():
        raise InputError(f"{ground} is a file, so nothing can be written below it; choose another output.")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise InputError(f"{ground} can't be written to; choose another output or change its permissions.")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary name beside `target` to write to; renamed to `target` on success, removed on failure.

    What is written may be a file or a folder, and replaces `target` whole. The folder that it lies in is
    made if need be. An OSError inside is raised again with `target` as its file, because
    nobody knows the temporary name.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and target.is_dir():  # a rename replaces no folder that holds something
            shutil.rmtree(target)
        temporary.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        elif temporary.exists():  # False also where the folder turned out to be none
            temporary.unlink()


def sweep(target: Path) -> None:
    """Remove what processes of this machine that no longer run (killed, power cut) left beside `target`."""
    for left in target.parent.glob(f".{escape(target.stem)}.*.partial{escape(target.suffix)}"):
        pid = left.name.removeprefix(f".{target.stem}.").partition(".")[0]
        if pid.isdigit() and not _runs(int(pid)):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
