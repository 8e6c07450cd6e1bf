"""Threads keep the priority that the system gave them, whatever a codec asks for.

SVT-AV1 makes threads of a process real-time ones of the highest priority wherever it may do that, as root may
in most containers. They then come before everything else on the machine: signals, timers and
other programs wait until a network has been computed.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def kept_priority() -> Iterator[None]:
    """What is done within leaves all threads scheduled as before; new ones are so as the calling one."""
    if not hasattr(os, "sched_setscheduler"):  # not Linux
        yield
        return
    before = _scheduling()
    own = before[0]
    try:
        yield
    finally:
        for thread, (policy, _) in _scheduling().items():
            wanted = before.get(thread, own)
            if policy != wanted[0]:
                with suppress(OSError):  # it has ended
                    os.sched_setscheduler(thread, *wanted)


def _scheduling() -> dict[int, tuple[int, Any]]:
    """Policy and parameters of every thread of this process, and as 0 of the calling one.

    Of that one alone where the system does not list them by the numbers that it takes, as in a container
    without a list of its own.
    """
    found = {0: (os.sched_getscheduler(0), os.sched_getparam(0))}
    try:
        threads = {int(path.name) for path in Path("/proc/self/task").iterdir()}
    except OSError:
        return found
    for thread in threads if threading.get_native_id() in threads else ():
        with suppress(OSError):  # it has ended
            found[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread)
    return found
