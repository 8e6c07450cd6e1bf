"""Output files: never overwritten without asking, never left half-written."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serve.errors import InputError


def check_outputs(targets: Iterable[Path], force: bool) -> None:
    """Check, before any work, that every output can be written and none overwrites what nobody offered.

    Raises:
        InputError: a target exists and `force` is not set, a target is a folder, or its folder is none or
            can't be written to.
    """
    targets = list(targets)
    for folder in {target.parent for target in targets}:
        _refuse_unwritable(folder)
    existing = [target for target in targets if target.exists()]
    for target in existing:
        if target.is_dir():
            raise InputError(f"{target} is a folder, but a file is to be written there; choose another name.")
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

    The folder is made if need be. An OSError inside is raised again with `target` as its file, because
    nobody knows the temporary name.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error
    finally:
        if temporary.exists():  # False also where the folder turned out to be none
            temporary.unlink()
