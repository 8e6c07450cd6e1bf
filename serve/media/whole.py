"""Files and folders that appear whole or not at all: written under a temporary name, then renamed."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve.errors import InputError
from serve.media.partial import give_name, sweep, sweep_once, temporary_for


class NameTakenError(InputError):
    """Somebody else made a file of the same name meanwhile; ours is kept under another one."""


@contextmanager
def replacing(target: Path, *, overwrite: bool = True, folder: bool = False) -> Iterator[Path]:
    """A temporary name beside `target` to write to; renamed to `target` on success, removed on failure.

    An empty file is there already, or with `folder` an empty folder, and replaces `target` whole. See
    `unfinished` for the rest.
    """
    with unfinished(target, overwrite=overwrite, folder=folder) as output:
        yield output.path


@dataclass
class Unfinished:
    """An output in the making."""

    path: Path
    """Where it lies: its temporary name, and after `name` the one for good."""
    target: Path
    overwrite: bool
    named: bool = False

    def name(self) -> None:
        """Give it its name; if it has one already, nothing happens.

        What is still being written goes on there, and stays whatever happens.
        """
        if not self.named:
            self.path = give_name(self.path, self.target, overwrite=self.overwrite)
            self.named = True

    @property
    def is_taken(self) -> bool:
        """Does its name belong to somebody else, as far as can be told now?"""
        if self.named:
            return bool(self.elsewhere)
        return not self.overwrite and self.target.exists()

    @property
    def elsewhere(self) -> str:
        """That it got another name than `target`, in a sentence; empty if not."""
        if not self.named or self.path == self.target:
            return ""
        return f"{self.target} was made by somebody else meanwhile, so this one is kept as {self.path}."


@contextmanager
def unfinished(target: Path, *, overwrite: bool = True, folder: bool = False) -> Iterator[Unfinished]:
    """An output that gets the name `target` on success, or by `name` before; removed on failure.

    Args:
        overwrite: replace what is at `target` in the end. Otherwise that stays, whoever made it, and this
            output gets a free name like it.

    Raises:
        NameTakenError: it got another name.
        OSError: it can't be written; see `temporary_for`.
    """
    sweep_once(target.parent)
    with temporary_for(target, folder=folder) as path:
        output = Unfinished(path, target, overwrite)
        try:
            yield output
        except NameTakenError:  # an output inside this one is whole, and so is this
            output.name()
            raise
        output.name()
    if output.elsewhere:
        raise NameTakenError(output.elsewhere)


@contextmanager
def creating(path: Path, *, replace: bool = False, shared: bool = False) -> Iterator[Path]:
    """Give a new folder beside `path` to fill; it appears there complete or not at all.

    Args:
        path: where it goes; nothing, or an empty folder.
        replace: take away what is there, once the new one is complete.
        shared: any process would fill it in alike, so what another one put there first stays.

    Raises:
        InputError: something is there, and is neither to be replaced nor shared.
    """
    sweep(path.parent)
    with temporary_for(path, folder=True) as made:
        yield made
        if replace:
            give_name(made, path, overwrite=True)
            return
        try:
            made.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if not shared:
                raise InputError(
                    f"{path} was made by another process meanwhile; choose another name."
                ) from error


@contextmanager
def scratch(name: str = "scratch") -> Iterator[Path]:
    """An empty folder in the system's place for such, removed afterwards, or by the next one after a kill.

    Nobody else may look into it.
    """
    place = Path(tempfile.gettempdir()) / name
    sweep(place.parent)
    with temporary_for(place, folder=True) as folder:
        folder.chmod(0o700)
        yield folder
