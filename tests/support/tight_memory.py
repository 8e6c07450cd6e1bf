"""A picture, and as much memory as is wanted for it."""

from pathlib import Path

import pytest

from serve.inference import large
from serve.inference.memory import open_frugal
from serve.inference.opening import open_runtime

SIZE = (700, 900)


def free_for(graph: Path, side: int, frames: int = 1) -> int:
    """Free memory in which one run takes `frames` pictures of `side` x `side` pixels at most."""
    need = open_frugal(open_runtime(graph), None, 1)[1]
    pixels = SIZE[0] * SIZE[1]
    return int((1.02 * frames * need.of(side**2) + large._AROUND * pixels) / large._SHARE)


def with_free(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    monkeypatch.setattr(large, "available", lambda: free)
