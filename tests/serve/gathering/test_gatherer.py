"""A file that is gathered into: slots, going on, one writer, and what a kill costs."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from gathered_files import HOUR, MORNING, subject

from serve.errors import InputError
from serve.gathering.gatherer import Gather, Gatherer
from serve.gathering.store import Gathered


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = float(MORNING)

    def __call__(self) -> float:
        return self.now


def frame(value: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    logits = np.zeros((3, 2, 2), np.float32)
    logits[1] = value
    return logits, np.ones((2, 2), np.uint8)


def settings(path: Path, **more: object) -> Gather:
    return Gather(path, **{"device": "d", "interval": 1000.0, "clock": Clock(), **more})  # type: ignore[arg-type]


def test_slots_devices_and_times(tmp_path: Path) -> None:
    clock = Clock()
    gatherer = Gatherer(settings(tmp_path / "f", clock=clock), subject())
    for minute in (5, 10, 70):
        clock.now = MORNING + 60.0 * minute
        gatherer.add(*frame())
    gatherer.close()
    gatherer.close()  # twice is once
    records = Gathered(tmp_path / "f").head.records
    assert [(r.slot, r.frames, r.device) for r in records] == [(MORNING, 2, "d"), (MORNING + HOUR, 1, "d")]
    assert (records[0].first, records[0].last) == (MORNING + 300, MORNING + 600)
    assert Gathered(tmp_path / "f").total().plain.tolist() == [0, 12, 0]
    assert not list(tmp_path.glob(".*"))


def test_one_frame_of_some_is_due() -> None:
    with pytest.raises(InputError, match="above 0"):
        Gatherer(Gather(Path("f"), every=0), subject())


def test_which_frames_are_due(tmp_path: Path) -> None:
    gatherer = Gatherer(settings(tmp_path / "f", every=3), subject())
    assert [gatherer.due(n) for n in (1, 1, 1, 4, 2)] == [[0], [], [], [0, 3], []]
    gatherer.close()


def test_a_new_process_goes_on_with_the_file(tmp_path: Path) -> None:
    for device in ("d", "d", "other"):
        gatherer = Gatherer(settings(tmp_path / "f", device=device), subject())
        gatherer.add(*frame())
        gatherer.close()
    found = Gathered(tmp_path / "f")
    assert [(r.device, r.frames) for r in found.head.records] == [("d", 2), ("other", 1)]
    assert found.total().pixels.sum() == 12


def test_a_file_of_another_network_or_slot_is_kept(tmp_path: Path) -> None:
    Gatherer(settings(tmp_path / "f"), subject()).close()
    before = (tmp_path / "f").read_bytes()
    with pytest.raises(InputError, match="is of another network"):
        Gatherer(settings(tmp_path / "f"), subject(network="new"))
    with pytest.raises(InputError, match="slots of 3600 s"):
        Gatherer(settings(tmp_path / "f", slot=60), subject())
    assert (tmp_path / "f").read_bytes() == before and not list(tmp_path.glob(".*"))


def test_two_writers_of_one_file_are_refused(tmp_path: Path) -> None:
    first = Gatherer(settings(tmp_path / "f"), subject())
    with pytest.raises(InputError, match="another process gathers into"):
        Gatherer(settings(tmp_path / "f"), subject())
    first.close()
    Gatherer(settings(tmp_path / "f"), subject()).close()


def test_a_writing_that_fails_is_heard_of(tmp_path: Path) -> None:
    gatherer = Gatherer(settings(tmp_path / "sub/f", interval=0.01), subject())
    (tmp_path / "sub").rename(tmp_path / "gone")
    (tmp_path / "sub").touch()
    gatherer.add(*frame())
    with pytest.raises(OSError):
        for _ in range(500):
            time.sleep(0.01)
            gatherer.add(*frame())


SCRIPT = """
import sys, time
sys.path[:0] = {paths!r}
import numpy as np
from pathlib import Path
from gathered_files import subject
from serve.gathering.gatherer import Gather, Gatherer
gatherer = Gatherer(Gather(Path({file!r}), device="d", interval=0.2, slot=10**9), subject())
logits = np.zeros((3, 1, 1), np.float32)
for n in range(10**6):
    gatherer.add(logits, np.zeros((1, 1), np.uint8))
    print(n + 1, time.time(), flush=True)
    time.sleep(0.002)
"""


def test_kill_costs_an_interval_at_most(tmp_path: Path, root: Path) -> None:
    """Of a process that writes every 0.2 s, what it counted until 0.2 s and one writing before its death."""
    file = tmp_path / "f"
    paths = [str(root), str(root / "tests/support/gathering")]
    script = textwrap.dedent(SCRIPT.format(paths=paths, file=str(file)))
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    lines = [next(run.stdout).split() for _ in range(500)]
    os.kill(run.pid, signal.SIGKILL)
    dead = time.time()
    lines += [line.split() for line in run.stdout.read().splitlines() if line.count(" ") == 1]
    run.wait()
    kept = Gathered(file).total().pixels.sum()
    written = max(record.last for record in Gathered(file).head.records)
    counted = [int(n) for n, when in lines if float(when) <= written]
    assert kept >= max(counted) - 1
    assert dead - written < 0.2 + 2.0, "an interval, and what a busy machine takes for a writing"
    Gatherer(settings(file, slot=10**9), subject()).close()  # its lock went with it
    assert Gathered(file).total().pixels.sum() == kept


def test_what_was_seen_is_what_the_file_will_hold(tmp_path: Path) -> None:
    """Of slots that are put away, of one that is gone back to, and of what an earlier process gathered."""
    path, of = tmp_path / "f", subject(3)
    for hours in ((0, 0, 1, 0), (1, 2, 0)):
        clock = Clock()
        gatherer = Gatherer(settings(path, clock=clock, slot=HOUR), of)
        for hour in hours:
            clock.now = MORNING + hour * HOUR + 5.0
            gatherer.add(*frame(float(hour)))
            seen = gatherer.seen()
        gatherer.close()
        gathered = Gathered(path)
        assert seen.last == max(record.last for record in gathered.head.records)
        total = gathered.total()
        for name in ("labels", "plain", "agreed", "confidence"):
            np.testing.assert_array_equal(getattr(seen, name), getattr(total, name))
        assert seen.frames == sum(record.frames for record in gathered.head.records)
    assert seen.frames == 7 and not seen.failed and seen.classes == of.classes


def test_nothing_was_seen_at_first(tmp_path: Path) -> None:
    gatherer = Gatherer(settings(tmp_path / "f"), subject(3))
    seen = gatherer.seen()
    gatherer.close()
    assert seen.frames == 0 and np.isnan(seen.last) and seen.saved == MORNING and not seen.tail.any()
