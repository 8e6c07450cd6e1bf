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
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from adapt.balance.bins import Bins, extent_of, fresh
from adapt.balance.correction import posthoc_scores, shift_table
from adapt.balance.histogram import Histogram, counted_in_all, labels_at_stride, logit_histogram
from adapt.balance.logit_statistics import ShiftStatistics, fit_shift_statistics
from adapt.data.classes import IGNORE
from adapt.data.datasets import LabelledImages, UnlabelledImages
from adapt.errors import InputError
from adapt.run.cards import DEFAULT_TAU
from export.foreign.network import Network
from serve.media.images import Image

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
    offset: tuple[float, ...] = ()
    """[C] what was added to them before they were labelled, by `balancing_offset`; 0 of a class without any
    plain label, which gets none whether it is 0 or -inf, as all others are 0 or more."""


def gather(
    network: Network, target: UnlabelledImages, source: LabelledImages | None, rounds: int = 1
) -> Calibration:
    """Gather the statistics; the network sees every picture once.

    Args:
        network: the graph; pictures must have its size, if that is fixed.
        target: unlabelled pictures of where it will run.
        source: labelled pictures for the anchors; None pools them from the target.
        rounds: 1 labels the target once; each further round labels it with the corrected model, at the
            default strength, and estimates again.

    Raises:
        InputError: the target has no usable pixel, or no class has MIN_PIXELS of them.
    """
    kept = kept_logits(network, target)
    pooled = None if source is None else _source_histogram(network, source)
    offset = balancing_offset(kept)
    labels = _labels(kept, offset)
    bins = fresh(extent_of(kept, torch.ones_like(labels, dtype=torch.bool)))
    for left in reversed(range(rounds)):
        rows = _counted(kept, labels, bins)
        if not bool((rows.row_pixels >= MIN_PIXELS).any()):
            raise InputError(
                f"the target gives no class {MIN_PIXELS} logit pixels; give more pictures, or larger ones."
            )
        whose = rows if pooled is None else pooled
        statistics = fit_shift_statistics(
            rows, whose.anchors(), min_pixels=MIN_PIXELS, steps=EM_STEPS, anchor_bins=whose.bins
        )
        if left:
            labels = _corrected_labels(kept, statistics)
    pixels = tuple(int(count) for count in rows.row_pixels)
    pictures = 0 if source is None else len(source)
    said = tuple(offset.where(offset.isfinite(), 0.0).tolist())
    return Calibration(statistics, pixels, len(target), rounds, pictures, kept, said)


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
    yield from tqdm(torch.split(logits, _part(logits), -1), desc="logits", unit="part", delay=5, leave=False)


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
    quartiles = torch.quantile(some, torch.tensor([0.25, 0.75]), dim=1)
    return float((quartiles[1] - quartiles[0]).mean()) / UNIT


def kept_logits(network: Network, target: UnlabelledImages) -> Tensor:
    """Logits of the target's pixels as one picture [1, C, 1, P]; those that are not finite are left out."""
    most = max(1, KEPT_PIXELS // len(target))
    kept = []
    for index in tqdm(range(len(target)), desc="target statistics", unit="image"):
        logits = logits_inside(network, target[index])
        step = int(np.ceil(np.sqrt(logits[0].size / most)))
        some = logits[:, step // 2 :: step, step // 2 :: step].reshape(len(logits), -1)
        kept.append(torch.from_numpy(some[:, np.isfinite(some).all(0)]))
    pixels = torch.cat(kept, 1)
    if pixels.shape[1] == 0:
        raise InputError(
            f"the target has no usable pixel: all logits of {network.path} on it are infinite or NaN; "
            "check --mean, --std and --range."
        )
    return pixels[None, :, None]


def _source_histogram(network: Network, source: LabelledImages) -> Histogram:
    """Logits of labelled pictures by true class."""
    total = counted_in_all(_source_logits(network, source))
    if total is None or not bool(total.row_pixels.sum() > 0):
        raise InputError("the source has no labelled pixel; check its labels, or leave --source out.")
    return total


def _source_logits(network: Network, source: LabelledImages) -> Iterator[tuple[Tensor, Tensor]]:
    stride = network.outlet.output_stride
    for index in tqdm(range(len(source)), desc="source statistics", unit="image"):
        sample = source[index]
        logits = logits_inside(network, sample.image)
        labels = labels_at_stride(torch.from_numpy(sample.labels)[None], stride)
        finite = torch.from_numpy(np.isfinite(logits).all(0))
        yield torch.from_numpy(logits)[None], torch.where(finite, labels, IGNORE)


def logits_inside(network: Network, image: Image) -> np.ndarray:
    """Logits [C, h, w] of the decoder pixels whose centres lie on the picture, not on its padding."""
    stride = network.outlet.output_stride
    rows, columns = (len(range(stride // 2, side, stride)) for side in image.shape[:2])
    return network.logits(image[None])[0, :, :rows, :columns]
