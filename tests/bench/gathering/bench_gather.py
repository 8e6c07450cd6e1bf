"""What gathering in the field costs: time of a MiT-B0 frame, memory over many frames, bytes of a day.

    python tests/bench/gathering/bench_gather.py [time] [memory]    # both: four minutes on two cores

* Frames of 512x1024 through MiT-B0 with 19 classes, gathering as `serve --gather` does by default: at most
  1.03 of the time without. Counted frames and others take turns on one core each, in processor time; what a
  counted one takes more is shared out to the frames of which one is counted, and taken times the number of
  cores, since the network would run on all of them and the counting on one.
* 10,000 small frames in ten slots: the process grows by at most 10 MiB after the first 1,000, the file stays
  below 2 MB.

Weights are random and nothing is corrected: the numbers depend on shapes only, and a correction would make
the frame longer. Exit code 1 if a number is missed.
"""

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.extend(map(str, (Path(__file__).parents[2] / "support").glob("**/")))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import onnx
from bench_serve import Rows

from adapt.config.settings import load_config
from adapt.data.known_classes import CITYSCAPES19
from adapt.model.build import build
from export.fold.fold import Extras, fold
from export.sources.network import logits_graph
from serve import Segmenter
from serve.card import Card
from serve.gathering.gatherer import EVERY, Gather
from serve.gathering.rule import rule_around

COST, GROWTH, DAY = 1.03, 10.0, 2.0
ROUNDS, FRAMES, EARLY = 11, 10_000, 1_000
_MEBIBYTE = 2**20


def make_model(preset: str, path: Path) -> Path:
    """A deployable graph that was exported for gathering."""
    classes = CITYSCAPES19
    segmenter = build(load_config(preset).model, len(classes)).segmenter.eval()
    means = (segmenter.mean, segmenter.std, segmenter.stride, segmenter.output_stride)
    card = Card(classes.names, classes.palette, 255, *means, model=preset)
    rule = rule_around((-8.0, 8.0), (0.0,) * len(classes), None)
    onnx.save(fold(logits_graph(segmenter), card, None, Extras(gather=rule)), path)
    return path


def measure_time(folder: Path) -> float:
    """Ratio of the time of frames with gathering as it is by default over those without."""
    model = make_model("mit-b0", folder / "mit-b0.onnx")
    frame = np.random.default_rng(0).integers(0, 256, (512, 1024, 3), np.uint8)
    plain = Segmenter(model, threads=1)
    gathering = Segmenter(model, threads=1, gather=Gather(folder / "b0", every=1))
    spent = np.array(
        [[processor_time(each, frame) for each in (plain, gathering)] for _ in range(ROUNDS + 1)]
    )[1:]
    gathering.close()
    without, more = np.median(spent[:, 0]), np.median(spent[:, 1] - spent[:, 0])
    cores = os.cpu_count() or 1
    print(
        f"MiT-B0, ms of a core: {1000 * without:.0f} a frame, {1000 * more:+.1f} if it is counted", flush=True
    )
    return float(1 + cores * more / EVERY / without)


def processor_time(segmenter: Segmenter, frame: np.ndarray) -> float:
    """Seconds of all threads for one frame, which other work on the machine hardly changes."""
    begin = time.process_time()
    segmenter(frame)
    return time.process_time() - begin


def measure_memory(folder: Path) -> tuple[float, float]:
    """MiB that the process grows by after EARLY frames; MB of the file in the end."""
    model = make_model("demo", folder / "demo.onnx")
    frames = np.random.default_rng(0).integers(0, 256, (20, 96, 128, 3), np.uint8)
    begin, count = time.time(), 0
    gather = Gather(folder / "day", every=1, slot=1, interval=1, clock=lambda: begin + count / EARLY)
    segmenter = Segmenter(model, threads=1, gather=gather)
    early, most = 0.0, 0.0
    for count in range(FRAMES):
        segmenter(frames[count % len(frames)])
        if count % 100 == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            now = pages * os.sysconf("SC_PAGE_SIZE") / _MEBIBYTE
            early, most = (now, now) if count <= EARLY else (early, max(most, now))
    segmenter.close()
    return most - early, (folder / "day").stat().st_size / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="time, memory; both without a choice")
    chosen = parser.parse_args().parts or ["time", "memory"]
    if unknown := set(chosen) - {"time", "memory"}:
        parser.error(f"no such part: {', '.join(unknown)}")
    rows = Rows()
    with tempfile.TemporaryDirectory() as name:
        if "time" in chosen:
            rows.add("MiT-B0, 512x1024: gathering over not", measure_time(Path(name)), COST)
        if "memory" in chosen:
            growth, size = measure_memory(Path(name))
            rows.add(f"MiB grown over {FRAMES} frames", growth, GROWTH)
            rows.add("MB of the file", size, DAY)
    return 1 if rows.missed else 0


if __name__ == "__main__":
    sys.exit(main())
