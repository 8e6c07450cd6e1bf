"""Source-free self-training ended before it ruins the model: nothing but its own labels holds it.

With a source, true labels pull the student back; without one, student and teacher may walk away together,
and agree all the better. So what would be exported (here called the student) is held against the model that
it began with, set to the target (`start.py`), and against itself, on a few pictures of the target, evenly
spread, at every checkpoint. Of decoder pixels R[y, l]:

    bias      sum over l of |Bias(l)| (Li et al. 2025), row y = what the model that it began with said, column
              l = what the student says: how far it has come to favour some classes and give up others
    halves    agreement (mIoU over all classes) of what the student says of a picture, and of its left and
              right half seen alone; a class that it gave up counts 0

The training has drifted, and ends, where the bias is above MOST_BIAS, or the agreement of the halves is FALL
or more below that of the model it began with. The bounds were chosen on seed 0, see docs/source-free.md.
The run then has the weights in RUN/best: those of the checkpoint at which student and teacher agreed best, at
first those it began with.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adapt.balance.bias import bias_with_labels
from adapt.balance.logit_statistics import ShiftStatistics
from adapt.data.datasets import UnlabelledImages
from adapt.model.segmenter import Segmenter
from adapt.run.cards import FORMAT, Evaluated
from adapt.run.run import load_run, prefixed, read_tensors, write_card, write_tensors
from adapt.training.watching.best import best_of
from adapt.training.watching.watch import agreement_of

MOST_BIAS = 0.5
"""Of at most 2 (1 - 1 / C)."""
FALL = 0.25
PICTURES = 16
FIRST = "guard.safetensors"
"""Of a run: labels that the model it began with gives those pictures, uint8 [h, w] each, by number."""


class Guard(nn.Module):
    """Measures and judges; what it must remember are buffers.

    Args:
        run: the run folder.
        target: pictures of the target.
    """

    drifted: Tensor
    begun: Tensor

    def __init__(self, run: Path, target: UnlabelledImages) -> None:
        super().__init__()
        self._run, self._target, self._looked_at = run, target, -1
        self.register_buffer("drifted", torch.tensor(False))
        """Whether the training is over."""
        self.register_buffer("begun", torch.tensor(0.0))
        """Agreement of the halves of the model that it began with."""

    def begin(self, segmenter: Segmenter) -> None:
        """Remember what the model says that the training begins with, in the run folder too."""
        seen = _seen(segmenter, self._target)
        write_tensors(self._run / FIRST, {str(i): whole.byte() for i, (whole, _) in enumerate(seen)})
        self.begun.fill_(agreement_of(_total(seen, segmenter.num_classes)))

    def look(
        self, segmenter: Segmenter, iteration: int, note: Callable[[int, float, float, str | None], None]
    ) -> None:
        """Measure and judge a student, once an iteration and never again when it has drifted.

        Args:
            segmenter: the student's; its mode is restored.
            iteration: iterations done.
            note: takes them, the bias, the agreement of the halves, and why the training is to end, if it is.
        """
        if bool(self.drifted) or iteration == self._looked_at:
            return
        self._looked_at = iteration
        first, seen = read_tensors(self._run / FIRST), _seen(segmenter, self._target)
        against = [(first[str(i)].long(), whole) for i, (whole, _) in enumerate(seen)]
        bias = float(bias_with_labels(_total(against, segmenter.num_classes)).abs().sum())
        halves = agreement_of(_total(seen, segmenter.num_classes))
        why = reason(bias, halves, float(self.begun))
        self.drifted.fill_(why is not None)
        note(iteration, bias, halves, why)


def reason(bias: float, halves: float, begun: float) -> str | None:
    """Why it has drifted, in words; None if it has not.

    Args:
        bias: sum of |Bias|.
        halves: agreement of the halves.
        begun: the same of the model that it began with.
    """
    if bias > MOST_BIAS:
        return f"the estimated bias against the model that it began with is {bias:.2f}, above {MOST_BIAS:g}"
    if halves <= begun - FALL:
        return f"pictures and their halves agree to {halves:.1%}, and agreed to {begun:.1%} at the start"
    return None


@torch.no_grad()
def _seen(segmenter: Segmenter, target: UnlabelledImages) -> Sequence[tuple[Tensor, Tensor]]:
    """Of each picture, the labels [h, w] that the network gives it whole, and by its halves; on the CPU."""
    was_training, device = segmenter.training, next(segmenter.parameters()).device
    segmenter.eval()
    pairs = []
    for index in np.linspace(0, len(target) - 1, min(PICTURES, len(target))).astype(int):
        image = torch.from_numpy(np.ascontiguousarray(target[index])).unsqueeze(0).to(device)
        pairs.append((_labels(segmenter, image), halved_labels(segmenter, image)))
    segmenter.train(was_training)
    return pairs


def halved_labels(segmenter: Segmenter, image: Tensor) -> Tensor:
    """Labels [h, w] of an image [1, H, W, 3] by its left and right half alone, cut at the stride."""
    middle = image.shape[2] // 2 // segmenter.stride * segmenter.stride
    if middle == 0:
        return _labels(segmenter, image)
    return torch.cat([_labels(segmenter, image[:, :, :middle]), _labels(segmenter, image[:, :, middle:])], 1)


def _labels(segmenter: Segmenter, image: Tensor) -> Tensor:
    return segmenter.logits(image).argmax(1)[0].cpu()


def _total(pairs: Sequence[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """[C, C] pixels by the first label (row) and the second one (column)."""
    cells = torch.cat([(rows * classes + columns).flatten() for rows, columns in pairs])
    return torch.bincount(cells, minlength=classes**2).view(classes, classes).double()


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
