"""Training losses (Li et al. 2025, sections 3.3 and 3.4)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.balance.correction import ShiftTable
from adapt.balance.histogram import labels_at_stride
from adapt.balance.logit_statistics import LogitStatistics
from adapt.balance.mixtures import Mixture, cdf
from adapt.data.classes import IGNORE


def corrected_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    table: ShiftTable | None = None,
    tau: float = 0.0,
    rows: Tensor | None = None,
    weights: Tensor | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """Mean of weights * cross-entropy on f[l] - tau * Delta[y, l](f[l]) over the pixels that count.

    Training with the bias added on purpose makes f itself balanced, hence minus here and plus in the
    post-hoc scores. Delta carries no gradient.

    Args:
        logits: [N, C, h, w] at the decoder's stride; brought to the labels' size bilinearly. The shift is
            evaluated there, because a decoder pixel's shift would need one label for its whole area.
        labels: [N, H, W]; IGNORE does not count.
        table: Delta of one domain or several; None leaves the logits uncorrected.
        tau: strength.
        rows: [N, H, W] row of the table for every pixel; the labels themselves by default.
        weights: [N, H, W]; 1 by default.
        offsets: added to the logits at the labels' size, broadcast to [N, C, H, W]; what a logit-adjusted
            loss adds (`adapt.balance.class_priors`).

    Returns:
        Scalar; 0 when no pixel counts.
    """
    full = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    labels = labels.long()
    if table is not None and tau > 0:
        shift = shift_of_labels(table, full.detach(), labels if rows is None else rows)
        full = full - shift.mul_(tau)
        del shift
    if offsets is not None:
        full = full + offsets
    loss = F.cross_entropy(full, labels, ignore_index=IGNORE, reduction="none")
    if weights is not None:
        loss = loss * weights
    return loss.sum() / (labels != IGNORE).sum().clamp_min(1)


@torch.no_grad()
def shift_of_labels(table: ShiftTable, logits: Tensor, rows: Tensor) -> Tensor:
    """Delta[y, l](f[l]) for pixels whose class is given.

    Args:
        table: rows R, channels C.
        logits: [N, C, H, W].
        rows: [N, H, W] row of the table for every pixel; values outside 0..R-1 get no shift.

    Returns:
        [N, C, H, W] shifts in logits.
    """
    height, channels, points = table.shift.shape
    valid = (rows >= 0) & (rows < height)
    # Half of the size of the usual int64, and there are as many indices as logits.
    row = torch.where(valid, rows, 0).int()
    channel = torch.arange(channels, device=logits.device, dtype=torch.int32).unsqueeze(1) * height
    per_step = table.step.reciprocal()
    scales, offsets = per_step.t().reshape(-1), (table.lower * per_step).t().reshape(-1)
    values = table.shift.transpose(0, 1).reshape(-1)
    out = torch.empty(logits.shape, device=logits.device)  # contiguous, whatever the logits are
    for image in range(len(logits)):  # one image at a time bounds the temporaries
        # [C, P]: the channel is the slow axis, as in the logits, so every pass below is contiguous.
        pair = row[image].flatten() + channel
        position = logits[image].float().flatten(1) * _pick(scales, pair)
        position -= _pick(offsets, pair)
        position.clamp_(0, points - 1)
        # Both ends: a NaN logit has no integer, and must reach the loss instead of breaking the look-up.
        cell = position.int().clamp_(0, points - 2)
        position -= cell
        cell += pair.mul_(points)
        left = _pick(values, cell)
        right = _pick(values, cell.add_(1))
        torch.lerp(left, right, position, out=out[image].flatten(1))
        out[image] *= valid[image]
    return out


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """values[index], for an index of 32 bits."""
    return values.index_select(0, index.flatten()).view_as(index)


@torch.no_grad()
def cumulative_density(rows: Mixture, logits: Tensor, labels: Tensor) -> Tensor:
    """d = F[y, y](f[y]) in [0, 1]: how easy a pixel is for its class (section 3.4).

    Args:
        rows: [R, K] mixtures of the positive logits; `labels` index R, so rows of several domains may be
            put under one another.
        logits: [N, C, h, w]; the channel is the label modulo C.
        labels: [N, h, w] in 0..R-1.
    """
    own = logits.float().gather(1, (labels % logits.shape[1]).unsqueeze(1)).squeeze(1)
    return cdf(rows.select(labels), own.unsqueeze(-1)).squeeze(-1)


def density_regression(predicted: Tensor, density: Tensor, weights: Tensor) -> Tensor:
    """Squared distance to the cumulative density d = F[y, y](f[y]), weighted (section 3.4, Eq. 10).

    Args:
        predicted, density: [N, h, w]; density in [0, 1].
        weights: [N, h, w]; 0 for pixels without label or without statistics.

    Returns:
        Scalar: mean over all pixels with a weight above 0; 0 when there is none.
    """
    return (weights * (predicted - density) ** 2).sum() / (weights > 0).sum().clamp_min(1)


def density_loss(
    predicted: Tensor,
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    statistics: LogitStatistics,
    stride: int,
    from_target: Tensor | None = None,
) -> Tensor:
    """Regress d = F[y, y](f[y]) at the decoder's stride; every pixel by the statistics of its own domain.

    Args:
        predicted: [N, h, w], of the density head.
        logits: [N, C, h, w].
        labels: [N, H, W] at full size.
        weights: [N, H, W].
        statistics: the running ones.
        stride: of the decoder.
        from_target: bool [N, H, W], pixels that come from the target; None: none does.
    """
    if from_target is None:
        from_target = torch.zeros_like(labels, dtype=torch.bool)
    at_stride, own = labels_at_stride(labels, stride), labels_at_stride(from_target, stride)
    rows = domain_rows(at_stride, own, logits.shape[1])
    positive, seen = _positive_rows(statistics)
    counted = (rows >= 0) & seen[rows.clamp_min(0)]
    density = cumulative_density(positive, logits.detach(), rows.clamp_min(0))
    return density_regression(predicted, density, labels_at_stride(weights, stride) * counted)


def domain_rows(labels: Tensor, from_target: Tensor, num_classes: int) -> Tensor:
    """Row of the stacked (source, target) tables for every pixel; -1 where no label counts."""
    return torch.where(labels == IGNORE, -1, labels + num_classes * from_target)


def _positive_rows(statistics: LogitStatistics) -> tuple[Mixture, Tensor]:
    """The mixtures F[c, c] of the source, then of the target, [2C, K], and which of them are known [2C]."""
    both = [statistics.shift_statistics(domain) for domain in ("source", "target")]
    diagonal = torch.arange(both[0].num_classes, device=both[0].seen.device)
    parts = [s.rows.select((diagonal, diagonal)) for s in both]
    joined = Mixture(*(torch.cat(pair) for pair in zip(*parts, strict=True)))
    return joined, torch.cat([s.seen for s in both])
