"""Work for visitors: it goes on as long as somebody waits for the answer, and leaves no memory behind.

Gradio notices that a visitor left, but lets a handler that runs in a thread run on, in the only slot. Here
every request has a `Work`, which is stopped when the last stream that would carry the answer is closed (a
closed page, a client that gave up), when it is cancelled, and when the server stops.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

from serve.errors import InputError
from serve.inference.mosaic import Arrays
from serve.inference.runtime import Runtime
from serve.inference.segmenter import Pixels, Segmentation, Segmenter

_BACK_WITHIN = 0.25  # seconds in which a visitor whose stream broke off may listen again
_THERE_WITHIN = 10.0  # seconds in which one who asked has to begin to listen
_LOOK = 0.02


class Work:
    """What is done for one request, in whichever threads. It may be stopped from any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._at_stop: list[Callable[[], object]] = []
        self._busy = 0

    def stop(self) -> None:
        with self._lock:
            self._stopped, calls, self._at_stop = True, self._at_stop, []
        for call in calls:
            call()

    @property
    def stopped(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._stopped

    def at_stop(self, call: Callable[[], object]) -> None:
        """Have `call` done when the work is stopped; at once, if it is."""
        with self._lock:
            if not self._stopped:
                self._at_stop.append(call)
                return
        call()

    def check(self) -> None:
        """Raise InputError if the work is stopped."""
        if self._stopped:
            raise InputError("Stopped; nothing was kept.")

    @contextmanager
    def in_thread(self) -> Iterator[None]:
        """For as long as a thread works on it."""
        self.check()
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    async def ended(self) -> None:
        """Wait until no thread works on it any more."""
        while self._busy:
            await asyncio.sleep(_LOOK)


WORK: ContextVar[Work] = ContextVar("work")
"""The work that the present thread or task belongs to."""


class Visitors:
    """Who listens for which answers, and the work for them. Everything but `stop_all` is for the event loop.

    Answers go to streams; a stream is known by a key, the number of a session or of a request.
    """

    def __init__(self) -> None:
        self._streams: Counter[str] = Counter()
        self._works: dict[Work, frozenset[str]] = {}
        self._closed = False

    @contextmanager
    def listening(self, key: str) -> Iterator[None]:
        """For as long as a stream is open. Work that nobody listens for shortly after it ends is stopped."""
        self._streams[key] += 1
        try:
            yield
        finally:
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]
                for work, keys in self._works.items():
                    if key in keys:
                        self._stop_unless_heard(work, _BACK_WITHIN)

    @contextmanager
    def working(self, keys: Collection[str]) -> Iterator[Work]:
        """Work whose answer goes to any stream of `keys`; it is stopped if none is opened soon."""
        work = Work()
        self._works[work] = frozenset(keys)
        wait = self._stop_unless_heard(work, _THERE_WITHIN)
        if self._closed:
            work.stop()
        try:
            yield work
        finally:
            wait.cancel()
            del self._works[work]

    def stop_all(self, seconds: float) -> None:
        """Stop all work, now and from now on, and wait so long at most for its end. From any thread."""
        self._closed = True
        deadline = time.monotonic() + seconds
        while self._works and time.monotonic() < deadline:
            for work in list(self._works):
                work.stop()
            time.sleep(_LOOK)

    def _stop_unless_heard(self, work: Work, seconds: float) -> asyncio.TimerHandle:
        """Stop it if nobody listens for it so many seconds from now."""

        def look() -> None:
            if not any(self._streams[key] for key in self._works.get(work, ())):
                work.stop()

        return asyncio.get_running_loop().call_later(seconds, look)


class Stoppable(Segmenter):
    """A Segmenter for one work: a run ends early when the work is stopped, and gives its memory back.

    An engine's run goes to its end, which takes it a few milliseconds.
    """

    def __init__(self, segmenter: Segmenter, work: Work) -> None:
        vars(self).update(vars(segmenter))  # the same open graph
        self._work = work
        self._options = {}
        if type(self.runtime) is Runtime:
            self._options = {keeping: _run_options(keeping) for keeping in (True, False)}
        for options in self._options.values():
            work.at_stop(partial(setattr, options, "terminate", True))

    def __call__(
        self, frames: Pixels, tau: float | None = None, *, extras: bool | Collection[str] = False
    ) -> Segmentation:
        self._work.check()
        try:
            found = super().__call__(frames, tau, extras=extras)
        except InputError:
            self._work.check()  # a run that was stopped fails; that is no news
            raise
        self._work.check()  # it may have ended before it noticed
        return found

    def _run(self, runtime: Runtime, *more: Any) -> Arrays:
        """Where all runs pass, of whichever session (see serve/inference/large.py)."""
        if self._options:
            keeping = runtime.provider == "cpu" and runtime.session.get_session_options().enable_cpu_mem_arena
            runtime = replace(runtime, session=_Session(runtime.session, self._options[keeping]))
        return super()._run(runtime, *more)


class _Session:
    """ONNX Runtime's session with options for every run."""

    def __init__(self, session: Any, options: Any) -> None:
        self._session = session
        self._options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], feed: dict[str, Any]) -> Any:
        return self._session.run(names, feed, self._options)

    def run_with_iobinding(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding, self._options)


def _run_options(keeping: bool) -> Any:
    """For a session that, unless told otherwise, keeps memory of the CPU's."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4  # a run that was stopped is no error
    if keeping:
        # ONNX Runtime keeps the memory of its largest run; giving it back costs no time that can be measured.
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
