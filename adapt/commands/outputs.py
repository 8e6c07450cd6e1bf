"""Files that a command is asked to write: checked before any work, never overwritten unasked."""

import os
from collections.abc import Iterable
from pathlib import Path

from adapt.errors import InputError


def check_outputs(paths: Iterable[Path], force: bool) -> None:
    """Check that every file can be written.

    Raises:
        InputError: one exists and `force` is not set, is a folder, or lies in a folder that is not there or
            can't be written to.
    """
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder, but the name of a file was expected; give one inside it.")
        if path.exists() and not force:
            raise InputError(f"{path} exists already; choose another name, or replace it with --force.")
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"{path} can't be written: make the folder {path.parent}, or name another.")
