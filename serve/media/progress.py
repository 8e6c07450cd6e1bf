"""Progress with the time left, for people who watch: nothing without a terminal, or with --quiet."""

import sys
from typing import Any

import click
from tqdm import tqdm

from serve.errors import QUIET


def watched() -> bool:
    """Whether standard error is a terminal, and nobody has asked for quiet."""
    context = click.get_current_context(silent=True)
    return sys.stderr.isatty() and not (context is not None and context.meta.get(QUIET, False))


class Bar(tqdm):  # type: ignore[type-arg]
    """tqdm's bar, shown where somebody watches. Lines that it lets pass (`write`) are always written."""

    def __init__(self, *arguments: Any, disable: bool = False, **named: Any) -> None:
        disable = disable or not watched()
        super().__init__(*arguments, disable=disable, **named)  # type: ignore[call-overload]
