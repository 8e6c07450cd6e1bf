"""RUN/best: the weights of the moment that the watch liked best, as a run folder of their own.

It is scored, corrected and exported like any other run, by its path. It is there while the newest
checkpoint is not the best one, and while training goes on.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.model.build import COPY
from adapt.model.segmenter import Segmenter
from adapt.run.cards import Card
from adapt.run.run import load_run, prefixed, write_card, write_tensors
from adapt.training.watching.watch import Watch
from serve.media.whole import creating


def best_of(run: Path) -> Path:
    """Where a run keeps them."""
    return run / "best"


def keep_best(run: Path, tensors: dict[str, Tensor], card: Card) -> None:
    """Write RUN/best, or replace it, whole or not at all.

    Args:
        run: the run folder, from which settings, own code and pictures are copied.
        tensors: of model.safetensors.
        card: of these weights.
    """
    with creating(best_of(run), replace=True) as folder:
        shutil.copyfile(run / "config.yaml", folder / "config.yaml")
        if (run / COPY).exists():
            shutil.copyfile(run / COPY, folder / COPY)
        shutil.copytree(run / "report" / "frames", folder / "report" / "frames")
        write_tensors(folder / "model.safetensors", tensors)
        write_card(folder, card)


def rewind_best(run: Path, watch: Watch, iteration: int, tensors: dict[str, Tensor], card: Card) -> None:
    """Make RUN/best what it was after so many iterations, when a run goes on from there.

    Args:
        run: the run folder.
        watch: as it was then.
        iteration: iterations done.
        tensors: of model.safetensors then.
        card: of then.
    """
    path = best_of(run)
    if int(watch.kept_at) == iteration and float(watch.kept) >= 0:
        keep_best(run, tensors, card)  # a run that ended there had no need of it
    elif path.exists() and load_run(path).card.iterations != int(watch.kept_at):
        shutil.rmtree(path)  # of steps that will be done again, perhaps with other settings
        watch.kept.fill_(-1)


def finish_best(
    run: Path,
    watch: Watch,
    iteration: int,
    gather: Callable[[Segmenter], ShiftStatistics] | None,
    device: torch.device,
) -> None:
    """Leave RUN/best with statistics of its own, or take it away if the last weights are the best ones.

    Args:
        run: the run folder.
        watch: after the last iteration.
        iteration: iterations done.
        gather: makes the statistics of the post-hoc correction; None without.
        device: where.
    """
    path = best_of(run)
    if not path.exists():
        return
    if int(watch.kept_at) == iteration or float(watch.kept) < 0:  # or nothing was ever measured
        shutil.rmtree(path)
        return
    best = load_run(path)
    if gather is not None:
        statistics = prefixed("posthoc", gather(best.segmenter().to(device)).state())
        write_tensors(path / "model.safetensors", best.tensors | statistics)
    print(
        f"student and teacher agreed best on the target at iteration {best.card.iterations}, not at the end: "
        f"{float(watch.kept):.1%}; those weights are in {path}, a run folder like any other.",
        file=sys.stderr,
    )
