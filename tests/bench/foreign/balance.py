"""What `blda export balance` costs beside running the model over the footage: 19 and 150 classes.

    python tests/bench/foreign/balance.py          # some minutes on one core

Counted is CPU time of one thread, which a busy machine does not lengthen, and the two compare within one
run: the model over every picture of the footage, and the whole command, which may take 1.3 times that and
10 s more for 19 classes, 30 s for 150. The model is a stand-in: convolutions that take about what a small
SegFormer takes at 512x1024, and a linear classifier of features whose classes overlap. Exit code 1 if a
number misses its target.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.append(str(Path(__file__).parents[1]))
sys.path.extend(map(str, (Path(__file__).parents[2] / "support").glob("**/")))
sys.path.insert(0, str(Path(__file__).parents[3]))

from bench_export import Table

from export.balancing.balance import balance
from export.foreign.convention import Told
from export.foreign.network import open_network
from serve.media.images import read_image

LIMITS = {19: 10.0, 150: 30.0}
"""Seconds beside the model, by classes."""
SHARE = 1.3
PICTURES, SIZE = 24, (512, 1024)
LAYERS, WIDTH = 8, 64


def write_model(path: Path, classes: int) -> Path:
    """Colours of 4x4 pixels to WIDTH features, through convolutions that leave them, to logits."""
    rng = np.random.default_rng(0)
    nodes, weights = [], {}

    def conv(value: str, kernel: np.ndarray, bias: np.ndarray, name: str, **settings: object) -> str:
        weights[f"{name}_w"], weights[f"{name}_b"] = kernel.astype(np.float32), bias.astype(np.float32)
        nodes.append(helper.make_node("Conv", [value, f"{name}_w", f"{name}_b"], [name], **settings))
        return name

    spread = rng.normal(0, 1, (WIDTH, 3, 1, 1))
    value = conv("x", np.tile(spread / 16, (1, 1, 4, 4)), np.zeros(WIDTH), "stem", strides=[4, 4])
    for layer in range(LAYERS):
        kernel = rng.normal(0, 1e-4, (WIDTH, WIDTH, 3, 3))
        kernel[np.arange(WIDTH), np.arange(WIDTH), 1, 1] += 1
        value = conv(value, kernel, np.zeros(WIDTH), f"layer{layer}", pads=[1, 1, 1, 1])
    colours = rng.uniform(0, 1, (classes, 3))
    centres = colours @ spread[:, :, 0, 0].T
    scale = 6.0 / WIDTH
    kernel = 2 * scale * centres[:, :, None, None]
    conv(value, kernel, -scale * (centres**2).sum(1), "logits")
    shape = ["n", "c", "h", "w"]
    graph = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "H", "W"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def write_footage(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    folder.mkdir()
    for number in range(PICTURES):
        coarse = rng.integers(0, 256, (SIZE[0] // 32, SIZE[1] // 32, 3), dtype=np.uint8)
        image = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
        image = image + rng.normal(0, 40, (SIZE[0] // 4, SIZE[1] // 4, 3)).repeat(4, 0).repeat(4, 1).astype(
            np.int16
        )
        cv2.imwrite(str(folder / f"{number:03d}.png"), image.clip(0, 255).astype(np.uint8))
    return folder


def measured(classes: int) -> tuple[float, float]:
    """Seconds of the model over the footage, and of the command."""
    told = Told(mean=(0.0,) * 3, std=(1.0,) * 3)
    with tempfile.TemporaryDirectory() as place:
        model, footage = write_model(Path(place) / "m.onnx", classes), write_footage(Path(place) / "footage")
        network = open_network(model, told, None)
        begin = time.process_time()
        for path in sorted(footage.iterdir()):
            network.logits(read_image(path)[None])
        alone = time.process_time() - begin
        begin = time.process_time()
        balance(model, [footage], Path(place) / "out.onnx", mean=told.mean, std=told.std)
        return alone, time.process_time() - begin


def main() -> int:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one thread, whatever ONNX Runtime would start
    table = Table()
    for classes, more in LIMITS.items():
        alone, whole = measured(classes)
        table.at_most(
            f"{classes} classes: balance, seconds",
            whole,
            SHARE * alone + more,
            f"the model alone {alone:.1f}",
        )
    return int(table.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
