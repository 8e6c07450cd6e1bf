"""Ctrl-C: a step is finished and saved before the run stops."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


def ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches the whole process group; the loop decides when readers stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into a flag, so that a step is finished and saved; the second one interrupts."""
    caught: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        tqdm.write(
            "interrupted: finishing this step and saving (Ctrl-C again to stop at once)", file=sys.stderr
        )

    former = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(caught)
    finally:
        signal.signal(signal.SIGINT, former)
