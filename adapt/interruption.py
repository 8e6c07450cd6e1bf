"""Ctrl-C, SIGTERM (docker stop, Slurm) or a closed terminal: a step is finished and saved before the end."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_GRACE = 60  # seconds, for the step in work
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise KeyboardInterrupt, the first one only; nohup's stays ignored.

    As the first process of a container, a command would not even notice a SIGTERM without a handler.
    """
    former: dict[int, Any] = {}

    def interrupt(number: int, frame: Any) -> None:
        for each in former:  # whoever asks again must not disturb the tidying up
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():  # no other one may set handlers
        taken = [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL]
        former.update((number, signal.signal(number, interrupt)) for number in taken)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


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
    taken = [number for number in STOPPING if not (nohup and number == signal.SIGHUP)]
    former = {number: signal.signal(number, handle) for number in taken}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
