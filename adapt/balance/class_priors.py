"""Two losses that need no more than how often each class occurs: the baselines beside the paper's.

    logit adjustment   cross-entropy on f[l] + t * log(pi[l])                        Menon et al. 2020
    class-balanced     w[y] * cross-entropy,  w[c] ~ (1 - beta) / (1 - beta^n[c])    Cui et al. 2019

pi and n are of the domain that a pixel comes from: of labels in the source, of pseudo-labels in the target,
as they come in the crops that are trained on, rare-class sampling included.

Departures, which a segmentation asks for. n is the number of a class's pixels in a crop on average: over a
whole data set, beta^n would be 0 and all weights alike. The weights make 1 over a domain's pixels on
average, so that the loss keeps its size beside the other terms; in the paper they make C over the classes,
which for classes of a few pixels leaves the others nothing. A class counts at least one pixel of a crop.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from adapt.config.method import Method
from adapt.data.classes import IGNORE

SOURCE, TARGET = 0, 1


class ClassShares(nn.Module):
    """Running shares of the classes among the labels of both domains, [2, C].

    Every batch is counted exactly. Its shares are blended in with a momentum that is at most the one of the
    logit statistics; until that is reached, the mean of all batches is taken. (The statistics' warm-up would
    go by a batch or two for hundreds of iterations. It forgets logits of a network that still changes fast;
    labels do not.)
    """

    shares: Tensor
    batches: Tensor

    def __init__(self, num_classes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("shares", torch.zeros(2, num_classes))
        self.register_buffer("batches", torch.zeros(2, dtype=torch.int64))
        """How many were counted, by domain; without any, its shares mean nothing."""

    @torch.no_grad()
    def update(self, domain: int, counts: Tensor) -> None:
        """Take in a batch: pixels of each class, int64 [C]. One without a pixel changes nothing."""
        total, done = counts.sum(), self.batches[domain]
        keep = (1 - 1 / (done + 1)).clamp_max(self.momentum)
        mean = keep * self.shares[domain] + (1 - keep) * counts / total.clamp_min(1)
        self.shares[domain] = torch.where(total > 0, mean, self.shares[domain])
        self.batches[domain] += total > 0


class ClassPriors:
    """What the training losses take of the shares.

    Attributes:
        shares: the running ones.
    """

    def __init__(
        self, shares: ClassShares, method: Method, pixels: int, total: Callable[[Tensor], Tensor]
    ) -> None:
        """Args:
        shares: the running ones.
        method: which loss, and how strong.
        pixels: of a crop.
        total: sums a tensor over the ranks of data-parallel training.
        """
        self.shares = shares
        self._adjusts = method.balance == "logit-adjustment"
        self._strength = method.adjustment_tau
        self._beta = method.effective_beta
        self._pixels = pixels
        self._total = total

    def take(self, domain: int, labels: Tensor) -> None:
        """Take in a step's labels [N, H, W] at full size; IGNORE does not count. The source's come first."""
        classes = self.shares.shares.shape[1]
        found = torch.where(labels == IGNORE, classes, labels).flatten()
        counts = torch.zeros(classes + 1, dtype=torch.int64, device=labels.device)
        counts.index_add_(0, found, torch.ones_like(found))
        self.shares.update(domain, self._total(counts[:classes]))

    def offsets(self, from_target: Tensor | None) -> Tensor | None:
        """What is added to the logits, [N, C, H, W] or [1, C, 1, 1]; None with the class-balanced loss.

        Args:
            from_target: bool [N, H, W], pixels that come from the target; None: none does.
        """
        if not self._adjusts:
            return None
        added = torch.where(
            self.shares.batches.unsqueeze(1) > 0,
            adjustments(self.shares.shares, self._pixels, self._strength),
            0.0,
        )[:, None, :, None, None]
        if from_target is None:
            return added[SOURCE]
        # On a CPU, choosing by a mask that is broadcast takes eighty times as long as a sum.
        return added[SOURCE] + from_target.unsqueeze(1).to(added.dtype) * (added[TARGET] - added[SOURCE])

    def weigh(self, weights: Tensor | None, labels: Tensor, from_target: Tensor | None) -> Tensor | None:
        """Weight of every pixel, [N, H, W], by its class too; unchanged with the logit-adjusted loss.

        Args:
            weights: [N, H, W]; None is 1.
            labels: [N, H, W].
            from_target: as of `offsets`.
        """
        if self._adjusts:
            return weights
        known = self.shares.batches.unsqueeze(1) > 0
        by_class = torch.where(known, effective_weights(self.shares.shares, self._pixels, self._beta), 1.0)
        rows = torch.where(labels == IGNORE, 0, labels)
        if from_target is not None:
            rows = rows + by_class.shape[1] * from_target
        own = by_class.flatten()[rows]
        return own if weights is None else weights * own


def new_priors(
    method: Method,
    num_classes: int,
    crop: tuple[int, int],
    device: torch.device,
    total: Callable[[Tensor], Tensor],
) -> ClassPriors | None:
    """As the settings ask for; None where `method.balance` needs none."""
    if not method.uses_shares:
        return None
    shares = ClassShares(num_classes, method.momentum).to(device)
    return ClassPriors(shares, method, crop[0] * crop[1], total)


def adjustments(shares: Tensor, pixels: int, strength: float) -> Tensor:
    """t * log(pi), of shares [..., C]; a class has at least one of the `pixels` of a crop."""
    return strength * shares.clamp_min(1 / pixels).log()


def effective_weights(shares: Tensor, pixels: int, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n) for n = shares [..., C] of the `pixels` of a crop, at least one of them.

    They make 1 on average over the pixels that the shares are of.
    """
    number = (shares * pixels).clamp_min(1)
    weights = (beta - 1) / (number * math.log(beta)).expm1()
    return weights / (shares * weights).sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
