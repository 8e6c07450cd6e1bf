"""The report's sections on the finished network: classes, pictures, confusion."""

from collections.abc import Iterator

import numpy as np

from adapt.balance.bias import bias_without_labels, bias_without_labels_corrected
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.data.classes import paint
from adapt.evaluation.scores import Scores
from adapt.reporting.confusion import row_shares
from adapt.reporting.page import (
    Section,
    confusion_table,
    figure,
    grid,
    keys,
    label_map,
    pair,
    paragraph,
    photograph,
    table,
)
from adapt.reporting.picks import Pick, Picks
from adapt.reporting.pictures import present_classes
from adapt.run.run import Run


def classes(
    run: Run, scores: dict[float, Scores] | None, statistics: ShiftStatistics | None, tau: float
) -> Iterator[Section]:
    names = run.classes.names
    if scores is None:
        if statistics is None:
            return
        plain = bias_without_labels(statistics).numpy()
        corrected = bias_without_labels_corrected(statistics, tau).numpy()
        rows = [[name, f"{a:+.3f}", f"{b:+.3f}"] for name, a, b in zip(names, plain, corrected, strict=True)]
        foot = [["sum of |Bias|", f"{abs(plain).sum():.3f}", f"{abs(corrected).sum():.3f}"]]
        caption = "Bias estimated from the logits' distributions, without labels: ranks rather than digits."
        head = ["class", "uncorrected", f"tau {tau:g}"]
        yield Section("classes", "Classes", table(caption, head, rows, foot))
        return
    columns = list(scores.values())
    titles = ["uncorrected" if each == 0 else f"tau {each:g}" for each in scores]
    head = ["class"] + [f"{what}, {title}" for what in ("IoU %", "accuracy %", "bias") for title in titles]
    rows = [
        [name]
        + [_share(part.iou[c]) for part in columns]
        + [_share(part.accuracy[c]) for part in columns]
        + [f"{part.bias[c]:+.3f}" for part in columns]
        for c, name in enumerate(names)
    ]
    foot = [
        ["mean; sum of |Bias|"]
        + [_share(part.mean_iou) for part in columns]
        + [_share(part.mean_accuracy) for part in columns]
        + [f"{part.sum_abs_bias:.3f}" for part in columns]
    ]
    caption = "Bias is the share by which a class is predicted too often (+) or too rarely (-)."
    yield Section("classes", "Classes", table(caption, head, rows, foot))


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def pictures(run: Run, picks: Picks, tau: float) -> Iterator[Section]:
    for title, chosen in (("Best pictures", picks.best), ("Worst pictures", picks.worst)):
        if not chosen:
            continue
        by = "mIoU, uncorrected" if picks.scores else "the network's mean confidence: no labels were given"
        shown = present_classes([pick.example for pick in chosen], len(run.classes))
        legend = keys([(run.classes.names[c], run.classes.palette[c]) for c in shown])
        rows = "".join(_pick(run, pick, tau, picks.scores is not None) for pick in chosen)
        name = title.lower().replace(" ", "-")
        yield Section(name, title, paragraph(f"By {by}.") + legend + rows)


def _pick(run: Run, pick: Pick, tau: float, labelled: bool) -> str:
    example, classes = pick.example, run.classes
    value = f"{100 * pick.value:.1f} %"
    words = f"{pick.name}: {'mIoU' if labelled else 'mean confidence'} {value}"
    columns = [
        figure(photograph(example.image, f"{pick.name}, input"), "input"),
        figure(label_map(paint(example.uncorrected, classes), f"{pick.name}, uncorrected"), "uncorrected"),
    ]
    if tau > 0:
        title = f"corrected, tau {tau:g}"
        columns.append(figure(label_map(paint(example.corrected, classes), f"{pick.name}, {title}"), title))
    if pick.corrected_value is not None:
        words += f", {100 * pick.corrected_value:.1f} % corrected"
    if example.truth is not None:
        painted = paint(example.truth, classes)
        columns.append(figure(label_map(painted, f"{pick.name}, ground truth"), "ground truth"))
    return f"<article>{paragraph(words)}{grid(columns, 'four')}</article>"


def confusion(run: Run, scores: dict[float, Scores] | None) -> Iterator[Section]:
    if scores is None:
        return
    tables = [
        confusion_table(
            f"{'Uncorrected' if tau == 0 else f'Corrected, tau {tau:g}'}: % of the true class's pixels",
            run.classes.names,
            row_shares(part.confusion),
        )
        for tau, part in scores.items()
    ]
    yield Section("confusion", "Confusion", pair(tables))
