"""Many classes: seconds and memory of gathering statistics and of folding them, of 150 and of 300 classes.

    python tests/bench/bench_many.py              # about two minutes on one core

What costs grows with the square of the classes. Counted is CPU time, which a busy machine does not lengthen,
and the peak of a process of its own: of gathering without the time of the network, which is a stand-in (a
linear classifier on Gaussian features), and of folding without the network's own nodes. Exit code 1 if a
number misses its target.
"""

import multiprocessing
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

sys.path.extend(map(str, (Path(__file__).parents[1] / "support").glob("**/")))
sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_export import Table, _resident
from onnx_segmenters import card, logits_as_pixels

from export.fold.fold import Strength, fold
from export.fold.folded import graph_info
from export.statistics.gather import gather

LIMITS = {150: (10.0, 30.0, 2.0), 300: (40.0, 120.0, 4.0)}
"""CPU seconds of statistics and of the fold, and GB at the peak, by classes."""
PICTURES, SIZE, STRIDE, FEATURES = 16, (512, 1024), 4, 16
TAU = 0.5


class StandIn:
    """Logits of a network that was never run, and what they took."""

    path = "a stand-in"

    def __init__(self, classes: int) -> None:
        self.outlet = SimpleNamespace(output_stride=STRIDE, classes=classes)
        self.centres = 1.3 * np.random.default_rng(0).normal(size=(classes, FEATURES)).astype(np.float32)
        self.seconds, self.pictures = 0.0, 0

    def logits(self, images: np.ndarray) -> np.ndarray:
        begin = time.process_time()
        rng = np.random.default_rng(self.pictures)
        height, width = (side // STRIDE for side in images.shape[1:3])
        labels = rng.integers(0, len(self.centres), height * width)
        features = self.centres[labels] + rng.normal(size=(height * width, FEATURES)).astype(np.float32)
        logits = features @ self.centres.T - 0.5 * (self.centres**2).sum(1)
        found = np.ascontiguousarray(logits.T.reshape(1, -1, height, width), np.float32)
        self.pictures += 1
        self.seconds += time.process_time() - begin
        return found


def measured(classes: int) -> tuple[float, float, float, float]:
    """Seconds of statistics and of the fold, GB at the peak, and the bound that is proven."""
    torch.set_num_threads(1)  # two wait for one another by spinning, which would count
    network: Any = StandIn(classes)
    target: Any = [np.zeros((*SIZE, 3), np.uint8)] * PICTURES
    begin = time.process_time()
    statistics = gather(network, target, None).statistics
    gathered = time.process_time() - begin - network.seconds
    begin = time.process_time()
    model = fold(logits_as_pixels(classes), card(classes), Strength(statistics, "a stand-in", TAU))
    folded = time.process_time() - begin
    correction = graph_info(model, "").correction
    assert correction is not None
    return gathered, folded, _resident() / 1e9, correction.error_bound


def main() -> int:
    table = Table()
    for classes, (gathering, folding, memory) in LIMITS.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            gathered, folded, peak, bound = pool.apply(measured, (classes,))
        table.at_most(f"{classes} classes: statistics, seconds", gathered, gathering, "beside the network")
        table.at_most(f"{classes} classes: fold, seconds", folded, folding, f"{bound:.2g} proven")
        table.at_most(f"{classes} classes: memory at the peak, GB", peak, memory)
    return int(table.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
