"""What a run needs, known before."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from seeing_graphs import write_network
from serve_graphs import card, write_graph

from serve.card import GraphInfo, to_metadata
from serve.inference import memory
from serve.inference.memory import need_of, open_frugal
from serve.inference.opening import open_runtime


def test_the_need_of_a_run_continues_two_recorded_ones() -> None:
    def events(pixels: int) -> list[dict]:
        sizes = {"conv": 100 * pixels, "attention": 8 * pixels + 2 * pixels**2, "shape": 64}
        return [
            {
                "cat": "Node",
                "name": name,
                "args": {"activation_size": str(size // 4), "output_size": size - size // 4},
            }
            for name, size in sizes.items()
        ] + [{"cat": "Session", "name": "conv"}, {"cat": "Node", "name": "conv_fence", "args": {}}]

    need = need_of([*events(100), *events(400)], 100)
    for pixels in (10, 100, 10**4, 10**8):
        expected = max(100 * pixels, 8 * pixels + 2 * pixels**2)
        assert need.of(pixels) == pytest.approx(memory._MARGIN * expected, rel=1e-6)


def test_the_need_of_a_graph_of_known_size(tmp_path: Path) -> None:
    """The hungriest operator takes 3 floats a pixel and gives 3 floats a pixel, or an int64 for them."""
    need = open_frugal(open_runtime(write_graph(tmp_path / "m.onnx")), None, 1)[1]
    assert need.of(10**6) == pytest.approx(memory._MARGIN * 24e6, rel=0.01)


def test_attention_over_the_whole_picture_is_quadratic(tmp_path: Path) -> None:
    """Rows of 4x4 cells, each compared with every other: 4 bytes for every pair of 16 pixels."""
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["plain"], perm=[0, 3, 1, 2]),
        node("AveragePool", ["plain"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Reshape", ["cells", "tokens"], ["keys"]),
        node("Transpose", ["keys"], ["queries"], perm=[0, 2, 1]),
        node("MatMul", ["queries", "keys"], ["pairs"]),
        node("ReduceMax", ["pairs"], ["most"], keepdims=0),
        node("ArgMax", ["float"], ["wide"], axis=3, keepdims=0),
        node("Cast", ["wide"], ["whole"], to=TensorProto.FLOAT),
        node("Add", ["whole", "most"], ["sum"]),
        node("Cast", ["sum"], ["labels"], to=TensorProto.UINT8),
    ]
    tokens = helper.make_tensor("tokens", TensorProto.INT64, [3], [0, 3, -1])
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", "H", "W"])
    graph = helper.make_graph(nodes, "attention", [image], [labels], [tokens])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, to_metadata(GraphInfo(card())))
    onnx.save(model, tmp_path / "m.onnx")
    need = open_frugal(open_runtime(tmp_path / "m.onnx"), None, 1)[1]
    assert need.of(10**8) == pytest.approx(memory._MARGIN * 4 * (10**8 / 16) ** 2, rel=0.01)


PEAK = """
import sys
from pathlib import Path
import numpy as np
from serve.inference.memory import open_frugal
from serve.inference.opening import open_runtime

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

runtime, need = open_frugal(open_runtime(sys.argv[1], threads=1), 1, 1)
image = np.random.default_rng(0).integers(0, 256, (1, 2000, 2500, 3), np.uint8)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = resident("VmRSS")
runtime.run(["labels"], {"image": image})
print(resident("VmHWM") - before, resident("VmRSS") - before, need.of(2000 * 2500))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are read from /proc")
def test_the_need_is_what_a_run_takes_and_it_is_returned(tmp_path: Path, root: Path) -> None:
    network = write_network(tmp_path / "m.onnx", reach=1, scores=False)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, network], cwd=root, capture_output=True, text=True, check=True
    )
    peak, kept, need = map(float, done.stdout.split())
    assert 0.5 * need < peak < 1.1 * need, f"{peak / 1e6:.0f} MB of {need / 1e6:.0f} MB"
    assert kept < 0.2 * peak
