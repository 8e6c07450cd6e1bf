"""Self-training watched without labels: do student and teacher still agree, on all classes?

Every step counts, at pixels of target pictures, what the student says of them augmented where the teacher
says something else of them as they are: R[y, l], row = the teacher's label, column = the student's. Made of
a running mean of R (no labels, and no pass of the network beyond those of the training):

    agreement    mean over all classes of R[c, c] / (sum_l R[c, l] + sum_y R[y, c] - R[c, c]):   the mIoU of
                 one against the other; a class that neither sees any more counts 0
    bias         sum over l of |Bias(l)|, Bias(l) = (1 / C) sum_c R[c, l] / sum_l R[c, l] - 1 / C:   by the
                 definition of Li et al. 2025 with pseudo-labels for labels: how much the student favours
                 classes beyond what the teacher does, which is what the teacher will follow
    shares       sum_l R[c, l] / sum R:   of each class in the pseudo-labels

Two rules, with hysteresis, from MEMORY batches on. The agreement has turned when it is DROP below its highest
so far and that was MEMORY iterations ago or more; it has recovered when it is back above half of that drop.
A class fades when its share in the pseudo-labels is FADED of its highest so far, which was LEAST or more; it
is back at twice as much. Classes that the pseudo-labels have less than NONE of are named once, at the start.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adapt.balance.bias import bias_with_labels
from adapt.balance.histogram import labels_at_stride
from adapt.training.watching.choice import favour_of

MEMORY = 100
"""Iterations over which the counts are averaged, and for which the agreement must have been low."""
DROP = 0.05
"""How far it must have fallen to have turned."""

FADED, LEAST = 0.05, 0.001
"""Share of its highest share at which a class is given up, and how high that must have been."""
NONE = 1e-4
"""Share of the pixels below which a class counts as absent from the start."""


class Seen(NamedTuple):
    """One look at the training."""

    agreement: float
    bias: float
    shares: tuple[float, ...]
    """By class."""
    turned: bool
    """Whether the agreement is, by the rule, on its way down."""
    faded: tuple[int, ...]
    """Classes that, by the rule, the teacher is giving up."""
    news: tuple[str, ...]
    """Sentences about what has changed in these two."""


class Watch(nn.Module):
    """Counts and looks; everything that must survive a restart is a buffer.

    Args:
        names: of the classes, C.
        total: sums a tensor over the ranks of data-parallel training.
        temperature: of the choice of classes to paste, see `adapt.training.watching.choice`; None without.
    """

    counts: Tensor
    steps: Tensor
    best: Tensor
    best_at: Tensor
    turned: Tensor
    highest: Tensor
    faded: Tensor
    kept: Tensor
    kept_at: Tensor

    favour: Tensor | None
    """[C], of the classes that ClassMix pastes where it chooses them."""

    def __init__(
        self, names: Sequence[str], total: Callable[[Tensor], Tensor], temperature: float | None = None
    ) -> None:
        super().__init__()
        self._temperature = temperature
        self.register_buffer("favour", None if temperature is None else torch.ones(len(names)))
        self._names, self._total = names, total
        self.register_buffer("counts", torch.zeros(len(names), len(names)))
        """[C, C] running mean of R."""
        self.register_buffer("steps", torch.tensor(0))
        """Batches counted."""
        self.register_buffer("best", torch.tensor(-1.0))
        """Highest agreement so far."""
        self.register_buffer("best_at", torch.tensor(0))
        """Iterations that were done then."""
        self.register_buffer("turned", torch.tensor(False))
        self.register_buffer("highest", torch.zeros(len(names)))
        """[C] highest share of each class in the pseudo-labels so far."""
        self.register_buffer("faded", torch.zeros(len(names), dtype=torch.bool))
        self.register_buffer("kept", torch.tensor(-1.0))
        """Highest agreement of those whose weights were kept."""
        self.register_buffer("kept_at", torch.tensor(0))

    @torch.no_grad()
    def take(self, logits: Tensor, labels: Tensor, stride: int) -> None:
        """Count one batch.

        Args:
            logits: [N, C, h, w], the student's, at the decoder's stride.
            labels: [N, H, W], the teacher's; IGNORE where pixels are not the target's.
            stride: of the decoder.
        """
        classes = logits.shape[1]
        found = labels_at_stride(labels, stride)
        counted = (found >= 0) & (found < classes)
        # Left-out pixels go to a cell of their own: no boolean indexing, no device sync.
        cell = torch.where(counted, found * classes + logits.argmax(1), classes**2).flatten()
        counts = torch.zeros(classes**2 + 1, dtype=torch.int64, device=cell.device)
        counts.index_add_(0, cell, torch.ones_like(cell))
        fresh = self._total(counts[:-1].view(classes, classes)).to(self.counts.dtype)
        self.steps += 1
        self.counts.lerp_(fresh, (1 / self.steps).clamp_min(1 / MEMORY))

    def look(self, iteration: int) -> Seen | None:
        """What is to be seen after so many iterations; None while nothing has been counted.

        It moves the rule on, so every iteration is looked at once.
        """
        if int(self.steps) == 0:
            return None
        counts = self.counts.double().cpu()
        if self.favour is not None and self._temperature is not None:
            self.favour.copy_(favour_of(counts, self._temperature))
        agreement, bias = agreement_of(counts), float(bias_with_labels(counts).abs().sum())
        shares = counts.sum(1) / counts.sum().clamp_min(torch.finfo(counts.dtype).tiny)
        news: list[str | None] = []
        if int(self.steps) >= MEMORY:
            news = [self._judge(agreement, iteration), self._miss(shares)]
        faded = tuple(self.faded.nonzero().flatten().tolist())
        said = tuple(sentence for sentence in news if sentence is not None)
        return Seen(agreement, bias, tuple(shares.tolist()), bool(self.turned), faded, said)

    def keeps(self, iteration: int) -> bool:
        """Whether these weights are to be kept, as the best so far; asked where they could be."""
        if int(self.steps) < MEMORY:
            return False
        agreement = agreement_of(self.counts.double().cpu())
        if agreement < float(self.kept):
            return False
        self.kept.fill_(agreement)
        self.kept_at.fill_(iteration)
        return True

    def _judge(self, agreement: float, iteration: int) -> str | None:
        if agreement >= float(self.best):
            self.best.fill_(agreement)
            self.best_at.fill_(iteration)
        best, since = float(self.best), int(self.best_at)
        drop = best - agreement
        if not self.turned and drop > DROP and iteration - since >= MEMORY:
            self.turned.fill_(True)
            return (
                f"warning: student and teacher agree less on the target than they did: {agreement:.1%} (mIoU "
                f"of one against the other) after {best:.1%} at iteration {since}. Self-training may be "
                "making it worse; a longer method.source_start or fewer training.iterations may help."
            )
        if self.turned and drop < DROP / 2:
            self.turned.fill_(False)
            return f"student and teacher agree again on the target: {agreement:.1%}."
        return None

    def _miss(self, shares: Tensor) -> str | None:
        shares = shares.to(self.highest)
        if not self.highest.any():  # the first time
            self.highest.copy_(shares)
            return self._absent(shares)
        torch.maximum(self.highest, shares, out=self.highest)
        below = (shares < FADED * self.highest) & (self.highest >= LEAST)
        fresh = below & ~self.faded
        self.faded.copy_((self.faded & (shares < 2 * FADED * self.highest)) | below)
        if not fresh.any():
            return None
        listed = ", ".join(
            f"{self._names[c]} ({shares[c]:.2%} of the pixels after {self.highest[c]:.2%})"
            for c in fresh.nonzero().flatten().tolist()
        )
        return (
            f"warning: the teacher labels hardly a pixel of the target any more as {listed}. If the target "
            "has it, self-training is unlearning it; a longer method.source_start or a balance may help."
        )

    def _absent(self, shares: Tensor) -> str | None:
        names = [name for name, share in zip(self._names, shares.tolist(), strict=True) if share < NONE]
        if not names:
            return None
        return (
            f"the teacher labels no pixel of the target as {', '.join(names)}. What of it the target has, "
            "self-training will not learn; a longer method.source_start or labels (--target-labels) may help."
        )


def agreement_of(counts: Tensor) -> float:
    """Mean over all classes of the intersection over union of rows and columns of counts [C, C]."""
    both = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - both
    return float((both / either.clamp_min(torch.finfo(counts.dtype).tiny)).mean())
