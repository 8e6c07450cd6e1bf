"""How much memory running a graph on a large picture takes.

A run's peak is that of its hungriest operator: what goes into it and what comes out. Both are read from ONNX
Runtime's own record of two small runs, and continued to any size: of n pixels, every tensor takes a n + b n²
bytes, where b belongs to attention between all pixels. Measured peaks, without the arena, lay 1.0 to 1.2
times above the largest sum (ResNet and MiT-B0, 0.1 to 17 megapixels).
"""

import json
from collections import defaultdict
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
