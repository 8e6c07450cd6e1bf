"""SIGTERM (docker stop, systemd) and SIGHUP (a closed terminal) end a command as Ctrl-C does.

As the first process of a container, a command would not even notice a SIGTERM that it has no handler for.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

STOPPING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise KeyboardInterrupt; a signal that is ignored (nohup) stays so."""
    former: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no other one may set handlers
        taken = [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL]
        former = {number: signal.signal(number, interrupt) for number in taken}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def interrupt(number: int, _: FrameType | None) -> None:
    """Handler that raises KeyboardInterrupt, once: whoever asks again must not disturb the tidying up."""
    for each in STOPPING:
        if signal.getsignal(each) is interrupt:
            signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


class Interruption:
    """Inside its `with` block, what would raise KeyboardInterrupt does so only while `waiting`.

    So a recording can be ended at any time, but not between two halves of writing a frame.
    """

    def __init__(self) -> None:
        self.caught = False
        self._waits = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            raising = (signal.default_int_handler, interrupt)
            taken = [n for n in (signal.SIGINT, *STOPPING) if signal.getsignal(n) in raising]
            self._former = {number: signal.signal(number, self._handle) for number in taken}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A signal that came before, or comes while the block waits, raises KeyboardInterrupt."""
        self._waits = True
        try:
            if self.caught:
                raise KeyboardInterrupt
            yield
        finally:
            self._waits = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.caught = True
        if self._waits:
            self._waits = False  # what is left is tidying up
            raise KeyboardInterrupt
