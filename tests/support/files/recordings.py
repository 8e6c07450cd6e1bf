"""Recordings of cameras: made by `serve video` in a process of its own, and what they hold."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av


def until(there: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait for something to happen; whether it did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if there():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def recording(
    graph: Path, *arguments: object, before: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """`serve video` in a process of its own."""
    command = [*before, sys.executable, "-m", "serve", "video", graph, *arguments]
    running = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def times(path: Path, kind: str = "video") -> list[float]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [float(frame.pts * stream.time_base) for frame in container.decode(stream)]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
