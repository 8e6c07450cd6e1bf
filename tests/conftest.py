"""Shared ground of the tests: `import oracle` works from every test file, and torch stays modest.

The suite runs on two worker processes of a two-core machine, so one thread per worker is the fastest, and
results do not depend on how many cores there are.
"""

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
sys.path.extend(map(str, (TESTS / "support").glob("**/")))

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(
        variable, "1"
    )  # read when torch and onnxruntime are first imported, here or in a child
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network is not a test
os.environ.setdefault("MPLBACKEND", "Agg")
# Started in the background, a shell's children ignore Ctrl-C, and so would those that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


# The same examples every time, and no time limit, so that a change and not dice or load turns a test red.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _same_dice() -> None:
    """Tests that draw numbers draw the same ones, alone or in any order; TEST_SEED=N tries others."""
    seed = int(os.environ.get("TEST_SEED", "0"))
    random.seed(seed)
    if "tqdm" in sys.modules:  # what a test left half done would move the bars of the next ones
        getattr(sys.modules["tqdm"].tqdm, "_instances", set()).clear()
    torch = sys.modules.get("torch")  # a test that has not imported it draws nothing from it
    if torch is not None:
        torch.manual_seed(seed)


@pytest.fixture(autouse=True)
def _same_priority() -> Iterator[None]:
    """No test leaves a real-time process behind, as an encoder did: that starves what follows."""
    if not hasattr(os, "sched_getscheduler"):  # not Linux
        yield
        return
    before = os.sched_getscheduler(0)
    yield
    after = os.sched_getscheduler(0)
    if after != before:
        os.sched_setscheduler(0, before, os.sched_param(0))
    assert after == before


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return TESTS.parent
