"""Statistics of the correction for a model that nobody here trained, from pictures without labels.

    kept logits of the target  ->  labels that the model gives itself, balanced  ->  rows F[c, l]
    labelled source, if any, else the same pixels                                ->  anchors F_p, F_n

Departure from the paper, whose target pseudo-labels are the plain argmax: a class that the model has almost
given up gets hardly any of them, so there is nothing to correct it with. The labels are therefore taken of
logits that are balanced a little by the shares of the plain ones,

    label = argmax_l  f[l] - BALANCE * u * log share[l],

with u the logits' own unit, so that a network whose logits are all larger is labelled alike. Used for
labelling only: as a correction of its own it breaks some models at a strength that suits others
(tests/bench/bench_calibrate.py measures both). A class that the model never names stays uncorrected.

Classes that stand for "none of these" are left as they are, and so are masked ones, whose logits (-inf, -1e4,
-1e9) are no measure of anything: the others are balanced among themselves, on pixels that the model gives to
them, see `adapt.balance.correction.excluding`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapt.balance.bins import Bins, extent_of, fresh
from adapt.balance.correction import excluding, posthoc_scores, shift_table
from adapt.balance.histogram import Histogram, counted_in_all, labels_at_stride, logit_histogram
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics
from adapt.balance.mixtures import Mixture
from adapt.data.classes import IGNORE
from adapt.data.datasets import LabelledImages, UnlabelledImages
from adapt.errors import InputError
from adapt.run.cards import DEFAULT_TAU
from export.foreign.network import MASKED, Network
from serve.media.images import Image
from serve.media.progress import Bar

BALANCE = 0.1
"""How strongly labels are balanced by the plain ones' shares, in units of the logits. In trials, in logits,
0.2 was a little better at tau 0.2 and lost most of the gain in mean accuracy at tau 1."""
UNIT = 4.0
"""Interquartile range, in logits and as a mean over channels, of logits whose unit is 1."""
KEPT_PIXELS = 400_000
"""Most logit pixels kept of the target, on an even grid in every picture: what a mixture can use, and bounds
memory and time for logits at stride 1."""
PART = 2**24
"""Logits that are counted or corrected at a time, which bounds what that takes beside them."""
MIN_PIXELS = 100
"""A class with fewer pixels stays uncorrected."""
EM_STEPS = 40
"""Scores after 40 and after 100 steps were alike in trials."""


@dataclass(frozen=True)
class Calibration:
    """Statistics, and what they were made of."""

    statistics: ShiftStatistics
    pixels: tuple[int, ...]
    """[C] logit pixels that the rows of each class were fitted to."""
    pictures: int
    """Target pictures."""
    rounds: int
    source_pictures: int
    """0: source-free, the anchors are pooled from the target."""
    logits: Tensor
    """[1, C, 1, P] logits of the target's pixels that were kept; see `kept_logits`."""
    masked: tuple[int, ...] = ()
    """Classes that take no part because their logits are masked."""
    infinite: bool = False
    """Whether some logit of the target is -inf."""
    offset: tuple[float, ...] = ()
    """[C] what was added to them before they were labelled, by `balancing_offset`; 0 of a class without any
    plain label, which gets none whether it is 0 or -inf, as all others are 0 or more."""


class Kept(NamedTuple):
    """Logits of the target's pixels."""

    logits: Tensor
    """[1, C, 1, P]"""
    infinite: bool
    """Whether some logit of the target is -inf, of those that were not kept too."""


def gather(
    network: Network,
    target: UnlabelledImages,
    source: LabelledImages | None,
    rounds: int = 1,
    leave: Sequence[int] = (),
) -> Calibration:
    """Gather the statistics; the network sees every picture once.

    Args:
        network: the graph; pictures must have its size, if that is fixed.
        target: unlabelled pictures of where it will run.
        source: labelled pictures for the anchors; None pools them from the target.
        rounds: 1 labels the target once; each further round labels it with the corrected model, at the
            default strength, and estimates again.
        leave: classes that take no part, beside the masked ones.

    Raises:
        InputError: the target has no usable pixel, no class has MIN_PIXELS of them, or less than two classes
            take part.
    """
    kept, infinite = kept_logits(network, target)
    masked = tuple(c for c in masked_classes(kept[0, :, 0]) if c not in leave)
    C, others = kept.shape[1], [c for c in range(kept.shape[1]) if c not in (*leave, *masked)]
    if len(others) < 2:
        raise InputError(
            f"of the {C} classes of {network.path}, {len(leave)} are left as they are and {len(masked)} are "
            "masked (-inf, or far below all others), but at least two must be there to be balanced."
        )
    told = kept if len(others) == C else _of_others(kept, others)
    pooled = None if source is None else _source_histogram(network, source, others)
    offset = balancing_offset(told)
    labels = _labels(told, offset)
    bins = fresh(extent_of(told, torch.ones_like(labels, dtype=torch.bool)))
    for left in reversed(range(rounds)):
        rows = _counted(told, labels, bins)
        if not bool((rows.row_pixels >= MIN_PIXELS).any()):
            raise InputError(
                f"the target gives no class {MIN_PIXELS} logit pixels; give more pictures, or larger ones."
            )
        whose = rows if pooled is None else pooled
        statistics = fit_shift_statistics(
            rows,
            whose.anchors("classes", MIN_PIXELS),
            min_pixels=MIN_PIXELS,
            steps=EM_STEPS,
            anchor_bins=whose.bins,
        )
        if left:
            labels = _corrected_labels(told, statistics)
    counts = dict(zip(others, rows.row_pixels.tolist(), strict=True))
    pixels = tuple(int(counts.get(c, 0)) for c in range(C))
    if len(others) < C:
        statistics = _among_all(statistics, others, C)
    sources = 0 if source is None else len(source)
    added = dict(zip(others, offset.where(offset.isfinite(), 0.0).tolist(), strict=True))
    said = tuple(added.get(c, 0.0) for c in range(C))
    return Calibration(statistics, pixels, len(target), rounds, sources, kept, masked, infinite, said)


def masked_classes(logits: Tensor) -> list[int]:
    """Classes of logits [C, P] that are masked: they can't win, and say nothing of a pixel.

    That is those of -inf alone, and those that lie farther below all others than these reach from end to end,
    which holds at any scale and offset. The two that reach highest never are, unless they are -inf.
    """
    most, order = logits.amax(1), logits.amax(1).argsort(descending=True).tolist()
    low, high = float("inf"), float(most[order[0]])
    for position, c in enumerate(order):
        top = float(most[c])
        if top == -float("inf") or (position > 1 and top < low - (high - low)):
            return sorted(order[position:])
        low = min(low, float(torch.where(logits[c].isfinite(), logits[c], torch.inf).amin()))
    return []


def _of_others(kept: Tensor, others: Sequence[int]) -> Tensor:
    """Logits [1, C', 1, P'] of some classes, at the pixels that the model gives to one of them."""
    theirs = torch.isin(kept.argmax(1), torch.tensor(others))[0, 0]
    return kept[:, others][..., theirs]


def _among_all(statistics: ShiftStatistics, others: Sequence[int], C: int) -> ShiftStatistics:
    """Statistics of some classes as those of all, of which the others take no part."""
    places, excluded = torch.tensor(others), torch.ones(C, dtype=torch.bool)
    excluded[places] = False
    seen = torch.zeros(C, dtype=torch.bool)
    seen[places] = statistics.seen
    rows = []
    for own in statistics.rows:
        row = own.new_ones(C, C, own.shape[-1])
        row[places.unsqueeze(1), places] = own
        rows.append(row)
    return excluding(replace(statistics, rows=Mixture(*rows), seen=seen), excluded)


def _counted(logits: Tensor, labels: Tensor, bins: Bins) -> Histogram:
    """`logit_histogram` of logits [1, C, 1, P], in parts: its indices take several times their memory."""
    total: Histogram | None = None
    for some, said in zip(_parts(logits), torch.split(labels, _part(logits), -1), strict=True):
        new = logit_histogram(some, said, bins=bins)
        total = new if total is None else total + new
    assert total is not None, "there is a pixel"
    return total


def _corrected_labels(logits: Tensor, statistics: ShiftStatistics) -> Tensor:
    """Labels [1, 1, P] that the correction gives at the default strength."""
    table = shift_table(statistics)
    said = [posthoc_scores(some, table, DEFAULT_TAU).argmax(1) for some in _parts(logits)]
    return torch.cat(said, -1)


def _parts(logits: Tensor) -> Iterator[Tensor]:
    """Logits [1, C, 1, P] some pixels after the others, with the progress of what takes long."""
    yield from Bar(torch.split(logits, _part(logits), -1), desc="logits", unit="part", delay=5, leave=False)


def _part(logits: Tensor) -> int:
    """Pixels of a part."""
    return max(1, PART // logits.shape[1])


def balanced_labels(logits: Tensor, balance: float = BALANCE) -> Tensor:
    """Labels [N, h, w] of logits [N, C, h, w], balanced by the shares of the plain labels.

    A class without a single plain label gets none.

    Args:
        balance: strength in units of the logits.
    """
    return _labels(logits, balancing_offset(logits, balance))


def balancing_offset(logits: Tensor, balance: float = BALANCE) -> Tensor:
    """[C] what `balanced_labels` adds to logits [N, C, h, w] before it takes the best.

    -inf for a class without a plain label.
    """
    plain = torch.bincount(logits.argmax(1).flatten(), minlength=logits.shape[1])
    share = plain / plain.sum()
    return torch.where(plain > 0, -balance * unit_of(logits) * share.log(), -torch.inf)


def _labels(logits: Tensor, offset: Tensor) -> Tensor:
    added = offset.view(1, -1, 1, 1)
    return torch.cat([(some + added).argmax(1) for some in torch.split(logits, _part(logits), -1)], -1)


def unit_of(logits: Tensor) -> float:
    """What stands for one logit among logits [N, C, h, w]: 1 where they spread as those of most networks."""
    f = logits.transpose(0, 1).flatten(1)
    some = f[:, :: max(1, f.numel() // 2**22)].float()
    some = torch.where(some.isneginf(), torch.nan, some)
    quartiles = torch.nanquantile(some, torch.tensor([0.25, 0.75]), dim=1)
    return float((quartiles[1] - quartiles[0]).mean()) / UNIT


def kept_logits(network: Network, target: UnlabelledImages) -> Kept:
    """Logits of the target's pixels as one picture; where one is NaN or +inf, the pixel is left out.

    Those that are MASKED are -inf again.
    """
    most, kept, infinite = max(1, KEPT_PIXELS // len(target)), [], False
    for index in Bar(range(len(target)), desc="target statistics", unit="image"):
        logits = logits_inside(network, target[index])
        step = int(np.ceil(np.sqrt(logits[0].size / most)))
        some = logits[:, step // 2 :: step, step // 2 :: step].reshape(len(logits), -1)
        infinite = infinite or bool(logits.min() <= MASKED)
        kept.append(torch.from_numpy(some[:, np.isfinite(some).all(0) & (some > MASKED).any(0)]))
    pixels = torch.cat(kept, 1)
    if infinite:
        pixels = torch.where(pixels <= MASKED, -torch.inf, pixels)
    if pixels.shape[1] == 0:
        raise InputError(
            f"the target has no usable pixel: all logits of {network.path} on it are infinite or NaN; "
            "check --mean, --std and --range."
        )
    return Kept(pixels[None, :, None], infinite)


def _source_histogram(network: Network, source: LabelledImages, others: Sequence[int]) -> Histogram:
    """Logits of labelled pictures by true class, of the classes that take part."""
    total = counted_in_all(_source_logits(network, source, others))
    if total is None or not bool(total.row_pixels.sum() > 0):
        raise InputError("the source has no labelled pixel; check its labels, or leave --source out.")
    return total


def _source_logits(
    network: Network, source: LabelledImages, others: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    stride = network.outlet.output_stride
    numbers = torch.full((256,), IGNORE)
    numbers[torch.tensor(others)] = torch.arange(len(others))
    for index in Bar(range(len(source)), desc="source statistics", unit="image"):
        sample = source[index]
        logits = logits_inside(network, sample.image)
        labels = numbers[labels_at_stride(torch.from_numpy(sample.labels)[None], stride).long()]
        finite = torch.from_numpy(np.isfinite(logits).all(0))
        yield torch.from_numpy(logits[others])[None], torch.where(finite, labels, IGNORE)


def logits_inside(network: Network, image: Image) -> np.ndarray:
    """Logits [C, h, w] of the decoder pixels whose centres lie on the picture, not on its padding."""
    stride = network.outlet.output_stride
    rows, columns = (len(range(stride // 2, side, stride)) for side in image.shape[:2])
    return network.logits(image[None])[0, :, :rows, :columns]
