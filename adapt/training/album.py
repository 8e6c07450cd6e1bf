"""An album of the training: at a few moments, what the network was shown and what the statistics were.

RUN/report/album/NNNNNNN.jpg          mixed pictures of an iteration, their labels, how far they counted
RUN/report/album/NNNNNNN.safetensors  mixtures of positive logits and their anchor after it, if there are some

It only looks: no random number is drawn and nothing of the training is changed. A resumed run writes the same
moments again under the same names, so the album is that of an uninterrupted run.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapt.augmentation.augment import Mixed
from adapt.augmentation.pairs import Pair, unit_images
from adapt.balance.logit_statistics import LogitStatistics
from adapt.balance.mixtures import Mixture
from adapt.data.classes import ClassList, paint
from adapt.data.images import resize_image, write_jpeg
from adapt.run.cards import altered
from adapt.run.run import part, prefixed, read_tensors, write_tensors
from serve.media.whole import replacing

MOMENTS = 12
"""Most moments that an album has."""
SHOWN = 2
"""Pictures of a batch that are shown."""
SIDE = 256
"""Longest side of one of them, in pixels."""
GAP = 4
BORDER = (255, 255, 255)


@dataclass(frozen=True)
class Positives:
    """The positive logits of one domain: F[c, c] of every class."""

    rows: Mixture
    """[C, K]"""
    seen: Tensor
    """[C] bool: classes that have statistics."""


@dataclass(frozen=True)
class Moment:
    """One page of the album."""

    iteration: int
    """Iterations done."""
    picture: Path
    domains: dict[str, Positives]
    """By "source" and "target"; empty without online balancing."""
    anchor: Mixture | None
    """[K], of the pooled positive logits of the source; None before there was one."""


def moments(iterations: int) -> tuple[int, ...]:
    """Iterations after which a page is written: dense at the start, where most happens; the last is one."""
    return tuple(sorted({max(1, round(iterations * (i / MOMENTS) ** 2)) for i in range(1, MOMENTS + 1)}))


def write_moment(
    folder: Path, iteration: int, picture: np.ndarray, statistics: LogitStatistics | None
) -> None:
    """Add a page to the album in `folder`, or replace it; each file atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    if statistics is not None:
        write_tensors(folder / f"{iteration:07d}.safetensors", _state(statistics))
    with replacing(folder / f"{iteration:07d}.jpg") as temporary:
        write_jpeg(temporary, picture)


def read_album(folder: Path) -> list[Moment]:
    """The pages in their order; none if there is no album.

    Raises:
        InputError: a page is damaged.
    """
    return [_read_moment(path) for path in sorted(folder.glob("[0-9]*.jpg"))]


def unmixed(pair: Pair) -> Mixed:
    """The source crops of a batch, as mixed pictures with nothing pasted into them."""
    labels = pair.source_labels.long()
    images = unit_images(pair.source_image)
    of_target = pair.labelled_target.view(-1, 1, 1).expand_as(labels)
    return Mixed(images, labels, torch.ones_like(labels).float(), of_target)


def picture_of(mixed: Mixed, confidence: Tensor | None, classes: ClassList) -> np.ndarray:
    """Rows of picture | labels | how far they count, for the first pictures of a batch; uint8 [H, W, 3] RGB.

    What was pasted from the source is outlined in white in the labels. In the third column white counts
    fully, black not at all.

    Args:
        mixed: as the network was shown it.
        confidence: [N, H, W] softmax probability of the teacher's labels; None shows the labels' weights.
        classes: names and colours.
    """
    height, width = mixed.images.shape[2:]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    counts = mixed.weights if confidence is None else torch.where(mixed.from_target, confidence, 1.0)
    rows = []
    for index in range(min(SHOWN, len(mixed.images))):
        image = _bytes(mixed.images[index].permute(1, 2, 0))
        labels = mixed.labels[index].cpu().numpy().astype(np.uint8)
        painted = _outlined(paint(labels, classes), mixed.from_target[index])
        weight = _bytes(counts[index]).repeat(3).reshape(height, width, 3)
        columns = [resize_image(column, size) for column in (image, painted, weight)]
        rows.append(_joined(columns, axis=1))
    return _joined(rows, axis=0)


def _state(statistics: LogitStatistics) -> dict[str, Tensor]:
    """The positive mixtures of both domains and the positive anchor."""
    tensors = {"anchor.seen": statistics.anchors.seen[:1]}
    tensors |= prefixed("anchor", statistics.anchors.mixture.select((0, 0))._asdict())
    for domain in ("source", "target"):
        bank = getattr(statistics, domain)
        diagonal = torch.arange(len(bank.seen), device=bank.seen.device)
        tensors |= prefixed(domain, bank.mixture.select((diagonal, diagonal))._asdict())
        tensors[f"{domain}.seen"] = bank.seen
    return tensors


def _read_moment(picture: Path) -> Moment:
    path = picture.with_suffix(".safetensors")
    iteration = int(picture.stem)
    if not path.exists():
        return Moment(iteration, picture, {}, None)
    tensors = read_tensors(path)
    try:
        domains = {
            domain: Positives(_mixture(part(tensors, domain), 2), tensors[f"{domain}.seen"])
            for domain in ("source", "target")
        }
        known = bool(tensors["anchor.seen"].all())
        mixture = _mixture(part(tensors, "anchor"), 1) if known else None
    except (KeyError, ValueError) as error:
        raise altered(path, f"{error} is not as it was written") from error
    if any(len(each.seen) != len(each.rows.means) for each in domains.values()):
        raise altered(path, "its parts are of different numbers of classes")
    return Moment(iteration, picture, domains, mixture)


def _mixture(tensors: dict[str, Tensor], axes: int) -> Mixture:
    mixture = Mixture(*(tensors[name] for name in Mixture._fields))
    if len({part.shape for part in mixture}) > 1 or mixture.means.ndim != axes:
        raise ValueError("a mixture")
    return mixture


def _outlined(painted: np.ndarray, from_target: Tensor) -> np.ndarray:
    """White lines, one pixel wide, where the domains meet."""
    own = from_target.float().view(1, 1, *from_target.shape)
    spread = F.max_pool2d(own, 3, 1, 1) + F.max_pool2d(-own, 3, 1, 1)
    painted[spread[0, 0].cpu().numpy() > 0] = BORDER
    return painted


def _joined(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Put pictures beside (axis 1) or below (axis 0) one another, with a white gap."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([piece for each in parts for piece in (gap, each)][1:], axis)


def _bytes(values: Tensor) -> np.ndarray:
    """[0, 1] -> uint8."""
    scaled: np.ndarray = (values.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    return np.ascontiguousarray(scaled)
