"""What a GPU computes against the CPU: statistics, shifts, labels; and what the fold costs there."""

import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_report import Report
from gpu_sizes import Sizes, run
from gpu_training import autocast, data_in, trained
from torch import Tensor

from adapt.balance.correction import exact_shift, posthoc_scores, shift_table
from adapt.balance.histogram import bin_centres, logit_histogram
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics
from adapt.balance.losses import shift_of_labels
from adapt.balance.mixtures import cdf
from adapt.balance.online import Balance
from adapt.config.settings import Config, Encoder, Model
from adapt.errors import InputError
from adapt.model.build import build
from adapt.model.device import check_precision
from adapt.model.segmenter import Segmenter, labels_from_scores
from adapt.run.run import load_run, new_statistics
from serve.media.images import read_image

TAU = 0.2
SHIFT = 0.01
"""Most that a shift may be off, in logits: half of what the exported correction may be (0.02)."""
LEVEL = 0.005
"""Most that a distribution function may be off: half of the tail quantile eps."""
FOLD = 1.03
SAME = 0.999
"""Share of labels that are to be the same in full precision; near-ties may fall either way."""
BUILD_SECONDS = 150


def measure_statistics(report: Report, device: torch.device, sizes: Sizes) -> None:
    """Counts, running mixtures and shifts of the same logits, on the device and on the CPU."""
    C, side = sizes.classes, sizes.side // 4
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        logits, labels = clustered(C, side)
        logits = logits.to(dtype)
        own, there = logit_histogram(logits, labels), logit_histogram(logits.to(device), labels.to(device))
        same = torch.equal(own.counts, there.counts.cpu()) and int(own.outside) == int(there.outside)
        note = f"{int(own.counts.sum())} counts, {int(own.outside)} of them beyond the range"
        report.check(f"histogram of the same {precision} logits: equal integers", same, note)
    logits, labels = clustered(C, side)
    running = [
        Balance(new_statistics(Config(), C).to(place), lambda tensor: tensor, 1) for place in ("cpu", device)
    ]
    for number in range(5):  # from the third on, a GPU replays its kernels
        for balance in running:
            place = balance.statistics.iteration.device
            for take, scale in ((balance.take_source, 1.0), (balance.take_target, 0.9)):
                take((scale + 0.01 * number) * logits.to(place), labels.to(place))
    grid = bin_centres(dtype=torch.float64)
    worst = 0.0
    for domain in ("source", "target"):
        both = (balance.statistics.shift_statistics(domain).to(torch.device("cpu")) for balance in running)
        curves = [cdf(each.rows.to(torch.float64), grid.expand(C, C, -1)) for each in both]
        worst = max(worst, float((curves[0] - curves[1]).abs().max()))
    # A mean may move where nothing depends on it (two components that overlap); the distribution may not.
    report.number("running distributions after 5 updates: largest difference", worst, "", at_most=LEVEL)
    _measure_shift(report, device, logits, labels)


def _measure_shift(report: Report, device: torch.device, logits: Tensor, labels: Tensor) -> None:
    """Shifts in float32 on the device against exact ones in float64 on the CPU, on some of the pixels."""
    histogram = logit_histogram(logits, labels)
    fitted = fit_shift_statistics(logit_histogram(0.9 * logits + 0.3, labels), histogram.anchors())
    table = shift_table(fitted.to(device))
    points = torch.arange(table.shift.shape[2], device=device)
    grid = (table.lower.unsqueeze(-1) + table.step.unsqueeze(-1) * points).double().cpu()
    error = float((exact_shift(fitted, grid) - table.shift.double().cpu()).abs().max())
    report.number("table of shifts: largest difference to float64", error, "logits", at_most=SHIFT)

    some, own = logits[:1, :, :16, :16].contiguous(), labels[:1, :16, :16].clamp_max(logits.shape[1] - 1)
    delta, scores = exact(fitted, some)
    looked_up = shift_of_labels(table, some.to(device), own.to(device)).cpu().double()
    wanted = delta.gather(0, own.view(1, 1, -1).expand(1, len(delta), -1))[0].view(looked_up.shape)
    error = float((looked_up - wanted).abs().max())
    report.number("shift of a pixel's label: largest difference to float64", error, "logits", at_most=SHIFT)
    corrected = posthoc_scores(some.to(device), table, TAU).cpu().double()
    error = float((corrected - scores.view(corrected.shape)).abs().max())
    report.number("corrected scores: largest difference to float64", error, "logits", at_most=SHIFT)


def exact(fitted: ShiftStatistics, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Of logits [1, C, h, w]: Delta [C, C, P] and corrected scores [C, P], all in float64 on the CPU."""
    C = logits.shape[1]
    f = logits[0].flatten(1).double()
    delta = exact_shift(fitted, f.expand(C, *f.shape).contiguous())
    corrected = f + TAU * delta
    own = corrected.diagonal().T.clone()
    corrected.diagonal().fill_(-torch.inf)
    return delta, own - corrected.logsumexp(1)


def clustered(classes: int, side: int) -> tuple[Tensor, Tensor]:
    """Logits [2, C, side, side] that know their labels a little; some lie beyond the histogram's range."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes + 1, (2, side, side), generator=g)
    labels[labels == classes] = 255
    logits = 1.5 * torch.randn(2, classes, side, side, generator=g)
    logits += 4 * torch.nn.functional.one_hot(labels.clamp_max(classes - 1), classes).permute(0, 3, 1, 2)
    logits[:, :, 0, ::4] *= 20
    return logits, labels


# ---- the corrected network ------------------------------------------------------------------------------


def share_equal(left: np.ndarray | Tensor, right: np.ndarray | Tensor) -> float:
    """Share of pixels with the same label."""
    return float((np.asarray(left) == np.asarray(right)).mean())


@torch.inference_mode()
def corrected_labels(
    segmenter: Segmenter, fitted: ShiftStatistics, picture: np.ndarray, device: torch.device, precision: str
) -> Tensor:
    """Labels [H, W] of one picture, the network in this precision, the correction in float32 as always."""
    images = torch.from_numpy(picture).unsqueeze(0).to(device)
    with autocast(device, precision):
        logits = segmenter.logits(images)
    scores = posthoc_scores(logits.float(), shift_table(fitted.to(device)), TAU)
    return labels_from_scores(scores, segmenter.output_stride, *picture.shape[:2])[0].cpu()


def measure_labels(report: Report, work: Path, device: torch.device, sizes: Sizes) -> None:
    """The corrected network's labels on the device against those in fp32 on the CPU."""
    opened = load_run(trained(work, sizes))
    segmenter, fitted = opened.segmenter(), opened.shift_statistics()
    paths = sorted((data_in(work, sizes) / "target_eval" / "images").iterdir())[: sizes.pictures]
    pictures = [read_image(path) for path in paths]
    cpu = torch.device("cpu")
    wanted = [corrected_labels(segmenter, fitted, picture, cpu, "fp32") for picture in pictures]
    segmenter.to(device)
    tf32 = torch.backends.cudnn.allow_tf32
    for precision in ("strict fp32", *sizes.precisions):
        title = f"corrected labels in {precision}: the CPU's"
        torch.backends.cudnn.allow_tf32 = tf32 and precision != "strict fp32"
        try:
            check_precision(precision, device)
            found = [corrected_labels(segmenter, fitted, p, device, precision) for p in pictures]
            share = statistics.mean(map(share_equal, wanted, found))
            strict = "strict" in precision
            note = "without TF32" if strict else f"{len(pictures)} pictures, PyTorch's own TF32 setting"
            report.number(title, share, at_least=SAME if strict else None, note=note)
        except InputError as error:
            report.skipped(title, str(error))
        except Exception as error:
            report.failed(title, error)
    torch.backends.cudnn.allow_tf32 = tf32


# ---- exported graphs ------------------------------------------------------------------------------------


def graphs(work: Path, sizes: Sizes) -> tuple[Path, Path]:
    """The plain and the corrected ONNX graph of one network with random weights, made once."""
    import onnx
    from bench_export import fitted_statistics

    from export.fold.fold import Strength, fold
    from export.sources.network import logits_graph
    from serve.card import Card

    plain, corrected = work / "plain.onnx", work / "corrected.onnx"
    if not corrected.exists():
        torch.manual_seed(0)
        encoder = Encoder(config=next(iter(sizes.encoders.values())))
        built = build(
            Model(encoder=encoder, decoder="segformer", width=sizes.width), sizes.classes
        ).segmenter.eval()
        names = tuple(f"class{number}" for number in range(sizes.classes))
        colours = ((0, 0, 0),) * sizes.classes
        strides = built.stride, built.output_stride
        card = Card(names, colours, 255, built.mean, built.std, *strides, sizes.picture)
        bare = logits_graph(built)
        onnx.save(fold(bare, card, None), plain)
        strength = Strength(fitted_statistics(sizes.classes), "random weights", TAU, False)
        onnx.save(fold(bare, card, strength), corrected)
    return plain, corrected


def fold_ratio(plain: Callable[[], object], corrected: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of both, medians of runs in turns, and the median of the ratios of neighbours."""
    spent: list[list[float]] = [[], []]
    for number in range(rounds + 5):
        for place, work in enumerate((plain, corrected)):
            started = time.perf_counter()
            work()
            if number >= 5:
                spent[place].append(time.perf_counter() - started)
    ratio = statistics.median(b / a for a, b in zip(*spent, strict=True))
    return [*map(statistics.median, spent), ratio]


def _compare(report: Report, title: str, runtimes: list[Any], cpu: Any, sizes: Sizes) -> None:
    """Rows on a plain and a corrected graph that are open on a GPU, against the corrected one on the CPU."""
    image = np.random.default_rng(0).integers(0, 256, (1, *sizes.picture, 3), dtype=np.uint8)
    calls = [lambda r=r: r.run(["labels"], {"image": image}) for r in runtimes]
    share = share_equal(calls[1]()[0], cpu.run(["labels"], {"image": image})[0])
    report.number(f"{title}: labels equal to the CPU provider's", share, note="of noise, random weights")
    plain, corrected, ratio = fold_ratio(calls[0], calls[1], sizes.rounds)
    size = f"{sizes.picture[1]}x{sizes.picture[0]}, {sizes.classes} classes, copies to and fro included"
    report.number(f"{title}: plain graph", 1000 * plain, "ms", note=size)
    report.number(f"{title}: corrected graph", 1000 * corrected, "ms")
    report.number(f"{title}: corrected / plain", ratio, at_most=FOLD)


def measure_onnx(report: Report, work: Path, sizes: Sizes, provider: Any = "cuda") -> None:
    """The exported graph on ONNX Runtime's CUDA provider."""
    title = f"ONNX Runtime, {provider}"
    if importlib.util.find_spec("onnxruntime") is None:
        report.skipped(title, "onnxruntime is not installed")
        return
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if f"{provider.upper()}ExecutionProvider" not in available:
        report.skipped(title, f"this build of onnxruntime has {', '.join(available)}; onnxruntime-gpu has it")
        return
    from serve.inference.opening import open_runtime

    plain, corrected = graphs(work, sizes)
    opened = [open_runtime(path, provider) for path in (plain, corrected)]
    _compare(report, title, opened, open_runtime(corrected, "cpu"), sizes)


def measure_tensorrt(report: Report, work: Path, device: torch.device, sizes: Sizes) -> None:
    """Engines built, verified and run by the project's own commands."""
    library = next((n for n in ("tensorrt", "tensorrt_rtx") if importlib.util.find_spec(n)), None)
    if device.type != "cuda":
        report.skipped("TensorRT", "engines run on NVIDIA GPUs only")
        return
    for name, found in (("tensorrt or tensorrt_rtx", library), ("cuda-bindings", _has_cuda_bindings())):
        if not found:
            report.skipped("TensorRT", f"{name} is not installed")
            return
    from serve.inference.engine import open_engine
    from serve.inference.opening import open_runtime

    engines = []
    for graph in graphs(work, sizes):
        engine = graph.with_suffix(".engine")
        rtx = ["--rtx"] if library == "tensorrt_rtx" else []
        words = ["-m", "export", "tensorrt", str(graph), "-o", str(engine), *rtx]
        started = time.perf_counter()
        run(words, graph.with_suffix(".build.log"), BUILD_SECONDS)
        report.number(f"{library}: {graph.stem} engine built in", time.perf_counter() - started, "s")
        words = ["-m", "export", "verify", str(engine), "--against", str(graph)]
        try:
            run(words, graph.with_suffix(".verify.log"), BUILD_SECONDS)
            report.check(f"{library}: {graph.stem} engine verified", True)
        except RuntimeError as error:
            report.failed(f"{library}: {graph.stem} engine verified", error)
        engines.append(open_engine(engine))
    _compare(report, str(library), engines, open_runtime(work / "corrected.onnx", "cpu"), sizes)


def _has_cuda_bindings() -> bool:
    try:
        return importlib.util.find_spec("cuda.bindings.runtime") is not None
    except ImportError:
        return False
