"""What the fold costs: latency of the graph with and without it, against a dense evaluation, and in bytes.

    python tests/bench/bench_export.py            # about two minutes on two cores

MiT-B0 with SegFormer's decoder at 512x1024, ONNX Runtime on two threads. Statistics are those of a linear
classifier on shifted Gaussian features, and the tests' deliberately hard random ones. What the correction
adds is measured on its part of the graph alone and set against the uncorrected graph: a difference of two
long times would drown in a busy machine's noise. The parts take turns, and the fastest of their rounds count.
Exit code 1 if a ratio misses its target.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import onnx_segmenters
from transformers import SegformerConfig, SegformerModel

from adapt.correction import exact_shift
from adapt.decoders import SegformerDecoder
from adapt.encoders import SegformerEncoder
from adapt.logit_statistics import ShiftStatistics, fit_shift_statistics, logit_histogram
from adapt.segmenter import Segmenter
from export.fold import Extras, Strength, fold, graph_info
from export.graph import logits_graph
from serve.card import Card

HEIGHT, WIDTH = 512, 1024
ROUNDS = 9


def mit_b0(classes: int) -> Segmenter:
    torch.manual_seed(0)
    encoder = SegformerEncoder(SegformerModel(SegformerConfig()))
    return Segmenter(encoder, SegformerDecoder(encoder.channels, encoder.strides, 256), 256, classes).eval()


def fitted_statistics(classes: int, pixels: int = 40_000) -> ShiftStatistics:
    """Of a linear classifier trained on Gaussian features of unequal frequency, run on shifted ones."""
    g = torch.Generator().manual_seed(0)
    centres = 1.3 * torch.randn(classes, 16, generator=g)
    share = torch.softmax(1.2 * torch.randn(classes, generator=g), 0)
    labels = torch.multinomial(share, pixels, True, generator=g)
    features = centres[labels] + torch.randn(pixels, 16, generator=g)
    torch.manual_seed(0)
    classify = torch.nn.Linear(16, classes)
    optimizer = torch.optim.Adam(classify.parameters(), 1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(classify(features), labels).backward()
        optimizer.step()
    with torch.no_grad():
        source, target = (classify(x).T.reshape(1, classes, 1, -1) for x in (features, 1.1 * features + 0.2))
    anchors = logit_histogram(source, labels.view(1, 1, -1)).anchors()
    return fit_shift_statistics(logit_histogram(target, target.argmax(1)), anchors)


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def fastest(candidates: list[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """Seconds of each candidate; they take turns."""
    spent: list[list[float]] = [[] for _ in candidates]
    for _ in range(rounds + 1):
        for position, candidate in enumerate(candidates):
            start = time.perf_counter()
            candidate()
            spent[position].append(time.perf_counter() - start)
    return [min(times[1:]) for times in spent]


def dense_seconds(statistics: ShiftStatistics, logits: torch.Tensor, part: int = 16) -> float:
    """C x C x K evaluation of the same correction in torch, on 1/part of the pixels, scaled up."""
    C = logits.shape[1]
    f = logits[0].flatten(1)[:, ::part].contiguous()
    start = time.perf_counter()
    corrected = f + 0.2 * exact_shift(statistics, f.expand(C, *f.shape).contiguous())
    corrected.diagonal().T - corrected.logsumexp(1)
    return (time.perf_counter() - start) * part


def correction_alone(model: onnx.ModelProto) -> Callable[[], object]:
    """Runs the nodes between the logits and the scores on random logits of the benchmark's size."""
    part = onnx.utils.Extractor(model).extract_model(["logits"], ["scores"])
    channels = part.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    logits = np.random.default_rng(0).normal(0, 5, (1, channels, HEIGHT // 4, WIDTH // 4)).astype(np.float32)
    opened = session(part)
    return lambda: opened.run(None, {"logits": logits})


class Table:
    """Prints one line per number and counts the missed ones."""

    missed = 0

    def at_most(self, name: str, value: float, limit: float, note: str = "") -> None:
        self._row(name, value, f"<= {limit:g}", value <= limit, note)

    def at_least(self, name: str, value: float, limit: float, note: str = "") -> None:
        self._row(name, value, f">= {limit:g}", value >= limit, note)

    def _row(self, name: str, value: float, target: str, met: bool, note: str) -> None:
        self.missed += not met
        print(f"{name:<52} {value:>8.3f}  {target:<8} {'ok' if met else 'MISSED':<7}{note}", flush=True)


def compare(table: Table, classes: int) -> None:
    segmenter = mit_b0(classes)
    names = tuple(f"class{i}" for i in range(classes))
    card = Card(names, ((0, 0, 0),) * classes, 255, segmenter.mean, segmenter.std, 32, 4, (HEIGHT, WIDTH))
    bare = logits_graph(segmenter)
    plain = fold(bare, card, None)
    network, whole = session(bare), session(plain)
    image = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels = np.random.default_rng(0).normal(size=(1, 3, HEIGHT, WIDTH)).astype(np.float32)
    parts = [lambda: network.run(None, {"pixels": pixels}), lambda: whole.run(None, {"image": image})]
    for kind, statistics in (
        ("fitted", fitted_statistics(classes)),
        ("hard", onnx_segmenters.statistics(classes, 1)),
    ):
        fixed = fold(bare, card, Strength(statistics, kind), Extras(scores=True))
        runtime = fold(bare, card, Strength(statistics, kind, runtime=True), Extras(scores=True))
        parts[2:] = [correction_alone(fixed), correction_alone(runtime)]
        bare_s, plain_s, fixed_s, runtime_s = fastest(parts)
        title = f"{classes} classes, {kind}: "
        notes = [
            f"{graph_info(m, '').correction.knots} knots, {1000 * s:.1f} of {1000 * plain_s:.0f} ms"  # type: ignore[union-attr]
            for m, s in ((fixed, fixed_s), (runtime, runtime_s))
        ]
        table.at_most(title + "corrected / uncorrected", 1 + fixed_s / plain_s, 1.06, notes[0])
        table.at_most(title + "run-time tau / uncorrected", 1 + runtime_s / plain_s, 1.06, notes[1])
        table.at_most(title + "deployable / bare logits", (plain_s + fixed_s) / bare_s, 1.12)
        table.at_most(title + "growth of the file", fixed.ByteSize() / plain.ByteSize() - 1, 0.02)
        logits = torch.randn(1, classes, HEIGHT // 4, WIDTH // 4) * 5
        table.at_least(title + "dense evaluation / ours", dense_seconds(statistics, logits) / fixed_s, 60)


def main() -> int:
    torch.set_num_threads(2)
    table = Table()
    for classes in (19, 11):
        compare(table, classes)
    return int(table.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
