"""Precision: what fp16 and int8 keep of the float32 labels, per class, and what they save on this machine.

    python tests/bench/bench_precision.py [--run RUN --target DIR --evaluate DIR]

Without a run, a tiny network is trained here (seconds); with one, on its real pictures.

Fails if a gate of export/precision/gates.py fails. ONNX Runtime on a CPU computes fp16 graphs in float32
between
conversions: their latency says nothing about a GPU, and their labels show the rounding of weights only.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

sys.path.extend(map(str, (Path(__file__).parents[1] / "support").glob("**/")))
import tiny

from export.fold.fold import Extras
from export.pipeline import build
from export.precision.conversion import precision_of
from export.precision.gates import reduce
from export.precision.kinds import PRECISIONS
from export.show import measure
from export.sources.pictures import calibration_pictures
from export.sources.source import open_source
from serve.inference.opening import open_runtime
from serve.media.images import read_image

PICTURES = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--target", type=Path, help="folder that integer ranges are measured on")
    parser.add_argument("--evaluate", type=Path, help="folder that labels are compared on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.run is None:
            tiny.make_domains(folder, images=16)
            options.run, options.target = folder / "run", folder / "target"
            options.evaluate = folder / "target_eval"
            arguments = tiny.train_arguments(folder, options.run, "training.iterations=200")
            subprocess.run([sys.executable, "-m", "adapt", *arguments], check=True, capture_output=True)
        bench(options.run, options.target, options.evaluate, folder)


def bench(run: Path, target: Path, evaluate: Path, folder: Path) -> None:
    source = open_source(run)
    strength = source.strength(0.2, False, 0.05)
    model = build(source, strength, None, Extras())
    files = calibration_pictures(evaluate)
    frames = [read_image(file) for file in files[:: max(1, len(files) // PICTURES)][:PICTURES]]
    size = [max(side, source.card.minimum_size) for side in frames[0].shape[:2]]
    graphs = {"fp32": (model, "")}
    for precision in ("fp16", "int8"):
        reduced, kept = reduce(
            model, strength, Extras(), precision, frames, "pictures", calibration_pictures(target)
        )
        graphs[precision] = (reduced, kept.words())
        print(f"{precision} by class:", *(f"{name} {share:.2%}" for name, share in kept.classes.items()))
    for precision, (graph, words) in graphs.items():
        file = folder / f"{precision}.onnx"
        onnx.save(graph, file)
        latency = measure(open_runtime(file, "cpu"), (size[0], size[1]))
        print(
            f"{precision}: {file.stat().st_size / 1e6:.2f} MB, {1e3 * latency.seconds:.1f} ms at "
            f"{size[0]}x{size[1]}, {precision_of(graph).words()}; {words}"
        )
    print("gates:", {name: kind.gate for name, kind in PRECISIONS.items() if kind.gate})


if __name__ == "__main__":
    main()
