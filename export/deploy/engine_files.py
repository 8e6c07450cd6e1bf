"""An engine and its card: two files that get their names together, whoever else names theirs then."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from serve.media.partial import give_name, sweep_once, temporary_for
from serve.media.whole import NameTakenError


def sidecar_of(engine: Path) -> Path:
    """Where an engine's card lies."""
    return engine.with_name(engine.name + ".json")


def save(engine: bytes, sidecar: dict[str, Any], output: Path, *, overwrite: bool) -> None:
    """Write an engine, and its card under the name that goes with the one it gets.

    At no moment does an engine lie there without its card, or beside that of another one: a kill in between
    leaves a card alone, or nothing.

    Args:
        overwrite: replace what is at `output` in the end.

    Raises:
        NameTakenError: not to overwrite, and somebody else made `output` meanwhile; both are kept beside it.
    """
    sweep_once(output.parent)
    with temporary_for(output) as made, temporary_for(sidecar_of(output)) as card:
        made.write_bytes(engine)
        card.write_text(json.dumps(sidecar, indent=2) + "\n")
        with naming_alone(output.parent):
            name = output if overwrite else _free(output)
            name.unlink(missing_ok=True)
            give_name(card, sidecar_of(name), overwrite=True)
            give_name(made, name, overwrite=True)
    if name != output:
        raise NameTakenError(f"{output} was made by somebody else meanwhile, so this one is kept as {name}.")


@contextmanager
def naming_alone(folder: Path) -> Iterator[None]:
    """Others who name engines or cards in `folder` wait, where its file system has locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _free(output: Path) -> Path:
    """`output`, or the first name like it of which there is no engine."""
    names = (output.with_name(f"{output.stem}-{number}{output.suffix}") for number in count(2))
    return output if not output.exists() else next(name for name in names if not name.exists())
