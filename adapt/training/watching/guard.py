"""Source-free self-training ended before it ruins the model: nothing but its own labels holds it.

With a source, true labels pull the student back; without one, student and teacher may walk away together. The
guard judges what the watch sees (`adapt.training.watching.watch`: all running over MEMORY batches, none of it
needs labels or a pass of the network), and ends the training as soon as one of three holds:

    agreement    of its two halves, student and teacher, has turned by the watch's rule
    bias         sum over l of |Bias(l)| is RISE above its lowest, which was MEMORY iterations ago or more
    classes      one that had LEAST of the pseudo-labels or more has faded by the watch's rule

The run then ends with the weights in RUN/best: those of the highest agreement, at first those it began with.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.model.segmenter import Segmenter
from adapt.run.cards import FORMAT, Evaluated
from adapt.run.run import load_run, prefixed, write_card, write_tensors
from adapt.training.watching.best import best_of
from adapt.training.watching.watch import MEMORY, Seen

RISE = 0.25
"""How far the sum of |Bias| must have risen; it lies between 0 and 2."""


class Guard(nn.Module):
    """Judges; what it must remember are buffers.

    Args:
        names: of the classes.
    """

    drifted: Tensor
    lowest: Tensor
    lowest_at: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names
        self.register_buffer("drifted", torch.tensor(False))
        """Whether the training is over."""
        self.register_buffer("lowest", torch.tensor(torch.inf))
        """Lowest sum of |Bias| so far."""
        self.register_buffer("lowest_at", torch.tensor(0))
        """Iterations that were done then."""

    def judge(self, seen: Seen, iteration: int, steps: int) -> str | None:
        """Why the training is to end, in words; None if it is to go on.

        Args:
            seen: by the watch.
            iteration: iterations done.
            steps: batches that the watch has counted.
        """
        if steps < MEMORY:  # the counts are not yet a mean over anything
            return None
        if seen.bias <= float(self.lowest):
            self.lowest.fill_(seen.bias)
            self.lowest_at.fill_(iteration)
        reason = self._reason(seen, iteration)
        if reason is not None:
            self.drifted.fill_(True)
        return reason

    def _reason(self, seen: Seen, iteration: int) -> str | None:
        lowest, since = float(self.lowest), int(self.lowest_at)
        if seen.turned:
            return f"student and teacher agree less on the target than they did ({seen.agreement:.1%})"
        if seen.bias > lowest + RISE and iteration - since >= MEMORY:
            return f"the estimated bias has risen from {lowest:.2f} at iteration {since} to {seen.bias:.2f}"
        if seen.faded:
            return f"the teacher gives up {', '.join(self._names[c] for c in seen.faded)}"
        return None


def finish_stopped(
    run: Path,
    iteration: int,
    gather: Callable[[Segmenter], ShiftStatistics] | None,
    score: Callable[[Segmenter, ShiftStatistics | None], Evaluated],
    device: torch.device,
) -> None:
    """Give the run the weights of RUN/best, finished; after a kill in between it is done again.

    Args:
        run: the run folder.
        iteration: iterations done.
        gather: makes the statistics of the post-hoc correction; None without.
        score: scores them.
        device: where.
    """
    best = load_run(best_of(run))
    segmenter, tensors, statistics = best.segmenter().to(device), dict(best.tensors), None
    if gather is not None:
        statistics = gather(segmenter)
        tensors |= prefixed("posthoc", statistics.state())
    scores = score(segmenter, statistics)
    if scores.evaluation:
        scores = scores._replace(evaluated_at=best.card.iterations)
    state = {"format": FORMAT, "finished": True, "stopped_at": iteration}
    write_tensors(run / "model.safetensors", tensors)
    write_card(run, best.card.model_copy(update=state | scores._asdict()))
    shutil.rmtree(best.path)
    print(f"{run} has the weights of iteration {best.card.iterations}.", file=sys.stderr)
