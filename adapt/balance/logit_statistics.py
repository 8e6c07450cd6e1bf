"""The distributions of a segmenter's logits, per true class and channel (Li et al. 2025, sections 3.1, 3.3).

Row c is a pixel's true (or pseudo-) class, column l the logit channel: M[c, l] is the set of logits f[l] at
pixels of class c, F[c, l] its distribution. Everything that must survive a restart is a buffer, so the
state dict is the contract.

Departure from the paper: EM runs on histograms instead of pixels (see `adapt.balance.mixtures`), which costs
one bincount an iteration and makes statistics of several ranks a plain sum.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from adapt.balance.bins import LOGIT_RANGE, Bins, Extent, default_bins, no_bins
from adapt.balance.bins import range_warning as range_warning
from adapt.balance.histogram import Histogram, Pooling, bin_centres
from adapt.balance.mixtures import Mixture, em, em_in_blocks, spread
from adapt.balance.mixtures import UpdateRule as UpdateRule


@dataclass(frozen=True)
class ShiftStatistics:
    """What the shift Delta is made of: the rows of one domain and the anchors (section 3.2)."""

    rows: Mixture
    """[C, C, K]: F[c, l], row c = the class a pixel is taken to have, column l = logit channel."""
    anchors: Mixture
    """[2, K]: F_p of the pooled positive logits, then F_n of the pooled negative ones."""
    seen: Tensor
    """[C] bool: classes that have statistics; the others stay uncorrected."""
    eps: float = 0.01
    """The shift is held constant outside the quantiles [eps, 1 - eps] of F[c, l]."""
    logit_range: tuple[float, float] = LOGIT_RANGE
    """Range in logits of the histograms that the rows were fitted to."""
    outside: float = 0.0
    """Share of the logits beyond it, which were counted in its first and last bin."""
    excluded: Tensor | None = None
    """[C] bool: classes that take no part, see `adapt.balance.correction.excluding`; None is none."""

    @property
    def num_classes(self) -> int:
        return len(self.seen)

    def state(self) -> dict[str, Tensor]:
        """Plain tensors for a safetensors file."""
        named = {f"rows.{k}": v for k, v in self.rows._asdict().items()}
        named |= {f"anchors.{k}": v for k, v in self.anchors._asdict().items()}
        scalars = {"eps": self.eps, "logit_range": self.logit_range, "outside": self.outside}
        named |= {"seen": self.seen} | ({} if self.excluded is None else {"excluded": self.excluded})
        named |= {k: torch.tensor(v, dtype=torch.float64) for k, v in scalars.items()}
        return {k: v.contiguous() for k, v in named.items()}

    @staticmethod
    def from_state(state: dict[str, Tensor]) -> "ShiftStatistics":
        """Inverse of `state`; of older versions, whose range was always LOGIT_RANGE, as well.

        Raises:
            KeyError: a tensor is missing.
        """
        rows = Mixture(*(state[f"rows.{k}"] for k in Mixture._fields))
        anchors = Mixture(*(state[f"anchors.{k}"] for k in Mixture._fields))
        low, high = state["logit_range"].tolist() if "logit_range" in state else LOGIT_RANGE
        outside = float(state.get("outside", torch.tensor(0.0)))
        seen, eps, excluded = state["seen"].bool(), float(state["eps"]), state.get("excluded")
        return ShiftStatistics(rows, anchors, seen, eps, (low, high), outside, excluded)

    def to(self, target: torch.device | torch.dtype) -> "ShiftStatistics":
        """Move to a device, or change the precision of the mixtures."""
        moved = replace(self, rows=self.rows.to(target), anchors=self.anchors.to(target))
        if not isinstance(target, torch.device):
            return moved
        excluded = None if self.excluded is None else self.excluded.to(target)
        return replace(moved, seen=self.seen.to(target), excluded=excluded)


def fit_shift_statistics(
    rows: Histogram,
    anchors: Tensor,
    *,
    components: int = 5,
    min_pixels: int = 100,
    eps: float = 0.01,
    steps: int = 100,
    anchor_bins: Bins | None = None,
) -> ShiftStatistics:
    """Fit the mixtures of a finished network in one go, for the post-hoc correction (section 3.2).

    Args:
        rows: histogram of the domain where the network will run.
        anchors: [2, B] pooled counts, from `Histogram.anchors` of the source (or of the same domain when
            no source is at hand).
        components: K.
        min_pixels: a class with fewer pixels, at full size, has no statistics and stays uncorrected.
        eps: tail quantile.
        steps: EM iterations; 100 from quantiles reach the plateau on histograms of 256 bins.
        anchor_bins: bins of the anchors; None is those of the rows.
    """
    centres = rows.centres(torch.float64)
    anchor_centres = centres if anchor_bins is None else anchor_bins.centres(torch.float64)
    counts, pooled = rows.counts.double(), anchors.double()
    fitted = em_in_blocks(counts, centres, spread(counts, centres, components), steps)
    pooled_fit = em(pooled, anchor_centres, spread(pooled, anchor_centres, components), steps)
    seen = rows.row_pixels >= min_pixels
    bins = rows.bins or default_bins()
    limits = float(bins.low), float(bins.high)
    return ShiftStatistics(fitted, pooled_fit, seen, eps, limits, rows.outside_share).to(torch.float32)


class MixtureBank(nn.Module):
    """Mixtures [R, L, K] that follow the network during training, row by row (section 3.3).

    Every iteration EM starts from the stored parameters; the result is blended in with a momentum that
    falls with the number of iterations since the row was last updated: the longer unseen, the more weight
    the fresh estimate has.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    updated: Tensor

    def __init__(self, rows: int, columns: int, components: int) -> None:
        super().__init__()
        shape = (rows, columns, components)
        self.register_buffer("weights", torch.full(shape, 1 / components))
        self.register_buffer("means", torch.linspace(-1, 1, components).expand(shape).clone())
        self.register_buffer("variances", torch.ones(shape))
        self.register_buffer("updated", torch.full((rows,), -1))
        """Iteration of each row's last update; -1: never."""

    def hold(self, mixture: Mixture) -> None:
        """Take a mixture [R, K] of the only column."""
        for name, value in mixture._asdict().items():
            getattr(self, name).copy_(value.unsqueeze(1))
        self.updated.zero_()

    @property
    def mixture(self) -> Mixture:
        return Mixture(self.weights, self.means, self.variances)

    @property
    def seen(self) -> Tensor:
        return self.updated >= 0

    @torch.no_grad()
    def update(
        self,
        counts: Tensor,
        iteration: Tensor,
        rule: UpdateRule,
        stride: int = 1,
        bins: Bins | None = None,
    ) -> None:
        """Take in one batch.

        Args:
            counts: [R, L, B] histogram of the batch, in integers.
            iteration: scalar i, counted from 0 and growing by one a call.
            rule: its constants; a row with fewer than min_pixels in the batch is left as it is.
            stride: pixels of the full-size label map that a counted one stands for, along a side.
            bins: where they lie; None is LOGIT_RANGE.
        """
        enough = counts[:, 0].sum(-1) * stride**2 >= rule.min_pixels
        counts = counts.to(self.weights.dtype)
        centres = bin_centres(counts.device, counts.dtype, bins)
        pairs = zip(self.mixture, spread(counts, centres, self.weights.shape[-1]), strict=True)
        start = Mixture(*(_where(self.seen, stored, initial) for stored, initial in pairs))
        fresh = em(counts, centres, start, rule.em_steps)
        unseen_for = (iteration - self.updated).clamp_min(1)
        keep = (rule.momentum * (iteration / rule.warmup).clamp_max(1)) ** unseen_for
        keep = torch.where(self.seen, keep, 0.0).view(-1, 1, 1)
        for name, value in fresh._asdict().items():
            stored = getattr(self, name)
            stored.copy_(_where(enough, keep * stored + (1 - keep) * value, stored))
        self.updated.copy_(torch.where(enough, iteration, self.updated))


class LogitStatistics(nn.Module):
    """The running statistics of a training run: source rows, target rows and the source's anchors.

    An iteration calls `update_source`, then `update_target` if it has a target; or `update_target_alone`.

    Args:
        num_classes: C.
        components: K, Gaussians per mixture.
        rule: constants of the update.
        eps: tail quantile of the shift.
        pooling: of the anchors, as `Histogram.anchors` takes it.
        anchors: [2, K] to keep as the anchors; None follows the source, or without one the target.
    """

    iteration: Tensor
    outside: Tensor
    counted: Tensor
    low: Tensor
    step: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        components: int = 5,
        rule: UpdateRule | None = None,
        eps: float = 0.01,
        pooling: Pooling = "pixels",
        anchors: Mixture | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.pooling: Pooling = pooling
        self.rule = rule or UpdateRule()
        self.source = MixtureBank(num_classes, num_classes, components)
        self.target = MixtureBank(num_classes, num_classes, components)
        self.anchors = MixtureBank(2, 1, components)
        self.keeps_anchors = anchors is not None
        if anchors is not None:
            self.anchors.hold(anchors)
        self.register_buffer("iteration", torch.tensor(0))
        self.register_buffer("outside", torch.tensor(0))
        self.register_buffer("counted", torch.tensor(0))
        for name, value in no_bins()._asdict().items():
            self.register_buffer(name, value)

    @property
    def bins(self) -> Bins:
        """Where logits are counted: the range of all that came so far. Of width 0 before any did."""
        return Bins(self.low, self.step)

    @torch.no_grad()
    def fit_range(self, extent: Extent) -> None:
        """Widen the bins, in place, to hold this iteration's logits (of all ranks), before they are counted.

        They only grow: a histogram is taken in at once and never kept, so nothing has to move with them.
        """
        for own, new in zip(self.bins, self.bins.around(extent), strict=True):
            own.copy_(new)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Runs of older versions have no bins of their own: theirs were those of LOGIT_RANGE."""
        for name, value in default_bins()._asdict().items():
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def update_source(self, histogram: Histogram) -> None:
        """Take in this iteration's source histogram (summed over ranks); also moves the anchors."""
        self.iteration += 1
        now = self.iteration - 1
        self.source.update(histogram.counts, now, self.rule, histogram.stride, histogram.bins)
        self._follow_anchors(histogram)
        self._count(histogram)

    @torch.no_grad()
    def update_target_alone(self, histogram: Histogram) -> None:
        """The same without a source (a departure): anchors are the target's or given ones."""
        self.iteration += 1
        if not self.keeps_anchors:
            self._follow_anchors(histogram)
        self.update_target(histogram)

    def _follow_anchors(self, histogram: Histogram) -> None:
        pooled = histogram.anchors(self.pooling, self.rule.min_pixels).unsqueeze(1)
        self.anchors.update(pooled, self.iteration - 1, self.rule, histogram.stride, histogram.bins)

    @torch.no_grad()
    def update_target(self, histogram: Histogram) -> None:
        """Take in this iteration's target histogram (summed over ranks), after the source's."""
        now = self.iteration - 1
        self.target.update(histogram.counts, now, self.rule, histogram.stride, histogram.bins)
        self._count(histogram)

    def _count(self, histogram: Histogram) -> None:
        self.outside += histogram.outside
        self.counted += histogram.counts.sum()

    @property
    def outside_share(self) -> float:
        """Share of all counted logits that lay beyond the range."""
        return float(self.outside / self.counted.clamp_min(1))

    def shift_statistics(self, domain: str) -> ShiftStatistics:
        """Statistics of the shift in one domain, "source" or "target"."""
        bank = {"source": self.source, "target": self.target}[domain]
        anchors = self.anchors.mixture
        # Before the anchors exist there is nothing to move towards.
        seen = bank.seen & self.anchors.seen.all()
        return ShiftStatistics(bank.mixture, anchors.select((slice(None), 0)), seen, self.eps)


def _where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(rows.view(-1, 1, 1), yes, no)
