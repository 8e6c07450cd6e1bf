"""Memory comes back after a request: the C library keeps what was freed, of a video half a gigabyte."""

import ctypes
import gc
import sys
from typing import Any

_ARENA_MAX = -8  # glibc's number for the parameter (malloc.h)
_ARENAS = 2


def keep_little() -> None:
    """Let all threads take memory from few places, since each place keeps some; before they start."""
    if mallopt := _of_c("mallopt"):
        mallopt(_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Hand to the system what is kept and not in use."""
    gc.collect()  # libav's objects refer to each other
    if trim := _of_c("malloc_trim"):
        trim(0)


def _of_c(name: str) -> Any:
    """A function of glibc's; None where there is another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
