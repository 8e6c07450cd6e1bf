"""Adding up what 10,000 devices gathered: memory and time of `serve merge`, in two orders, and on Ray.

    python tests/bench/gathering/bench_merge.py [--files 10000] [--ray]    # some minutes on two cores

Files of 19 classes, an hour's slot each out of 24, of which 50 differ and the others are copies under other
names. The command must keep below 1 GB of memory and make the same file, byte by byte, in any order; with
--ray, the command and each of its workers must (what Ray itself takes is not counted). Exit code 1 if not.
"""

import argparse
import filecmp
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

sys.path.extend(map(str, (Path(__file__).parents[2] / "support").glob("**/")))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
from bench_serve import Rows
from gathered_files import HOUR, MORNING, drawn, subject

from serve.gathering.packing import pack
from serve.gathering.store import Gathered, Head, Record, write_gathered

CLASSES, KINDS, SLOTS, PIXELS = 19, 50, 24, 4000
LIMIT = 1000.0
"""MB, of a million bytes."""
ROOT = Path(__file__).parents[3]


def write_fleet(folder: Path, files: int) -> list[Path]:
    """So many files of one slot each."""
    rng, of = np.random.default_rng(0), subject(CLASSES)
    kinds = [pack(drawn(of, rng, PIXELS, rng.normal(0, 0.3, CLASSES)).values) for _ in range(KINDS)]
    record = Record(0, "", 0.0, 0.0, 5, 0)
    paths = []
    for number in range(files):
        slot = MORNING + number % SLOTS * HOUR
        name = f"device-{number:05d}"
        own = replace(record, slot=slot, device=name, first=slot + 1.0, last=slot + 2.0)
        path = folder / f"{number % 100:02d}" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        write_gathered(path, Head(of, HOUR, (own,)), [kinds[number % KINDS]])
        paths.append(path)
    return paths


@contextmanager
def watched_workers() -> Iterator[list[float]]:
    """MB that any of Ray's workers held at most, as soon as the block has ended."""
    most, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            most[0] = max([most[0], *_workers()])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def _workers() -> Iterator[float]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::merge_part"):
                lines = (folder / "status").read_text().splitlines()
                yield next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
        except (OSError, StopIteration):  # it ended meanwhile
            continue


MERGE = "import resource, sys; from serve.cli.commands import main; main(standalone_mode=False); " + (
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, file=sys.stderr)"
)


def merge(inputs: list[str], out: Path, *options: str) -> tuple[float, float]:
    """Seconds, and MB of the process at most."""
    begin = time.monotonic()
    command = [sys.executable, "-c", MERGE, "merge", *inputs, "-o", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.monotonic() - begin, float(done.stderr.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--ray", action="store_true", help="on a cluster of this machine, too")
    given = parser.parse_args()
    rows = Rows()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fleet").mkdir()
        paths = write_fleet(folder / "fleet", given.files)
        size = sum(path.stat().st_size for path in paths) / 1e6
        print(f"{given.files} files, {size:.0f} MB", flush=True)
        backwards = [str(folder / "fleet" / f"{part:02d}") for part in reversed(range(100))]
        for words, inputs in (("a folder", [str(folder / "fleet")]), ("backwards", backwards)):
            seconds, most = merge(inputs, folder / words)
            print(f"{words}: {seconds:.0f} s", flush=True)
            rows.add(f"MB to merge {given.files} files, {words}", most, LIMIT)
        total = int(Gathered(folder / "a folder").total().pixels.sum())
        assert total == PIXELS * given.files, "every pixel of every file is in the sum"
        same = [filecmp.cmp(folder / "a folder", folder / "backwards", shallow=False)]
        if given.ray:
            with watched_workers() as workers:
                seconds, most = merge([str(folder / "fleet")], folder / "on Ray", "--ray", "local")
            print(f"on Ray: {seconds:.0f} s", flush=True)
            rows.add("MB of the command on Ray", most, LIMIT)
            rows.add("MB of a worker at most", workers[0], LIMIT)
            same.append(filecmp.cmp(folder / "a folder", folder / "on Ray", shallow=False))
        rows.add("orders in which another file came out", float(same.count(False)), 0.0)
    return 1 if rows.missed else 0


if __name__ == "__main__":
    sys.exit(main())
