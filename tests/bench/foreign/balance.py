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
PATCH = 4
SCALE = 9.0
"""Of the logits, which then reach from -15 to 15."""


def textures(classes: int) -> np.ndarray:
    """[classes, 3, PATCH, PATCH] what each class looks like, around 0 on the scale of pixels / 255."""
    return np.random.default_rng(0).uniform(-0.2, 0.2, (classes, 3, PATCH, PATCH))


def write_model(path: Path, classes: int) -> Path:
    """Patches to features, through convolutions that hardly change them, to logits of the nearest texture."""
    rng = np.random.default_rng(0)
    nodes, weights = [], {}

    def conv(value: str, kernel: np.ndarray, bias: np.ndarray, name: str, **settings: object) -> str:
        weights[f"{name}_w"], weights[f"{name}_b"] = kernel.astype(np.float32), bias.astype(np.float32)
        nodes.append(helper.make_node("Conv", [value, f"{name}_w", f"{name}_b"], [name], **settings))
        return name

    numbers = 3 * PATCH**2
    stem = np.eye(WIDTH, numbers).reshape(WIDTH, 3, PATCH, PATCH)
    value = conv("x", stem, -0.5 * stem.sum((1, 2, 3)), "stem", strides=[PATCH] * 2)
    for layer in range(LAYERS):
        kernel = rng.normal(0, 1e-4, (WIDTH, WIDTH, 3, 3))
        kernel[np.arange(WIDTH), np.arange(WIDTH), 1, 1] += 1
        value = conv(value, kernel, np.zeros(WIDTH), f"layer{layer}", pads=[1, 1, 1, 1])
    centres = textures(classes).reshape(classes, numbers) @ np.eye(numbers, WIDTH)
    kernel = 2 * SCALE * centres[:, :, None, None]
    conv(value, kernel, -SCALE * (centres**2).sum(1), "logits")
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


def write_footage(folder: Path, classes: int) -> Path:
    """Fields of the textures, some classes more often than others, with noise and more contrast."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    looks = (1.1 * textures(classes)).transpose(0, 2, 3, 1)
    share = rng.dirichlet(np.full(classes, 2.0))
    for number in range(PICTURES):
        coarse = rng.choice(classes, p=share, size=(SIZE[0] // 32, SIZE[1] // 32))
        labels = coarse.repeat(32 // PATCH, 0).repeat(32 // PATCH, 1)
        image = 0.5 + looks[labels].transpose(0, 2, 1, 3, 4).reshape(*SIZE, 3)
        image += rng.normal(0, 0.16, image.shape)
        cv2.imwrite(str(folder / f"{number:03d}.png"), (255 * image.clip(0, 1)).astype(np.uint8)[..., ::-1])
    return folder


def measured(classes: int) -> tuple[float, float]:
    """Seconds of the model over the footage, and of the command."""
    told = Told(mean=(0.0,) * 3, std=(1.0,) * 3)
    with tempfile.TemporaryDirectory() as place:
        model, footage = (
            write_model(Path(place) / "m.onnx", classes),
            write_footage(Path(place) / "footage", classes),
        )
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
