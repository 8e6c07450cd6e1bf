"""How much memory there is, and how much running a graph on a large picture takes.

A run's peak is that of its hungriest operator: what goes into it and what comes out. Both are read from ONNX
Runtime's own record of two small runs, and continued to any size: of n pixels, every tensor takes a n + b n²
bytes, where b belongs to attention between all pixels. Measured peaks, without the arena, lay 1.0 to 1.2
times above the largest sum (ResNet and MiT-B0, 0.1 to 17 megapixels).
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.card import Card
from serve.inference.opening import open_runtime
from serve.inference.runtime import Runtime
from serve.media.whole import scratch

_SIDE = 256  # pixels of the smaller of the two runs, or a little more
_MARGIN = 1.3


@dataclass(frozen=True)
class Need:
    """Bytes that one run takes, by the number of pixels of the picture."""

    linear: NDArray[np.float64]
    """[operators] bytes per pixel."""
    quadratic: NDArray[np.float64]
    """[operators] bytes per pixel²."""

    def of(self, pixels: float) -> float:
        """Bytes at the peak, with some room."""
        return _MARGIN * float(np.max(self.linear * pixels + self.quadratic * pixels**2, initial=0))


def available() -> int | None:
    """Bytes that this process can still take: of the machine, its container, and its own limit.

    None where the system does not say (it is not Linux).
    """
    bounds = list(_bounds(Path("/")))
    return max(min(bounds), 0) if bounds else None


def _bounds(root: Path) -> Iterator[int]:
    facts = _table(root / "proc/meminfo")
    if "MemAvailable" in facts:
        yield 1024 * facts["MemAvailable"]
    yield from _left_in_groups(root)
    if (limit := _address_space_limit()) is not None:
        yield limit - 1024 * _table(root / "proc/self/status").get("VmSize", 0)


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group (a container is one) that this process is in has left.

    Files in the cache count as used there, but give way.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            ground, limit, used, cached = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            ground, limit, used = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        top = root / ground
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None:
                yield most - now + _table(folder / "memory.stat").get(cached, 0)


def _address_space_limit() -> int | None:
    """Of `ulimit -v`."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _number(path: Path) -> int | None:
    """The number in a file; None if there is no such file, or it says "max"."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    """Lines such as `MemAvailable:  123 kB` or `inactive_file 123`, as far as they hold a number."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.replace(":", " ").split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def open_frugal(runtime: Runtime, threads: int | None, callers: int) -> tuple[Runtime, Need]:
    """The same graph on the CPU once more, in a session that returns memory after every run, and its need.

    Raises:
        InputError: the file can't be opened any more.
    """
    with scratch("blda-need") as folder:
        record = str(Path(folder) / "runs")
        frugal = open_runtime(runtime.path, "cpu", threads, callers, record=record)
        pixels = _run_twice(frugal)
        events = json.loads(Path(frugal.session.end_profiling()).read_text())
    return frugal, need_of(events, pixels)


def _run_twice(runtime: Runtime) -> int:
    """Run on black pictures, the second of twice the sides; returns the pixels of the first."""
    batch = next(tensor for tensor in runtime.inputs if tensor.name == "image").shape[0]
    side = smallest(runtime.info.card)
    for scale in (1, 2):
        shape = (batch if isinstance(batch, int) else 1, scale * side, scale * side, 3)
        runtime.run(["labels"], {"image": np.zeros(shape, np.uint8)})
    return side * side


def smallest(card: Card) -> int:
    """Side of the smaller picture: one that the graph does not pad, so that all sizes grow in proportion."""
    unit = int(np.lcm(card.stride, card.output_stride))
    return -(-max(_SIDE, card.minimum_size) // unit) * unit


def need_of(events: list[dict[str, Any]], pixels: int) -> Need:
    """Continue two recorded runs, of `pixels` and of 4 * `pixels` pixels.

    From y1 = a n + b n² and y2 = 4 a n + 16 b n²: b = (y2 - 4 y1) / 12 n² and a = (16 y1 - y2) / 12 n.
    """
    sizes: dict[str, list[int]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and "output_size" in (facts := event.get("args", {})):
            sizes[event["name"]].append(int(facts["activation_size"]) + int(facts["output_size"]))
    # An operator inside a loop occurs several times in each run.
    first = np.array([max(each[: len(each) // 2], default=0) for each in sizes.values()], np.float64)
    second = np.array([max(each[len(each) // 2 :]) for each in sizes.values()], np.float64)
    quadratic = np.maximum((second - 4 * first) / (12 * pixels**2), 0)
    linear = (second - quadratic * (4 * pixels) ** 2) / (4 * pixels)
    return Need(linear, quadratic)
