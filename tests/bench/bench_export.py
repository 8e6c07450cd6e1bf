"""What the fold costs: latency of the graph with and without it, against a dense evaluation, and in bytes.

    python tests/bench/bench_export.py            # about two minutes on two cores

MiT-B0 with SegFormer's decoder at 512x1024, and the preset `demo` at the size of the sample streets, both of
random weights: what the correction costs depends on classes and sizes alone. The statistics are those of a
linear classifier on shifted Gaussian features; the tests' deliberately hard random ones are lines without a
target. Logits vary smoothly over the picture, as a decoder's do. What the correction adds is measured on its
part of the graph alone and set against the uncorrected graph: a difference of two long times would drown in a
busy machine's noise. The parts take turns, the fastest of their rounds count, and threads that wait sleep, as
in `serve`: spinning ones would take the cores of the next. Exit code 1 if a number misses its target.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.utils
import onnxruntime
import torch

sys.path.extend(map(str, (Path(__file__).parents[1] / "support").glob("**/")))
sys.path.insert(0, str(Path(__file__).parents[2]))

import onnx_segmenters
from transformers import SegformerConfig, SegformerModel

from adapt.balance.correction import exact_shift
from adapt.balance.histogram import logit_histogram
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics
from adapt.config.settings import load_config
from adapt.model.build import build
from adapt.model.decoders import SegformerDecoder
from adapt.model.encoders import SegformerEncoder
from adapt.model.segmenter import Segmenter
from adapt.synthetic.street import CLASSES
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info
from export.fold.nodes import PREFIX
from export.sources.network import logits_graph
from export.verification.exact import Exactness
from serve.card import Card, Upsampling

SIZE, DEMO_SIZE = (512, 1024), (128, 256)
ROUNDS = 9
DENSE_PART = 16
TAU = 0.2
PROBABLE, PROBABILITIES = Upsampling("probabilities"), PREFIX + "labels_probabilities_of_odds"


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


def smooth_logits(classes: int, size: tuple[int, int], stride: int) -> np.ndarray:
    """[1, C, h, w] at a decoder's stride, alike over about 32 pixels."""
    torch.manual_seed(0)
    coarse = 5 * torch.randn(1, classes, size[0] // 32, size[1] // 32)
    inner = (size[0] // stride, size[1] // stride)
    return torch.nn.functional.interpolate(coarse, inner, mode="bicubic").numpy()


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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


def behind_network(model: onnx.ModelProto, output: str = PREFIX + "labels_channels_last") -> onnx.ModelProto:
    """The nodes from the logits to what is upsampled: in an uncorrected graph, a transposition."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    whole.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    return onnx.utils.Extractor(whole).extract_model(["logits"], [output])


def dense(statistics: ShiftStatistics, logits: np.ndarray) -> torch.Tensor:
    """C x C x K evaluation of the same correction in torch, on 1/DENSE_PART of the pixels."""
    C = logits.shape[1]
    f = torch.from_numpy(logits)[0].flatten(1)[:, ::DENSE_PART].contiguous()
    corrected = f + TAU * exact_shift(statistics, f.expand(C, *f.shape).contiguous())
    own = corrected.diagonal().T.clone()
    corrected.diagonal().fill_(-torch.inf)
    return own - corrected.logsumexp(1)


def dense_seconds(statistics: ShiftStatistics, logits: np.ndarray) -> float:
    start = time.perf_counter()
    dense(statistics, logits)
    return (time.perf_counter() - start) * DENSE_PART


def peak_memory(prepare: Callable[..., Callable[[], object]], *arguments: object) -> int:
    """Bytes that calling what `prepare` returns adds to the peak of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (prepare, arguments))


def _peak(prepare: Callable[..., Callable[[], object]], arguments: tuple[object, ...]) -> int:
    torch.set_num_threads(2)
    work = prepare(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
    before = _resident()
    work()
    return _resident() - before


def _resident() -> int:
    """Bytes at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def opened_part(part: bytes, logits: np.ndarray) -> Callable[[], object]:
    opened = session(onnx.ModelProto.FromString(part))
    return lambda: opened.run(None, {"logits": logits})


def prepared_dense(statistics: ShiftStatistics, logits: np.ndarray) -> Callable[[], object]:
    return lambda: dense(statistics, logits)


class Table:
    """Prints one line per number and counts the missed ones."""

    missed = 0

    def at_most(self, name: str, value: float, limit: float | None, note: str = "") -> None:
        self._row(
            name, value, "" if limit is None else f"<= {limit:g}", limit is None or value <= limit, note
        )

    def at_least(self, name: str, value: float, limit: float, note: str = "") -> None:
        self._row(name, value, f">= {limit:g}", value >= limit, note)

    def _row(self, name: str, value: float, target: str, met: bool, note: str) -> None:
        self.missed += not met
        verdict = ("ok" if met else "MISSED") if target else ""
        print(f"{name:<52} {value:>9.4f}  {target:<9} {verdict:<7}{note}", flush=True)


class Limits:
    """Targets of one network."""

    def __init__(self, fixed: float | None, runtime: float | None = None, whole: float | None = None) -> None:
        self.fixed, self.runtime, self.whole = fixed, runtime, whole


def compare(
    table: Table,
    name: str,
    segmenter: Segmenter,
    size: tuple[int, int],
    kinds: dict[str, tuple[ShiftStatistics, Limits]],
) -> None:
    classes = next(iter(kinds.values()))[0].seen.numel()
    names = tuple(f"class{i}" for i in range(classes))
    stride, output_stride = segmenter.stride, segmenter.output_stride
    colours = ((0, 0, 0),) * classes
    card = Card(names, colours, 255, segmenter.mean, segmenter.std, stride, output_stride, size)
    bare = logits_graph(segmenter)
    plain = fold(bare, card, None)
    network, whole, end = session(bare), session(plain), session(behind_network(plain))
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    pixels = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
    logits = smooth_logits(classes, size, output_stride)
    parts = [
        lambda: network.run(None, {"pixels": pixels}),
        lambda: whole.run(None, {"image": image}),
        lambda: end.run(None, {"logits": logits}),
    ]
    for kind, (statistics, limits) in kinds.items():
        graphs = [fold(bare, card, Strength(statistics, kind, TAU, runtime)) for runtime in (False, True)]
        behind = [session(behind_network(model)) for model in graphs]
        parts[3:] = [lambda s=s: s.run(None, {"logits": logits}) for s in behind]  # type: ignore[misc]
        bare_s, plain_s, end_s, *with_s = fastest(parts)
        fixed_s, runtime_s = (seconds - end_s for seconds in with_s)
        title, ms = f"{name}, {kind}: ", f" of {1000 * plain_s:.0f} ms"
        if limits.fixed is not None:
            made = fold(bare, replace(card, upsampling=PROBABLE), Strength(statistics, kind, TAU))
            ends = [session(behind_network(*part)) for part in ((graphs[0],), (made, PROBABILITIES))]
            times = fastest([lambda s=s: s.run(None, {"logits": logits}) for s in ends])  # type: ignore[misc]
            words, more = "probabilities / scores upsampled", times[1] - times[0]
            limit, note = limits.runtime and 1.01, f"{1000 * more:.1f}" + ms
            table.at_most(title + words, 1 + more / (plain_s + fixed_s), limit, note)
        correction = graph_info(graphs[0], "").correction
        assert correction is not None
        note = f"{1000 * fixed_s:.1f}" + ms
        table.at_most(title + "corrected / uncorrected", 1 + fixed_s / plain_s, limits.fixed, note)
        table.at_most(
            title + "run-time tau / uncorrected",
            1 + runtime_s / plain_s,
            limits.runtime,
            f"{1000 * runtime_s:.1f}" + ms,
        )
        table.at_most(title + "deployable / bare logits", (plain_s + fixed_s) / bare_s, limits.whole)
        if limits.fixed is None:
            continue
        table.at_most(
            title + "growth of the file",
            graphs[0].ByteSize() / plain.ByteSize() - 1,
            0.02 if classes == 19 else None,
        )
        found = session(fold_scores(bare, card, statistics)).run(None, {"logits": logits})[0]
        exact = Exactness(statistics, None).of(torch.from_numpy(logits), TAU).scores.numpy()
        table.at_most(
            title + "|score error|, measured",
            float(np.abs(found - exact).max()),
            0.02,
            f"{correction.error_bound:.3f} proven",
        )
        if classes == 19:
            table.at_least(title + "dense evaluation / ours", dense_seconds(statistics, logits) / fixed_s, 60)
            ours = peak_memory(opened_part, behind_network(graphs[0]).SerializeToString(), logits)
            ours += table_bytes(graphs[0], classes)
            theirs = peak_memory(prepared_dense, statistics, logits) * DENSE_PART
            table.at_most(
                title + "memory, ours / dense",
                ours / theirs,
                0.1,
                f"{ours / 1e6:.0f} of {theirs / 1e6:.0f} MB",
            )


def table_bytes(model: onnx.ModelProto, classes: int) -> int:
    """Of the table that a runtime makes when it opens the file."""
    last = next(t for t in model.graph.initializer if t.name == PREFIX + "bin_n")
    return 4 * classes**2 * (1 + int(onnx.numpy_helper.to_array(last)))


def fold_scores(bare: onnx.ModelProto, card: Card, statistics: ShiftStatistics) -> onnx.ModelProto:
    """The nodes from the logits to the scores."""
    model = fold(bare, card, Strength(statistics, "", TAU), Extras(scores=True))
    return onnx.utils.Extractor(model).extract_model(["logits"], ["scores"])


def main() -> int:
    torch.set_num_threads(2)
    table = Table()
    for classes, limit in ((19, 1.03), (11, 1.02)):
        kinds = {
            "fitted": (fitted_statistics(classes), Limits(limit, 1.06, 1.12)),
            "hard": (onnx_segmenters.statistics(classes, 1), Limits(None)),
        }
        compare(table, f"MiT-B0, {classes} classes", mit_b0(classes), SIZE, kinds)
    torch.manual_seed(0)
    tiny = build(load_config("demo").model, len(CLASSES)).segmenter.eval()
    demo = {"fitted": (fitted_statistics(len(CLASSES)), Limits(1.2))}
    compare(table, f"demo, {len(CLASSES)} classes", tiny, DEMO_SIZE, demo)
    return int(table.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
