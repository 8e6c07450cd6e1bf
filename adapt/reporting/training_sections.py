"""The report's sections on the training: curves, scores over time, logits and pictures from the album."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.balance.mixtures import Mixture, pdf, quantile
from adapt.reporting.charts import Line, line_chart
from adapt.reporting.page import Section, figure, grid, keys, paragraph, photograph, table
from adapt.reporting.pictures import class_densities
from adapt.run.run import Run
from adapt.training.album import Moment
from adapt.training.journal import EVALUATIONS, METRICS, read_lines
from adapt.training.optimisation import learning_rate_factor
from serve.media.images import read_image

POINTS = 60
"""Points of a density curve."""
NAMES = {
    "source": "source: cross-entropy",
    "mixed": "mixed: cross-entropy",
    "masked": "masked: cross-entropy",
    "source_density": "source: density",
    "mixed_density": "mixed: density",
    "feature_distance": "feature distance",
    "confident": "share of confident pseudo-labels",
}


def losses(run: Run) -> Iterator[Section]:
    lines = read_lines(run.path / METRICS)
    if not lines:
        return
    at = [line["iteration"] for line in lines]
    rate, training = lines[-1]["iterations_per_second"], run.config.training
    factors = [learning_rate_factor(iteration - 1, training) for iteration in at]
    names = [name for name in lines[-1] if name not in ("iteration", "iterations_per_second")]
    charts = [
        _curve(at, [line.get(name, float("nan")) for line in lines], NAMES.get(name, name)) for name in names
    ]
    rates = [
        Line("encoder", at, [training.encoder_lr * factor for factor in factors], 0),
        Line("decoder", at, [training.decoder_lr * factor for factor in factors], 1),
    ]
    chart = line_chart(rates, "Learning rates over iterations")
    charts.append(figure(chart + keys([("encoder", 0), ("decoder", 1)]), "", "learning rates"))
    charts.append(_curve(at, [line["iterations_per_second"] for line in lines], "iterations per second"))
    pictures = 2 * training.batch * training.accumulate
    words = (
        f"{rate:.3g} iterations per second since the run was last started, so {pictures * rate:.3g} pictures "
        "per second on each rank. Losses are of single iterations; horizontally, iterations."
    )
    yield Section("training", "Training", paragraph(words) + grid(charts))


def _curve(x: Sequence[float], y: Sequence[float], title: str) -> str:
    return figure(line_chart([Line(title, x, y)], f"{title} over iterations"), "", title)


def evaluations(run: Run) -> Iterator[Section]:
    records = read_lines(run.path / EVALUATIONS)
    if not records:
        return
    at = [record["iteration"] for record in records]
    plain = [record["tau"]["0"] for record in records]
    body = paragraph("On the labelled target pictures that the run was given, uncorrected.")
    if len(records) > 1:
        shares = {"mIoU": "mean_iou", "mAcc": "mean_accuracy", "std of IoU": "std_iou"}
        body += grid(
            [
                *(_curve(at, [100 * p[key] for p in plain], f"{name}, %") for name, key in shares.items()),
                _curve(at, [p["sum_abs_bias"] for p in plain], "sum of |Bias|"),
            ]
        )
    rows = [_evaluation_row(f"{i}", p) for i, p in zip(at, plain, strict=True)]
    rows += [
        _evaluation_row(f"{at[-1]}, tau {tau}", scores)
        for tau, scores in records[-1]["tau"].items()
        if tau != "0"
    ]
    head = ["iteration", "mIoU %", "mAcc %", "std of IoU %", "sum of |Bias|"]
    yield Section("evaluations", "Evaluation during training", body + table("", head, rows))


def _evaluation_row(title: str, scores: dict[str, Any]) -> list[str]:
    shares = (f"{100 * scores[name]:.1f}" for name in ("mean_iou", "mean_accuracy", "std_iou"))
    return [title, *shares, f"{scores['sum_abs_bias']:.3f}"]


def distributions(
    run: Run, moments: Sequence[Moment], statistics: ShiftStatistics | None
) -> Iterator[Section]:
    kept = [moment for moment in moments if moment.anchor is not None]
    if len(kept) > 1:
        yield Section("logits", "Logits against the anchor", _over_training(run, kept))
    elif statistics is not None:
        yield Section("logits", "Logits against the anchors", _in_the_end(run, statistics))


def _over_training(run: Run, moments: Sequence[Moment]) -> str:
    """Positive logits of every class, darker with time, against the last anchor."""
    domain = "target" if any(moment.domains["target"].seen.any() for moment in moments) else "source"
    anchor = moments[-1].anchor
    assert anchor is not None
    ends = torch.tensor([0.005, 0.995])
    reach = [quantile(anchor, ends)]
    reach += [
        quantile(own.rows, ends.expand(len(own.seen), 2))[own.seen].flatten()
        for own in (moment.domains[domain] for moment in moments)
    ]
    z = torch.linspace(float(torch.cat(reach).min()), float(torch.cat(reach).max()), POINTS)
    anchor_line = Line("anchor", z.numpy(), _density(anchor, z), 1, dashed=True)
    charts = []
    for c, name in enumerate(run.classes.names):
        lines = []
        for step, moment in enumerate(moments, start=1):
            own = moment.domains[domain]
            if own.seen[c]:
                strength = 0.15 + 0.85 * (step / len(moments)) ** 2
                title = f"after {moment.iteration} iterations"
                curve = _density(own.rows.select(c), z)
                lines.append(Line(title, z.numpy(), curve, 0, strength=strength))
        words = "" if lines else "not seen"
        meaning = f"Densities of positive logits of {name} during training, and their anchor"
        lasting = [anchor_line, *lines[-1:]]
        highest = 1.3 * max(float(np.max(line.y)) for line in lasting)  # early peaks may be cut off
        chart = line_chart([anchor_line, *lines], meaning, scale=False, height=130, highest=highest)
        charts.append(figure(chart, words, name))
    text = (
        f"How the {domain}'s logits of a class at its own pixels are distributed, after "
        f"{', '.join(str(moment.iteration) for moment in moments)} iterations, fainter the earlier. "
        "The dashed line is the anchor, the same logits of all classes together on the source: balance means "
        "that every class lies on it."
    )
    return paragraph(text) + keys([(f"{domain}, own pixels", 0), ("anchor", 1)]) + grid(charts, "small")


def _in_the_end(run: Run, statistics: ShiftStatistics) -> str:
    """Positive and negative logits of the finished network, against both anchors."""
    shown = class_densities(statistics, POINTS)
    charts = []
    for c, name in enumerate(run.classes.names):
        lines = [
            Line("positive anchor", shown.z, shown.anchors[0], 0, dashed=True),
            Line("negative anchor", shown.z, shown.anchors[1], 1, dashed=True),
        ]
        seen = not np.isnan(shown.positive[c]).all()
        if seen:
            lines.append(Line("positive", shown.z, shown.positive[c], 0))
            lines.append(Line("negative", shown.z, shown.negative[c], 1))
        meaning = f"Densities of the logits of {name} at its own and at other pixels, and their anchors"
        chart = line_chart(lines, meaning, scale=False, height=130)
        charts.append(figure(chart, "" if seen else "not seen", name))
    text = (
        "How the logits of a class are distributed at its own pixels and at those of other classes. Dashed "
        "are the anchors, those of all classes together: balance means that every class lies on them."
    )
    return paragraph(text) + keys([("own pixels", 0), ("other pixels", 1)]) + grid(charts, "small")


def _density(mixture: Mixture, z: torch.Tensor) -> np.ndarray:
    values: np.ndarray = pdf(mixture, z).numpy()
    return values


def training_pictures(run: Run, moments: Sequence[Moment]) -> Iterator[Section]:
    if not moments:
        return
    text = (
        "What the network was shown, the labels it was shown for it, and how far they can be trusted (white: "
        "fully; in the target, by the teacher's confidence). What was pasted from the source is outlined."
    )
    pages = [
        figure(
            photograph(
                read_image(moment.picture),
                f"Pictures, labels and confidence, iteration {moment.iteration}",
                "wide",
            ),
            f"iteration {moment.iteration}",
        )
        for moment in moments
    ]
    legend = keys(list(zip(run.classes.names, run.classes.palette, strict=True)))
    yield Section("mixed", "Training pictures", paragraph(text) + legend + grid(pages))
