"""SIGTERM (docker stop, systemd, Slurm) and SIGHUP (a closed terminal) end a command as Ctrl-C does.

As the first process of a container, a command would not even notice a SIGTERM that it has no handler for.
"""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Self

STOPPING = (signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handling(handler: Handler, numbers: Iterable[int]) -> Iterator[None]:
    """Inside, `handler` gets these signals; not off the main thread, which alone may set handlers."""
    former: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, handled in former.items():
            signal.signal(number, handled)


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise KeyboardInterrupt; a signal that is ignored (nohup) stays so."""
    with handling(interrupt, [n for n in STOPPING if signal.getsignal(n) is signal.SIG_DFL]):
        yield


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
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        raising = (signal.default_int_handler, interrupt)
        taken = [n for n in (signal.SIGINT, *STOPPING) if signal.getsignal(n) in raising]
        self._stack.enter_context(handling(self._handle, taken))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

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
