"""Logits graphs built without our exporter, cards, and random statistics, for the tests of export."""

import log_odds
import numpy as np
import onnx
import onnxruntime
import oracle
import torch
from onnx import TensorProto, helper, numpy_helper

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture
from serve.card import Card

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
STRIDE, OUTPUT_STRIDE = 8, 4


def card(classes: int, size: tuple[int, int] | None = None) -> Card:
    names = tuple(f"class{i}" for i in range(classes))
    palette = tuple((i % 256, 0, 0) for i in range(classes))
    return Card(names, palette, 255, MEAN, STD, STRIDE, OUTPUT_STRIDE, size)


def plain_segmenter(
    classes: int, seed: int = 0, names: tuple[str, str] = ("x", "y"), spread: float = 0.8
) -> onnx.ModelProto:
    """One strided convolution: [n, 3, H, W] -> [n, C, H / 4, W / 4], logits of about 3 * spread."""
    rng = np.random.default_rng(seed)
    weight = (spread * rng.normal(size=(classes, 3, 4, 4)) / 2).astype(np.float32)
    bias = (2 * spread * rng.normal(size=classes)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", [names[0], "weight", "tau"], [names[1]], name="conv", strides=[4, 4])],
        "plain",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["N", classes, "h", "w"])],
        # The bias is called tau: a name that the fold needs for itself.
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "tau")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def statistics(classes: int, seed: int = 0, unseen: tuple[int, ...] = ()) -> ShiftStatistics:
    rows, anchors, seen = oracle.random_statistics(np.random.default_rng(seed), classes)
    seen[list(unseen)] = False
    return ShiftStatistics(tensors(rows), tensors(anchors), torch.tensor(seen), 0.01)


def tensors(mixture: oracle.Mixture) -> Mixture:
    return Mixture(*(torch.tensor(part, dtype=torch.float32) for part in mixture))


def oracle_scores(statistics: ShiftStatistics, logits: np.ndarray, tau: float) -> np.ndarray:
    """Scores by the oracle, [P, C], in float64."""
    rows = tuple(part.double().numpy() for part in statistics.rows)
    anchors = tuple(part.double().numpy() for part in statistics.anchors)
    return log_odds.scores(rows, anchors, statistics.seen.numpy(), logits.astype(np.float64), tau)


def run(model: onnx.ModelProto, image: np.ndarray, **inputs: object) -> dict[str, np.ndarray]:
    """All outputs by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kinds = {"profile": np.int32}
    feeds = {name: np.asarray(value, kinds.get(name, np.float32)) for name, value in inputs.items()}
    feeds["image"] = image
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def pictures(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise, uint8 [N, H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def same_bytes(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    return a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True)


def logits_as_pixels(classes: int) -> onnx.ModelProto:
    """A graph whose logits are its pixels, so that tests choose them."""
    shape = ["n", classes, "a", "b"]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def correction_alone(model: onnx.ModelProto, logits: np.ndarray) -> np.ndarray:
    """Scores of given logits, from the part of a folded graph behind the network."""
    behind = onnx.ModelProto()
    behind.CopyFrom(model)
    start = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Identity")
    wanted = [n for n in model.graph.node[start + 1 :] if "labels" not in n.name]
    del behind.graph.node[:], behind.graph.input[:], behind.graph.output[:], behind.graph.value_info[:]
    behind.graph.node.extend(wanted)
    shape = [None, logits.shape[1], None, None]
    behind.graph.input.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, shape))
    behind.graph.output.extend(o for o in model.graph.output if o.name == "scores")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(behind.SerializeToString(), options)
    return session.run(["scores"], {"y": logits})[0]


def as_rows(maps: np.ndarray) -> np.ndarray:
    """[N, C, h, w] -> [P, C]."""
    return maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1])
