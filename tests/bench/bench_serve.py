"""What serving a video costs beyond the model, and against the loop that most write.

    python tests/bench/bench_serve.py [demo] [mit-b0] [memory] [cold]    # all: six minutes on two cores

* `serve video`, 1280x720 to an H.264 overlay, over the model alone on the same frames (ONNX Runtime as it
  comes, frames decoded beforehand): at most 1.05 with MiT-B0, 1.30 with the demo's tiny model.
* The tiny model in a loop of cv2.VideoCapture, float NCHW, numpy argmax and cv2.VideoWriter takes at least
  1.3 times as long, end to end (of MiT-B0's time the network is nearly all).
* Memory over a video of 2,000 frames grows by less than 50 MiB after the first 200.
* `serve image` on one picture takes less than 0.7 s over a process that only loads and runs the graph.

Candidates of a ratio take turns, and the ratio is the median over the turns, so that a busy machine slows
both alike. Weights are random: the numbers depend on shapes only. Exit code 1 if a number is missed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

sys.path.extend(map(str, (Path(__file__).parents[1] / "support").glob("**/")))
sys.path.insert(0, str(Path(__file__).parents[2]))

import av
import cv2
import numpy as np
import onnx
import onnx_segmenters
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from adapt.config.settings import load_config
from adapt.data.known_classes import CITYSCAPES19
from adapt.model.build import build
from adapt.model.segmenter import IMAGENET_MEAN, IMAGENET_STD
from adapt.run.cards import DEFAULT_TAU
from export.fold.fold import Strength, fold
from export.fold.tables import DEFAULT_BOUND
from export.sources.network import logits_graph
from serve import Segmenter
from serve.card import Card
from serve.media.video.reader import Frame, VideoReader
from serve.video.model import callers
from serve.video.segment import segment_video

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = 720, 1280
LIMITS = {"mit-b0": 1.05, "demo": 1.30}
FRAMES = {"mit-b0": 8, "demo": 60}
ROUNDS = {"mit-b0": 3, "demo": 5}
FASTER, GROWTH, COLD = 1.3, 50.0, 0.7
LONG = 2000
_MEBIBYTE = 2**20


def make_models(preset: str, folder: Path) -> tuple[Path, Path]:
    """Our deployable graph with the correction folded in, and one from float pixels to full-size logits."""
    classes = CITYSCAPES19
    segmenter = build(load_config(preset).model, len(classes)).segmenter.eval()
    bare = logits_graph(segmenter)
    card = Card(
        classes.names,
        classes.palette,
        255,
        segmenter.mean,
        segmenter.std,
        segmenter.stride,
        segmenter.output_stride,
        model=preset,
    )
    strength = Strength(onnx_segmenters.statistics(len(classes)), "random", DEFAULT_TAU, False, DEFAULT_BOUND)
    ours, plain = folder / f"{preset}.onnx", folder / f"{preset}-plain.onnx"
    onnx.save(fold(bare, card, strength), ours)
    onnx.save(_upsampled(bare, segmenter.output_stride), plain)
    return ours, plain


def _upsampled(bare: onnx.ModelProto, scale: int) -> onnx.ModelProto:
    """Logits at the size of the picture, as exporters usually give them."""
    model = onnx.ModelProto()
    model.CopyFrom(bare)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "up_scales"))
    logits = graph.output[0].name
    graph.node.append(helper.make_node("Resize", [logits, "", "up_scales"], ["full"], mode="linear"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("full", TensorProto.FLOAT, ["N", "C", "H", "W"]))
    return model


def make_clip(path: Path, frames: int, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """A camera that moves over a large textured scene, with a little noise."""
    rng = np.random.default_rng(0)
    shape = height + 200, width + 400
    octaves = [cv2.resize(rng.normal(0, 1, (n, 2 * n, 3)), shape[::-1]) * 240 / n for n in (6, 24, 96)]
    scene = (128 + 4 * sum(octaves)).clip(0, 255).astype(np.uint8)
    noise = rng.integers(0, 6, (4, height, width, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(frames):
            x, y = (3 * number) % 400, number % 200
            picture = cv2.add(np.ascontiguousarray(scene[y : y + height, x : x + width]), noise[number % 4])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def naive(session: onnxruntime.InferenceSession, source: Path, target: Path) -> None:
    """The loop of a hundred tutorials."""
    palette = np.array(CITYSCAPES19.palette, np.uint8)[:, ::-1]
    capture = cv2.VideoCapture(str(source))
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    writer = cv2.VideoWriter(
        str(target), cv2.VideoWriter_fourcc(*"mp4v"), capture.get(cv2.CAP_PROP_FPS), size
    )
    name = session.get_inputs()[0].name
    mean, std = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)
    while True:
        found, frame = capture.read()
        if not found:
            break
        pixels = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
        pixels = ((pixels - mean) / std).transpose(2, 0, 1)[None]
        padded = np.pad(pixels, ((0, 0), (0, 0), (0, -size[1] % 32), (0, -size[0] % 32)))
        logits = session.run(None, {name: padded})[0][:, :, : size[1], : size[0]]
        labels = np.argmax(logits, axis=1)[0]
        writer.write(cv2.addWeighted(frame, 0.5, palette[labels], 0.5, 0))
    capture.release()
    writer.release()


def take_turns(candidates: list[Callable[[], object]], rounds: int) -> np.ndarray:
    """Seconds [rounds, candidates]; the first round does not count."""
    spent = np.zeros((rounds + 1, len(candidates)))
    for turn in range(rounds + 1):
        for position, candidate in enumerate(candidates):
            begin = time.perf_counter()
            candidate()
            spent[turn, position] = time.perf_counter() - begin
    return spent[1:]


def open_plainly(path: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU as it comes, but for its warnings."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def measure_pipeline(preset: str, folder: Path) -> tuple[float, float]:
    """(serve video over the model alone, naive loop over serve video; the latter of the tiny model only)."""
    ours, plain = make_models(preset, folder)
    clip = make_clip(folder / f"{preset}.mp4", FRAMES[preset])
    segmenter = Segmenter(ours, callers=callers(None))  # as `serve video` opens it
    model, theirs = open_plainly(ours), open_plainly(plain)
    with VideoReader(clip) as reader:
        frames = [item.pixels for item in reader.items() if isinstance(item, Frame)]
    target = folder / "out.mp4"

    def alone() -> None:
        for frame in frames:
            model.run(["labels"], {"image": frame[None]})

    def served() -> None:
        segment_video(segmenter, clip, target)

    def loop() -> None:
        naive(theirs, clip, target)

    candidates = {"model alone": alone, "serve video": served}
    if preset == "demo":
        candidates["naive loop"] = loop
    spent = take_turns(list(candidates.values()), ROUNDS[preset])
    per_frame = zip(candidates, 1000 * np.median(spent, axis=0) / len(frames), strict=True)
    print(
        f"{preset}, ms per frame: {', '.join(f'{name} {each:.0f}' for name, each in per_frame)}", flush=True
    )
    over, *faster = np.median(spent[:, 1:] / spent[:, :-1], axis=0)
    return float(over), float(faster[0]) if faster else float("nan")


def measure_growth(folder: Path) -> float:
    """MiB that a process grows by between frame 200 and the end of a long video."""
    model, _ = make_models("demo", folder)
    clip = make_clip(folder / "long.mp4", LONG, 180, 320)
    samples: list[tuple[int, int]] = []
    done = threading.Event()
    count = [0]
    segmenter = Segmenter(model, callers=callers(None))
    write = Segmenter.__call__

    def counted(self: Segmenter, frames: np.ndarray, *args: object, **named: object) -> object:
        count[0] += len(frames)
        return write(self, frames, *args, **named)  # type: ignore[arg-type]

    def watch() -> None:
        while not done.wait(0.05):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            samples.append((count[0], pages * os.sysconf("SC_PAGE_SIZE")))

    Segmenter.__call__ = counted  # type: ignore[method-assign,assignment]
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        segment_video(segmenter, clip, folder / "long-out.mp4")
    finally:
        done.set()
        watcher.join()
        Segmenter.__call__ = write  # type: ignore[method-assign]
    early = [memory for frames, memory in samples if 150 <= frames <= 250]
    late = [memory for frames, memory in samples if frames >= LONG - 300]
    return (max(late) - statistics.median(early)) / _MEBIBYTE


ONLY_THE_RUNTIME = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(["labels"], {"image": numpy.zeros((1, 720, 1280, 3), numpy.uint8)})
"""


def measure_cold_start(folder: Path) -> float:
    """Seconds that `serve image` takes over a process that loads and runs the same graph."""
    model, _ = make_models("demo", folder)
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    cv2.imwrite(str(folder / "one.png"), cv2.blur(picture, (9, 9)))
    out = ["-o", str(folder / "one"), "--force"]
    ours = [sys.executable, "-m", "serve", "image", str(model), str(folder / "one.png"), *out]
    bare = [sys.executable, "-c", ONLY_THE_RUNTIME, str(model)]

    def start(command: list[str]) -> Callable[[], object]:
        return lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT)

    served, alone = np.median(take_turns([start(ours), start(bare)], 5), axis=0)
    print(f"one picture: serve image {served:.2f} s, the runtime alone {alone:.2f} s", flush=True)
    return served - alone


class Rows:
    """Prints what was measured beside what is wanted."""

    missed = 0

    def add(self, name: str, value: float, limit: float, least: bool = False) -> None:
        fine = value >= limit if least else value <= limit
        self.missed += not fine
        verdict = "ok" if fine else "MISSED"
        print(f"{name:<58} {value:>7.3f}  {'>=' if least else '<='} {limit:<5g} {verdict}", flush=True)


def main() -> int:
    parts = (*LIMITS, "memory", "cold")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; all without a choice")
    chosen = parser.parse_args().parts or parts
    if unknown := set(chosen) - set(parts):
        parser.error(f"no such part: {', '.join(unknown)}")
    rows = Rows()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for preset in (part for part in chosen if part in LIMITS):
            over, faster = measure_pipeline(preset, folder)
            rows.add(f"{preset}: serve video over the model alone", over, LIMITS[preset])
            if preset == "demo":
                rows.add(f"{preset}: naive loop over serve video", faster, FASTER, least=True)
        if "memory" in chosen:
            rows.add(f"MiB grown over {LONG} frames", measure_growth(folder), GROWTH)
        if "cold" in chosen:
            rows.add("seconds of cold start beyond the runtime's own", measure_cold_start(folder), COLD)
    return 1 if rows.missed else 0


if __name__ == "__main__":
    sys.exit(main())
