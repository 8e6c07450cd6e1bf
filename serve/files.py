"""Output files: never overwritten without asking, never left half-written."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serve.errors import InputError


def refuse_existing(targets: Iterable[Path], force: bool) -> None:
    """Check, before any work, that no output would overwrite a file that the person did not offer.

    Raises:
        InputError: a target exists and `force` is not set, or a target is a folder.
    """
    existing = [target for target in targets if target.exists()]
    for target in existing:
        if target.is_dir():
            raise InputError(f"{target} is a folder, but a file is to be written there; choose another name.")
    if existing and not force:
        more = f" and {len(existing) - 1} more exist" if len(existing) > 1 else " exists"
        raise InputError(f"{existing[0]}{more}; choose another output or pass --force to overwrite.")


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
        temporary.unlink(missing_ok=True)
