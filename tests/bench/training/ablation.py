"""What each part of the balancing contributes, on CamVid day -> dusk. `make ablation` runs it.

Trained: plain self-training (DACS), corrected on the source only, on both domains, and with the density head.
Not trained: the post-hoc correction of the plain one with 1, 3, 5 and 8 components, and with anchors of the
source or the target, pooled over pixels or over classes. Uses and completes what `make camvid` made.
"""

import argparse

import camvid

from adapt.balance.correction import shift_table
from adapt.balance.histogram import Histogram, Pooling
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics
from adapt.balance.posthoc import source_histogram, target_histogram
from adapt.data.datasets import open_target
from adapt.data.domains import open_labelled, open_source
from adapt.evaluation.prediction import evaluate
from adapt.evaluation.scores import Scores
from adapt.run.run import Run, load_run

ONLINE = (*camvid.DACS, *camvid.ONLINE)
TRAINED = {
    "DACS": camvid.METHODS["DACS"],
    "DACS, corrected on the source": (*ONLINE, "method.correct_mixed=false", "method.density_weight=0"),
    "DACS, corrected on both": (*ONLINE, "method.density_weight=0"),
    "DACS, balanced": camvid.METHODS["DACS, balanced"],
    "DACS, balanced, anchors pooled over classes": (*ONLINE, "method.anchor_pooling=classes"),
}
COMPONENTS = (1, 3, 5, 8)
STRENGTHS = (0.2, 1.0)
POOLINGS: tuple[Pooling, ...] = ("pixels", "classes")


def main() -> None:
    options = camvid.arguments()
    seed, out = options.seeds[0], options.out
    lines = [camvid.HEAD]
    for name, method in TRAINED.items():
        run = camvid.folder(name, seed, out)
        camvid.train(run, method, seed, options)
        lines += camvid.rows(name, [camvid.evaluated(run, options.camvid)])
        print("\n".join(lines), flush=True)
    lines += [
        "",
        "| post-hoc on DACS | tau | mIoU | mAcc | std of IoU | sum of abs Bias |",
        "| --- " * 6 + "|",
    ]
    lines += posthoc(load_run(camvid.folder("DACS", seed, out)), options)
    (out / "ablation.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def posthoc(run: Run, options: argparse.Namespace) -> list[str]:
    """Rows for every way to fit the same histograms."""
    data, method = run.config.data, run.config.method
    segmenter = run.segmenter()
    target = open_target(data.target, run.path / "frames", data.frames, data.size)
    rows = target_histogram(segmenter, target, "cpu")
    source = source_histogram(segmenter, open_source(data, run.classes), "cpu")
    dataset = open_labelled(options.camvid / "dusk_eval", run.classes, data.size)

    def fitted(whose: Histogram, pooling: Pooling, components: int) -> ShiftStatistics:
        return fit_shift_statistics(
            rows,
            whose.anchors(pooling),
            components=components,
            min_pixels=method.min_pixels,
            eps=method.eps,
            anchor_bins=whose.bins,
        )

    ways = {f"K = {k}": fitted(source, "pixels", k) for k in COMPONENTS}
    for name, histogram in (("source", source), ("target", rows)):
        for pooling in POOLINGS:
            ways[f"anchors of the {name}, pooled over {pooling}"] = fitted(
                histogram, pooling, method.components
            )
    lines = []
    for name, statistics in ways.items():
        scores = evaluate(segmenter, dataset, len(run.classes), shift_table(statistics), STRENGTHS)
        lines += [row(name, tau, score) for tau, score in scores.items()]
        print("\n".join(lines[-len(scores) :]), flush=True)
    return lines


def row(name: str, tau: float, score: Scores) -> str:
    shares = (score.mean_iou, score.mean_accuracy, score.std_iou)
    cells = [f"{100 * share:.1f}" for share in shares] + [f"{score.sum_abs_bias:.3f}"]
    return f"| {name} | {tau:g} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
