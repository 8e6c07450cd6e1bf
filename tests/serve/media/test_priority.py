"""Codecs that ask for real-time threads do not get them."""

import os
import threading

import pytest

from serve.media.priority import kept_priority


def may_be_real_time() -> bool:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


@pytest.mark.skipif(not may_be_real_time(), reason="only a privileged process may make its threads real-time")
def test_threads_are_scheduled_as_before():
    started, over = threading.Event(), threading.Event()
    worker = threading.Thread(target=lambda: (started.set(), over.wait(60)))
    with kept_priority():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
        worker.start()  # inherits it
        started.wait(60)
        assert os.sched_getscheduler(worker.native_id) == os.SCHED_FIFO
    try:
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
        assert os.sched_getscheduler(worker.native_id) == os.SCHED_OTHER
    finally:
        over.set()
        worker.join()


def test_what_fails_within_is_raised_and_undone():
    before = os.sched_getscheduler(0)
    with pytest.raises(ValueError, match="broken"), kept_priority():
        raise ValueError("broken")
    assert os.sched_getscheduler(0) == before
