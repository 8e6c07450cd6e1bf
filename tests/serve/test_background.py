"""A stage in a thread of its own ends with its consumer, however that ends."""

import threading
import time
from collections.abc import Generator, Iterable
from contextlib import closing

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


def _count(upto: int, log: list[int]) -> Generator[int]:
    try:
        for number in range(upto):
            log.append(number)
            yield number
    finally:
        log.append(-1)


def test_background_keeps_the_order_and_stays_a_few_items_ahead() -> None:
    log: list[int] = []
    items = background(_count(100, log), ahead=3)
    assert next(items) == 0
    time.sleep(0.2)
    assert len(log) <= 6
    assert list(items) == list(range(1, 100)) and log[-1] == -1


def test_background_raises_at_the_place_of_the_error() -> None:
    def broken() -> Generator[int]:
        yield 1
        yield 2
        raise ValueError("three")

    items = background(broken(), ahead=5)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(items)


def test_closing_the_last_stage_closes_all() -> None:
    log: list[int] = []
    before = threading.active_count()
    with closing(background(background(_count(10_000, log), 2), 2)) as items:
        assert next(items) == 0
    assert log[-1] == -1 and len(log) < 100 and threading.active_count() == before


def test_stages_overlap() -> None:
    """Each waits in the midst of its item until the other two are in the midst of theirs."""
    met = threading.Barrier(3)

    def meeting(items: Iterable[int], lead: int) -> Generator[int]:
        for item in items:
            if lead <= item < lead + 20:
                met.wait(60)
            yield item

    stages = meeting(background(meeting(background(meeting(range(25), 4), 2), 2), 2), 0)
    assert list(stages) == list(range(25))
