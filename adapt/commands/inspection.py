"""What the commands bias and statistics do with a finished run."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapt.balance.bias import bias_without_labels, bias_without_labels_corrected
from adapt.balance.correction import ShiftTable, shift_table
from adapt.balance.histogram import Pooling
from adapt.balance.posthoc import gather_statistics
from adapt.data.datasets import LabelledImages, open_target
from adapt.data.domains import open_labelled, open_source
from adapt.errors import InputError
from adapt.evaluation.prediction import evaluate, predict
from adapt.evaluation.verdict import differences, harm
from adapt.model.device import best_device
from adapt.model.segmenter import Segmenter
from adapt.reporting.pictures import Example, draw_bias, draw_distributions, draw_examples
from adapt.run.anchors import kept_anchors
from adapt.run.run import Run, load_run, prefixed, write_tensors
from serve.media.files import check_outputs
from serve.media.images import read_image

EXAMPLES = 3


@dataclass(frozen=True)
class BiasReport:
    """A table for the terminal, and the pictures that were written."""

    table: str
    pictures: tuple[Path, ...]
    classes: tuple[str, ...]
    tau: float
    columns: dict[str, np.ndarray]
    """Bias per class [C], by how it was found; the titles of the table."""
    harm: str = ""
    """What labels say against the correction, in words."""

    def to_dict(self) -> dict[str, Any]:
        """What `--json` writes: by class, and null where a class has no pixel to measure on."""
        return {
            "classes": list(self.classes),
            "tau": self.tau,
            "bias": {
                title: {
                    name: None if np.isnan(value) else value
                    for name, value in zip(self.classes, column.tolist(), strict=True)
                }
                for title, column in self.columns.items()
            },
            "sum_abs_bias": {title: float(np.nansum(abs(c))) for title, c in self.columns.items()},
            "harm": self.harm,
        }


def bias_report(run: Run, data: Path | None, tau: float, folder: Path) -> BiasReport:
    """Bias per class with labels where there are some, and estimated without; pictures into `folder`."""
    statistics = run.shift_statistics()
    folder.mkdir(parents=True, exist_ok=True)
    pictures = (folder / "bias.png", folder / "distributions.png", folder / "examples.png")
    check_outputs(pictures, force=True)
    sets = [] if data is None else [_open(run, data, keep) for keep in (False, True)]
    segmenter = run.segmenter().to(best_device())
    table = shift_table(statistics)
    columns = {
        "estimate": bias_without_labels(statistics).numpy(),
        f"estimate, tau {tau:g}": bias_without_labels_corrected(statistics, tau).numpy(),
    }
    dataset, said = None, ""
    if sets:
        dataset, full = sets
        scores = evaluate(segmenter, full, len(run.classes), table, (0.0, tau), best_device())
        columns |= {"measured": scores[0.0].bias, f"measured, tau {tau:g}": scores[tau].bias}
        said = harm(differences(scores))
    draw_bias(run.classes, columns, pictures[0])
    draw_distributions(run.classes, statistics, pictures[1])
    examples = _examples(run, segmenter, table, tau, dataset)
    draw_examples(run.classes, examples, pictures[2], f"corrected (tau {tau:g})")
    table_of = _bias_table(run.classes.names, columns)
    return BiasReport(table_of, pictures, run.classes.names, tau, columns, said)


def gather(
    run_path: Path, target: tuple[Path, ...], source_free: bool, pooling: Pooling | None = None
) -> list[str]:
    """Gather a run's post-hoc statistics anew and store them in it; returns the classes left uncorrected.

    Args:
        run_path: the run.
        target: images or videos; empty takes the run's own.
        source_free: pool the anchors from the target, not from the source.
        pooling: of the anchors; None takes the run's.
    """
    run = load_run(run_path)
    data = run.config.data
    paths = target or data.target
    if not paths:
        raise InputError(f"{run_path} was trained without a target; name images or videos with --target.")
    source = None
    if not source_free and not run.config.source_free:
        if not data.source or (gone := [path for path in data.source if not path.is_dir()]):
            raise InputError(
                f"the source {gone[0] if data.source else None} of {run_path} is not here; bring it back, or "
                "use --source-free."
            )
        source = open_source(data, run.classes)
    device = best_device()
    segmenter = run.segmenter().to(device)
    if not os.access(run_path, os.W_OK):
        raise InputError(f"{run_path} cannot be written, and the statistics go there; copy the run first.")
    images = open_target(paths, run_path / "frames", data.frames, data.size)
    method = run.config.method
    if pooling is not None:
        method = method.model_copy(update={"posthoc_anchors": pooling})
    statistics = gather_statistics(segmenter, source, images, method, device, kept_anchors(run_path))
    kept = {key: value for key, value in run.tensors.items() if not key.startswith("posthoc.")}
    write_tensors(run_path / "model.safetensors", kept | prefixed("posthoc", statistics.state()))
    return [name for name, seen in zip(run.classes.names, statistics.seen.tolist(), strict=True) if not seen]


def _open(run: Run, data: Path, keep_labels: bool) -> LabelledImages:
    return open_labelled(data, run.classes, run.config.data.size, keep_labels=keep_labels)


def _examples(
    run: Run, segmenter: Segmenter, table: ShiftTable, tau: float, dataset: LabelledImages | None
) -> list[Example]:
    """A few pictures before and after, with ground truth if `dataset` has it."""
    if dataset is not None:
        step = max(1, len(dataset) // EXAMPLES)
        samples = [dataset[index] for index in range(0, len(dataset), step)][:EXAMPLES]
        pairs: list[tuple[np.ndarray, np.ndarray | None]] = [(s.image, s.labels) for s in samples]
    else:
        pairs = [(read_image(path), None) for path in run.frames[:EXAMPLES]]
    return [
        Example(image, predict(segmenter, image), predict(segmenter, image, table, tau), truth)
        for image, truth in pairs
    ]


def _bias_table(names: tuple[str, ...], columns: dict[str, np.ndarray]) -> str:
    width = max(map(len, names))
    titles = list(columns)
    lines = [" " * width + "".join(f"  {title:>{max(9, len(title))}}" for title in titles)]
    for index, name in enumerate(names):
        cells = (f"  {columns[title][index]:>+{max(9, len(title))}.3f}" for title in titles)
        lines.append(f"{name:<{width}}" + "".join(cells))
    sums = (f"  {abs(columns[title]).sum():>{max(9, len(title))}.3f}" for title in titles)
    lines.append(f"{'sum |Bias|':<{width}}" + "".join(sums))
    return "\n".join(lines)
