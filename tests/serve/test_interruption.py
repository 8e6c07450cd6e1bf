"""Signals become interruptions where they are wanted, and are left alone elsewhere."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from serve.interruption import Interruption, interrupt, like_ctrl_c


@pytest.fixture
def untouched() -> Iterator[None]:
    """Signals as a new process has them; Ray, which other tests start in this one, leaves handlers behind."""
    former = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("untouched")
def test_an_ignored_signal_stays_ignored_and_handlers_come_back() -> None:
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with like_ctrl_c():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # while it tidies up
        assert signal.getsignal(signal.SIGTERM) == former[signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, former[signal.SIGHUP])


@pytest.mark.usefixtures("untouched")
def test_a_recording_is_interrupted_between_two_frames_only() -> None:
    with like_ctrl_c(), Interruption() as interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            interruption.caught = False
            os.kill(os.getpid(), number)  # outside of `waiting`
            with pytest.raises(KeyboardInterrupt), interruption.waiting():
                raise AssertionError("it was not told of what had come before")
            interruption.caught = False
            with pytest.raises(KeyboardInterrupt), interruption.waiting():
                os.kill(os.getpid(), number)
                time.sleep(5)
        assert signal.getsignal(signal.SIGTERM) is not interrupt
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_that_are_somebody_elses_are_left_alone() -> None:
    def own(*_: object) -> None:
        """A handler of the program that uses ours."""

    former = signal.signal(signal.SIGTERM, own)
    try:
        with like_ctrl_c(), Interruption():
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, former)
