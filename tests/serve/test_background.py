"""A stage in a thread of its own ends with its consumer, however that ends."""

import threading
import time
from collections.abc import Generator

import pytest

from serve.background import background


class Interrupted(threading.Thread):
    """Ctrl-C comes while it is being started, and it runs already."""

    def start(self) -> None:
        super().start()
        raise KeyboardInterrupt


class Refused(threading.Thread):
    """The system has no thread left."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def endless(closed: list[bool]) -> Generator[int]:
    try:
        while True:
            yield 1
            time.sleep(0.001)
    finally:
        closed.append(True)


def test_no_thread_goes_on_where_its_start_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It read on in a video that was closed meanwhile: now and then Ctrl-C ended in a segmentation fault."""
    before, closed = set(threading.enumerate()), []
    monkeypatch.setattr("serve.background.threading.Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(background(endless(closed), 2))
    assert set(threading.enumerate()) <= before and closed == [True]


def test_a_thread_that_can_not_be_started_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.background.threading.Thread", Refused)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(background(endless([]), 2))
