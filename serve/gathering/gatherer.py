"""Counts what a model sees while it segments, and writes it down at intervals.

Frames are counted in the threads that segment them; a thread of its own writes the file, in one step. So
SIGTERM costs nothing where it ends the process in order, and kill -9 what came since the last writing.
"""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.errors import InputError
from serve.gathering.counts import LEVELS, Counts, Whole, add
from serve.gathering.lock import Lock
from serve.gathering.packing import pack, unpack
from serve.gathering.rule import Subject
from serve.gathering.store import Gathered, Head, Packed, Record, check_same, write_gathered

EVERY = 10
"""One frame of so many is counted: what that takes is then below 3 % even of a fast network's time."""
INTERVAL = 60.0
"""Seconds between two writings."""
HOUR = 3600


@dataclass(frozen=True)
class Gather:
    """Where and how often to gather."""

    path: Path
    """File to write, or to go on with if it is of the same network."""
    every: int = EVERY
    """Count one frame of so many."""
    slot: int = HOUR
    """Length of a slot, in seconds: what is counted within one is added up."""
    device: str = field(default_factory=socket.gethostname)
    """Name that the counts get."""
    interval: float = INTERVAL
    """Seconds between two writings."""
    clock: Callable[[], float] = time.time
    """Seconds since 1970; another one for recordings and tests."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a file holds of all its slots, with what is not written yet; without the joint histogram."""

    classes: tuple[str, ...]
    tail: Whole
    """See `serve.gathering.counts.Counts.tail`."""
    frames: int
    outside: int
    last: float
    """When the last frame was counted, in seconds since 1970; NaN if none was."""
    saved: float
    """When the file was written, likewise."""
    failed: bool
    """Whether writing failed, after which it is not tried again."""

    @property
    def labels(self) -> Whole:
        """[C], as of `Counts`; so are the others."""
        return self.tail[: len(self.classes)]

    @property
    def plain(self) -> Whole:
        return self.tail[len(self.classes) : 2 * len(self.classes)]

    @property
    def agreed(self) -> Whole:
        return self.tail[2 * len(self.classes) : 3 * len(self.classes)]

    @property
    def confidence(self) -> Whole:
        """[C, LEVELS]"""
        return self.tail[3 * len(self.classes) :].reshape(-1, LEVELS)


class Gatherer:
    """Gathers into one file until it is closed. Thread-safe."""

    def __init__(self, gather: Gather, subject: Subject) -> None:
        """Open the file, or make it.

        Raises:
            InputError: it is of another network, not one of these, or another process writes to it.
            OSError: it can't be written.
        """
        self._gather, self._subject = gather, subject
        if gather.every < 1 or gather.slot < 1 or not gather.interval > 0:
            raise InputError("to gather takes --gather-every, --slot and an interval above 0.")
        self._guard, self._writing = threading.Lock(), threading.Lock()
        self._seen = 0
        self._done: list[tuple[Record, Packed]] = []
        self._record: Record | None = None
        self._counts = Counts.none(len(subject.classes))
        self._changed, self._closed = False, threading.Event()
        self._failure: OSError | None = None
        self._before, self._saved = self._counts.tail.copy(), float("nan")
        self._lock = Lock(gather.path)
        try:
            if gather.path.exists():
                self._go_on()
            self._write()
        except BaseException:
            self._lock.release()
            raise
        self._thread = threading.Thread(target=self._work, name=f"gathering {gather.path}", daemon=True)
        self._thread.start()

    def due(self, frames: int) -> list[int]:
        """Which of the next frames, so many, are to be counted."""
        with self._guard:
            first, self._seen = self._seen, self._seen + frames
        return [n for n in range(frames) if (first + n) % self._gather.every == 0]

    def add(self, logits_Chw: NDArray[np.floating[Any]], labels_hw: NDArray[Any]) -> None:
        """Count one frame; see `serve.gathering.counts.add`.

        Raises:
            OSError: the last writing failed, as on a disk that is full.
        """
        if self._failure is not None:
            raise self._failure
        now = self._gather.clock()
        slot = int(now // self._gather.slot) * self._gather.slot
        with self._guard:
            if self._record is None or self._record.slot != slot:
                self._turn_to(slot, now)
            assert self._record is not None
            outside = add(self._counts, self._subject.rule, logits_Chw, labels_hw)
            self._record = self._record.joined(
                replace(self._record, first=now, last=now, frames=1, outside=outside)
            )
            self._changed = True

    def seen(self) -> Seen:
        """What was gathered so far."""
        with self._guard:
            records = [record for record, _ in self._done] + ([self._record] if self._record else [])
            return Seen(
                classes=self._subject.classes,
                tail=self._before + self._counts.tail,
                frames=sum(record.frames for record in records),
                outside=sum(record.outside for record in records),
                last=max((record.last for record in records), default=float("nan")),
                saved=self._saved,
                failed=self._failure is not None,
            )

    def close(self) -> None:
        """Write what is left; afterwards others may write to the file."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        try:
            self._write()
        finally:
            self._lock.release()

    def _go_on(self) -> None:
        gathered = Gathered(self._gather.path)
        head = gathered.head
        check_same(head, self._gather.path, self._subject, "the model")
        if head.slot != self._gather.slot or head.by != "device":
            raise InputError(
                f"{self._gather.path} has slots of {head.slot} s{'' if head.by == 'device' else ', merged'}, "
                f"not of {self._gather.slot} s; give another file, or --slot {head.slot}s."
            )
        self._done = [(record, gathered.packed(n)) for n, record in enumerate(head.records)]
        self._before = gathered.total().tail.copy()

    def _turn_to(self, slot: int, now: float) -> None:
        """Put the counts away and go on with those of `slot`, which may have begun in an earlier process."""
        if self._record is not None:
            self._done.append((self._record, pack(self._counts.values)))
            self._before += self._counts.tail
        self._counts.values[:] = 0
        self._record = Record(slot, self._gather.device, now, now, 0, 0)
        for place, (record, _) in enumerate(self._done):
            if (record.slot, record.device) == (slot, self._gather.device):
                self._record = record
                self._counts.values[:] = unpack(self._done.pop(place)[1], len(self._counts.values))
                self._before -= self._counts.tail
                break

    def _snapshot(self) -> list[tuple[Record, Packed]]:
        with self._guard:
            self._changed = False
            now = [] if self._record is None else [(self._record, pack(self._counts.values))]
            return [*self._done, *now]

    def _write(self) -> None:
        with self._writing:
            made = self._snapshot()
            head = Head(self._subject, self._gather.slot, tuple(record for record, _ in made))
            write_gathered(self._gather.path, head, (packed for _, packed in made))
            self._saved = self._gather.clock()

    def _work(self) -> None:
        while not self._closed.wait(self._gather.interval):
            if self._changed:
                try:
                    self._write()
                except OSError as error:  # raised where somebody hears of it
                    self._failure = error
                    return
