"""What the fold costs: latency of the graph with and without it, against a dense evaluation, and in bytes.

    python tests/bench/bench_export.py            # about two minutes on two cores

MiT-B0 with SegFormer's decoder at 512x1024, ONNX Runtime on two threads. Statistics are those of a linear
classifier on shifted Gaussian features, and the tests' deliberately hard random ones. The candidates of a ratio
take turns within one run, and medians are compared, so that a busy machine slows both alike. Exit code 1 if a
ratio misses its target.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import onnx_segmenters
from transformers import SegformerConfig, SegformerModel

from adapt.correction import exact_shift
from adapt.logit_statistics import ShiftStatistics, fit_shift_statistics, logit_histogram
from adapt.segmenter import SegformerDecoder, SegformerEncoder, Segmenter
from export.fold import Extras, Strength, fold, graph_info, unfold
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


def medians(candidates: list[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """Seconds of each candidate; they take turns."""
    spent: list[list[float]] = [[] for _ in candidates]
    for _ in range(rounds + 1):
        for position, candidate in enumerate(candidates):
            start = time.perf_counter()
            candidate()
            spent[position].append(time.perf_counter() - start)
    return [float(np.median(times[1:])) for times in spent]


def dense_seconds(statistics: ShiftStatistics, logits: torch.Tensor, part: int = 16) -> float:
    """C x C x K evaluation of the same correction in torch, on 1/part of the pixels, scaled up."""
    C = logits.shape[1]
    f = logits[0].flatten(1)[:, ::part].contiguous()
    start = time.perf_counter()
    corrected = f + 0.2 * exact_shift(statistics, f.expand(C, *f.shape).contiguous())
    corrected.diagonal().T - corrected.logsumexp(1)
    return (time.perf_counter() - start) * part


def main() -> int:
    torch.set_num_threads(2)
    image = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    missed = 0

    def row(name: str, value: float, limit: float, least: bool = False, note: str = "") -> None:
        nonlocal missed
        fine = value >= limit if least else value <= limit
        missed += not fine
        print(
            f"{name:<58} {value:>8.3f}  {'>=' if least else '<='} {limit:<6g} {'ok' if fine else 'MISSED'} {note}"
        )

    for classes in (19, 11):
        segmenter = mit_b0(classes)
        names = tuple(f"class{i}" for i in range(classes))
        card = Card(names, ((0, 0, 0),) * classes, 255, segmenter.mean, segmenter.std, 32, 4)
        bare = logits_graph(segmenter)
        plain = fold(bare, card, None)
        pixels = np.random.default_rng(0).normal(size=(1, 3, HEIGHT, WIDTH)).astype(np.float32)
        for kind, statistics in (
            ("fitted", fitted_statistics(classes)),
            ("hard", onnx_segmenters.statistics(classes, 1)),
        ):
            fixed = fold(bare, card, Strength(statistics, kind))
            runtime = fold(bare, card, Strength(statistics, kind, runtime=True), Extras())
            runs = [session(m) for m in (plain, fixed, runtime)]
            bare_run = session(unfold(fixed))
            seconds = medians(
                [
                    *(lambda r=r: r.run(None, {"image": image}) for r in runs),
                    lambda: bare_run.run(None, {"pixels": pixels}),
                ]
            )
            knots = graph_info(fixed, "").correction.knots  # type: ignore[union-attr]
            runtime_knots = graph_info(runtime, "").correction.knots  # type: ignore[union-attr]
            title = f"{classes} classes, {kind} statistics: "
            row(title + "corrected / uncorrected", seconds[1] / seconds[0], 1.06, note=f"({knots} knots)")
            row(
                title + "run-time tau / uncorrected",
                seconds[2] / seconds[0],
                1.06,
                note=f"({runtime_knots} knots)",
            )
            row(title + "deployable / bare logits", seconds[1] / seconds[3], 1.12)
            growth = (fixed.ByteSize() - plain.ByteSize()) / plain.ByteSize()
            row(title + "growth of the file", growth, 0.02)
            if kind == "fitted" and classes == 19:
                logits = torch.from_numpy(bare_run.run(None, {"pixels": pixels})[0])
                ours = max(seconds[1] - seconds[0], 1e-3)
                row("dense evaluation / ours", dense_seconds(statistics, logits) / ours, 60, least=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
