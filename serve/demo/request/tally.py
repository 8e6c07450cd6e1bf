"""How many requests there were, what became of them and how long they took."""

import asyncio
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from serve.demo.request.work import Work

EDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Seconds at which the bins of times end; one more has no end."""


@dataclass
class Times:
    """Of the requests to one handler, from the end of their wait."""

    bins: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))
    seconds: float = 0.0


class Tally:
    """Counts requests. Thread-safe.

    Args:
        refusals: exceptions that are an answer to what a visitor asked, not a fault.
    """

    def __init__(self, refusals: tuple[type[Exception], ...]) -> None:
        self._refusals = refusals
        self._lock = threading.Lock()
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._times: dict[str, Times] = {}
        self._at_work = 0

    @contextmanager
    def working(self, handler: str, work: Work) -> Iterator[None]:
        """For as long as a request is worked on. What becomes of it: answered, refused, left or failed.

        A visitor who left, or a server that stops, ends the work; what it fails with then does not count.
        """
        begin, outcome = time.monotonic(), "failed"
        with self._lock:
            self._at_work += 1
        try:
            yield
            outcome = "answered"
        except asyncio.CancelledError:
            outcome = "left"
            raise
        except Exception as error:
            outcome = "left" if work.stopped else "refused" if isinstance(error, self._refusals) else "failed"
            raise
        finally:
            self._count(handler, outcome, time.monotonic() - begin)

    def counted(self) -> tuple[dict[tuple[str, str], int], dict[str, Times], int]:
        """Requests by handler and outcome, their times by handler, and how many are being worked on."""
        with self._lock:
            times = {name: Times(list(each.bins), each.seconds) for name, each in self._times.items()}
            return dict(self._outcomes), times, self._at_work

    def _count(self, handler: str, outcome: str, seconds: float) -> None:
        with self._lock:
            self._at_work -= 1
            self._outcomes[handler, outcome] += 1
            times = self._times.setdefault(handler, Times())
            times.bins[bisect_left(EDGES, seconds)] += 1
            times.seconds += seconds
