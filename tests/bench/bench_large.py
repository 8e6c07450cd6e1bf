"""Large pictures: what a run takes beside what is foretold, and labels in tiles beside those in one piece.

    python tests/bench/bench_large.py             # about two minutes on two cores

MiT-B0 with SegFormer's decoder, whose attention sees the whole picture, and a ResNet with the same decoder,
which sees more than the overlap of tiles this small; random weights and 19 classes. Exit code 1 if more than
2 % of the labels differ, or if a run takes more than foretold, or less than half.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import onnx
import torch

sys.path.extend(map(str, (Path(__file__).parents[1] / "support").glob("**/")))
sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_export import mit_b0

from adapt.config.settings import Model
from adapt.model.build import build
from export.fold.fold import Extras, fold
from export.sources.network import logits_graph
from serve import Segmenter
from serve.card import Card
from serve.inference import large
from serve.inference.memory import open_frugal
from serve.inference.opening import open_runtime

CLASSES = 19
SIZE = (1024, 1536)
TILE = 768
RESNET = {
    "model_type": "resnet",
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128, 256],
    "depths": [2, 2, 2, 2],
    "layer_type": "basic",
}


def resnet() -> Any:
    torch.manual_seed(0)
    model = Model.model_validate({"encoder": {"config": RESNET}, "decoder": "segformer", "width": 64})
    return build(model, CLASSES).segmenter.eval()


def graph_file(path: Path, segmenter: Any, scores: bool) -> Path:
    torch.manual_seed(0)
    torch.nn.init.normal_(segmenter.classify.weight, std=0.5)  # no class everywhere
    names, colours = tuple(f"class{c}" for c in range(CLASSES)), ((0, 0, 0),) * CLASSES
    card = Card(names, colours, 255, segmenter.mean, segmenter.std, segmenter.stride, segmenter.output_stride)
    onnx.save(fold(logits_graph(segmenter), card, None, Extras(scores)), path)
    return path


PEAK = """
import sys
from pathlib import Path
import numpy as np
from serve.inference.memory import open_frugal
from serve.inference.opening import open_runtime
runtime, need = open_frugal(open_runtime(sys.argv[1]), None, 1)
height, width = map(int, sys.argv[2:])
image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
runtime.run(["labels"], {"image": image})
print((resident("VmHWM") - before) / height / width, need.of(height * width) / height / width)
"""


def main() -> int:
    missed = 0
    picture = cv2.resize(
        np.random.default_rng(0).integers(0, 256, (SIZE[0] // 32, SIZE[1] // 32, 3), np.uint8),
        SIZE[::-1],
        interpolation=cv2.INTER_CUBIC,
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, segmenter in (("ResNet", resnet()), ("MiT-B0", mit_b0(CLASSES))):
            for scores in (False, True):
                path = graph_file(Path(folder) / "model.onnx", segmenter, scores)
                whole = Segmenter(path)(picture).labels
                need = open_frugal(open_runtime(path), None, 1)[1]
                enough = (
                    need.of(TILE * TILE) + large._AROUND * picture.shape[0] * picture.shape[1]
                ) / large._SHARE
                with patch.object(large, "available", return_value=int(enough) + 1):
                    cut = Segmenter(path)
                    differing = float((cut(picture).labels != whole).mean())
                missed += differing > 0.02
                tile, kind = cut._way(1, *SIZE).tile, "with scores" if scores else "labels only"
                print(f"{name}, {kind}, {SIZE[1]}x{SIZE[0]} in tiles of {tile}: {differing:.3%} differ")
            for height, width in ((512, 1024), (1024, 2048)):
                command = [sys.executable, "-c", PEAK, path, str(height), str(width)]
                said = subprocess.run(
                    command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
                )
                took, foretold = map(float, said.stdout.split())
                missed += not foretold / 2 < took < foretold
                print(f"{name}, {width}x{height}: took {took:.0f} bytes per pixel, foretold {foretold:.0f}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
