"""Ctrl-C, SIGTERM (docker stop, Slurm) or a closed terminal: a step is finished and saved before the end."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from serve.interruption import STOPPING, handling

_GRACE = 60  # seconds, for the step in work


def outlive_interrupts(_: int) -> None:
    """These signals may reach the whole process group; the loop decides when readers stop.

    But a reader whose parent wants it to end, by SIGTERM, must not live for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Turns the first of these signals into a flag, so that a step is finished and saved.

    A Ctrl-C after it interrupts at once. The others don't: a launcher and the system may both send one.
    """
    from tqdm import tqdm

    caught: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not caught:
            caught.append(number)
            with suppress(OSError):  # of a closed terminal
                tqdm.write(
                    "interrupted: finishing this step and saving (Ctrl-C again to stop at once)",
                    file=sys.stderr,
                )

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [n for n in (signal.SIGINT, *STOPPING) if not (nohup and n == signal.SIGHUP)]
    with handling(handle, numbers):
        yield lambda: bool(caught)
