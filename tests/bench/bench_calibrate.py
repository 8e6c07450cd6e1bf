"""What source-free calibration gains on a model that our exporter never saw, beside plain logit adjustment.

    python tests/bench/bench_calibrate.py --camvid ../shared/data/camvid --run evidence/dusk/source-0
    python tests/bench/bench_calibrate.py --run RUN --target UNLABELLED --labelled LABELLED

The run's network is exported by plain torch code, once at the decoder's stride and once with its own
upsampling, calibrated on UNLABELLED by `export calibrate`, folded by `export onnx --stats`, and scored on
LABELLED, whose labels nothing else sees. With --camvid (day, dusk and dusk_eval, of which `make evidence`
makes such a run) these are its dusk frames, and the gains wanted there count. Without --run, sample streets
are made and a source-only network is trained on them (minutes). Exit code 1 if the default strength loses
mIoU on a model, or if calibrating takes 1.5 times the CPU time of running the model; with --least-gain also
if it gains less.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.balance.bins import extent_of, fresh
from adapt.balance.correction import posthoc_scores, shift_table
from adapt.balance.histogram import Histogram, Pooling, logit_histogram
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics
from adapt.data.datasets import LabelledFolder, UnlabelledFolder
from adapt.data.domains import open_labelled
from adapt.evaluation.scores import Scores, confusion_matrix
from adapt.model.segmenter import Segmenter
from adapt.run.run import Run, load_run
from export.foreign.convention import Told
from export.foreign.network import Network, open_network
from export.statistics.gather import (
    EM_STEPS,
    MIN_PIXELS,
    balanced_labels,
    gather,
    kept_logits,
    logits_inside,
)
from serve import Segmenter as Deployed

TAUS = (0.2, 0.5, 1.0)
ADJUSTMENTS = (0.1, 0.2, 0.5)
MOST_TIME = 1.5
WANTED_ON_CAMVID = (1.0, 4.0)
"""Points of mIoU at the default strength, and of mAcc at 1."""
TURNS = 3
HEAD = (
    "| model | labels of the target | strength | mIoU | mAcc | sum of abs Bias |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


class Upsampled(nn.Module):
    """What many exported models are: logits at the size of the picture."""

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        scale = float(self.network.output_stride)
        return F.interpolate(self.network(pixels), scale_factor=scale, mode="bilinear", align_corners=False)


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    run = load_run(options.run or _sample(options))
    size = run.config.data.size
    labelled = open_labelled(options.labelled, run.classes, size)
    target = UnlabelledFolder(options.target, size)
    segmenter = run.segmenter()
    told = Told(size=size, mean=segmenter.mean, std=segmenter.std)
    stride = segmenter.output_stride
    lines, failures = [HEAD], []
    for name, module in (
        (f"logits at stride {stride}", segmenter),
        ("upsampled inside", Upsampled(segmenter)),
    ):
        path = options.out / f"{name.replace(' ', '-')}.onnx"
        plain_export(module, segmenter.stride, path)
        network = open_network(path, told, None)
        file = _deployed(path, told, options)
        rows = {"uncorrected": _of_file(file, labelled, 0.0)}
        rows |= {f"balanced (default) | {tau:g}": _of_file(file, labelled, tau) for tau in TAUS}
        if module is segmenter:
            rows |= variants(network, target, labelled, options.source and _source(options, run))
            ratio = time_ratio(network, target)
            print(f"calibrating takes {ratio:.2f} times the CPU time of running the model", file=sys.stderr)
            failures += [f"calibrating takes {ratio:.2f} times as long"] * (ratio > MOST_TIME)
        lines += [_row(name, title, scores) for title, scores in rows.items()]
        failures += _missed(name, rows, options.least_gain)
    print("\n".join(lines))
    (options.out / "table.md").write_text("\n".join(lines) + "\n")
    sys.exit("\n".join(failures) if failures else 0)


def plain_export(module: nn.Module, stride: int, path: Path) -> None:
    """As anybody would export a network."""
    axes = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
    torch.onnx.export(
        module.eval(),
        (torch.zeros(2, 3, 4 * stride, 5 * stride),),
        path,
        dynamo=True,
        opset_version=18,
        external_data=False,
        dynamic_shapes=(axes,),
        verbose=False,
    )


def variants(
    network: Network, target: UnlabelledFolder, labelled: LabelledFolder, source: LabelledFolder | None
) -> dict[str, Scores]:
    """Other ways to label and to pool, and logit adjustment, all on the same cached logits."""
    samples = [labelled[index] for index in range(len(labelled))]
    seen = [(logits_inside(network, sample.image), sample.labels) for sample in samples]
    scale = network.outlet.output_stride

    def scored(correct: Callable[[Tensor], Tensor]) -> Scores:
        C = network.outlet.classes
        confusion = np.zeros((C, C), np.int64)
        for logits, truth in seen:
            scores = correct(torch.from_numpy(logits)[None])
            full = F.interpolate(scores, scale_factor=scale, mode="bilinear", align_corners=False)[0]
            height, width = truth.shape
            confusion += confusion_matrix(truth, full[:, :height, :width].argmax(0).byte().numpy(), C)
        return Scores.from_confusion(confusion)

    kept = kept_logits(network, target).logits
    plain, balanced = kept.argmax(1), balanced_labels(kept)
    share = torch.bincount(plain.flatten(), minlength=network.outlet.classes).clamp_min(1) / plain.numel()
    offset = share.log().view(1, -1, 1, 1)
    rows = {f"logit adjustment | {t:g}": scored(lambda f, t=t: f - t * offset) for t in ADJUSTMENTS}
    bins = fresh(extent_of(kept, torch.ones_like(plain, dtype=torch.bool)))
    by_plain, by_balanced = (logit_histogram(kept, labels, bins=bins) for labels in (plain, balanced))
    found = {
        "plain argmax": fit(by_plain, "classes"),
        "plain, anchors pooled over pixels": fit(by_plain, "pixels"),
        "balanced, anchors pooled over pixels": fit(by_balanced, "pixels"),
        "balanced, 2 rounds": gather(network, target, None, 2).statistics,
    }
    if source is not None:
        found["balanced, anchors of the source"] = gather(network, target, source).statistics
    for title, statistics in found.items():
        table = shift_table(statistics)
        rows |= {
            f"{title} | {tau:g}": scored(lambda f, tau=tau, table=table: posthoc_scores(f, table, tau))
            for tau in TAUS
        }
    return rows


def fit(rows: Histogram, pooling: Pooling) -> ShiftStatistics:
    """Statistics with anchors of one pooling or the other."""
    return fit_shift_statistics(
        rows, rows.anchors(pooling, MIN_PIXELS), min_pixels=MIN_PIXELS, steps=EM_STEPS
    )


def time_ratio(network: Network, target: UnlabelledFolder) -> float:
    """CPU time of calibrating over that of running the model on the same pictures, in the best of turns."""

    def seconds(work: Callable[[], object]) -> float:
        begin = time.process_time()
        work()
        return time.process_time() - begin

    def run() -> None:
        for index in range(len(target)):
            network.logits(target[index][None])

    turns = [(seconds(run), seconds(lambda: gather(network, target, None))) for _ in range(TURNS)]
    running, calibrating = (min(times) for times in zip(*turns, strict=True))
    return calibrating / running


def _deployed(path: Path, told: Told, options: argparse.Namespace) -> Path:
    """Calibrate and fold by the commands that people type."""
    statistics, file = path.with_suffix(".safetensors"), path.with_name(path.stem + "-corrected.onnx")
    size = () if told.size is None else ("--size", f"{told.size[0]}x{told.size[1]}")
    pixels = ("--mean", ",".join(map(str, told.mean or ())), "--std", ",".join(map(str, told.std or ())))
    _call(
        "export", "calibrate", path, "--target", options.target, *size, *pixels, "-o", statistics, "--force"
    )
    _call("export", "onnx", path, "--stats", statistics, "--runtime-tau", "-o", file, "--force")
    return file


def _of_file(file: Path, labelled: LabelledFolder, tau: float) -> Scores:
    model = Deployed(file)
    C = len(model.card.classes)
    confusion = np.zeros((C, C), np.int64)
    for index in range(len(labelled)):
        image, truth = labelled[index]
        confusion += confusion_matrix(truth, model(image, tau).labels, C)
    return Scores.from_confusion(confusion)


def _row(model: str, title: str, scores: Scores) -> str:
    labels, _, strength = title.partition(" | ")
    cells = (
        f"{100 * scores.mean_iou:.1f}",
        f"{100 * scores.mean_accuracy:.1f}",
        f"{scores.sum_abs_bias:.3f}",
    )
    return f"| {model} | {labels} | {strength} | {' | '.join(cells)} |"


def _missed(name: str, rows: dict[str, Scores], least: tuple[float, float]) -> list[str]:
    before, low, high = (
        rows[k] for k in ("uncorrected", "balanced (default) | 0.5", "balanced (default) | 1")
    )
    gains = 100 * (low.mean_iou - before.mean_iou), 100 * (high.mean_accuracy - before.mean_accuracy)
    words = ("mIoU at tau 0.5, the default", "mAcc at tau 1")
    return [
        f"{name}: {word} changes by {gain:+.1f}, not by {bound:+g}"
        for word, gain, bound in zip(words, gains, least, strict=True)
        if gain < bound
    ]


def _source(options: argparse.Namespace, run: Run) -> LabelledFolder:
    return open_labelled(options.source, run.classes, run.config.data.size)


def _sample(options: argparse.Namespace) -> Path:
    """A source-only network on the sample streets, made once."""
    data, run = options.out / "data", options.out / "run"
    if not (run / "card.json").exists():
        _call("adapt", "sample-data", data, "--force")
        train = (
            "train",
            "--preset",
            "demo",
            "--source",
            data / "source",
            "--target",
            data / "target",
            "--force",
        )
        _call("adapt", *train, "--set", "method.host=source", "--set", "method.balance=off", "-o", run)
    options.target, options.labelled = data / "target", data / "target_eval"
    return run


def _call(*words: object) -> None:
    subprocess.run([sys.executable, "-m", *map(str, words)], check=True, stdout=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="run folder [default: trained on sample streets]")
    parser.add_argument("--target", type=Path, help="unlabelled pictures")
    parser.add_argument("--labelled", type=Path, help="labelled pictures of the target, for scoring only")
    parser.add_argument("--source", type=Path, help="labelled source, to compare its anchors")
    parser.add_argument("--out", type=Path, default=Path("bench/calibrate"))
    parser.add_argument(
        "--least-gain", type=float, nargs=2, default=(0.0, 0.0), metavar=("MIOU", "MACC"), help="in points"
    )
    parser.add_argument("--camvid", type=Path, help="its folder, with day, dusk and dusk_eval")
    options = parser.parse_args()
    if options.camvid:
        folders = [options.camvid / name for name in ("day", "dusk", "dusk_eval")]
        if not options.run or not all(folder.is_dir() for folder in folders):
            parser.error(
                "--camvid needs a folder with day, dusk and dusk_eval, and the --run of `make evidence`"
            )
        options.source, options.target, options.labelled = folders
        options.least_gain = WANTED_ON_CAMVID
    if options.run and not (options.target and options.labelled):
        parser.error("--run needs --target and --labelled")
    return options


if __name__ == "__main__":
    main()
