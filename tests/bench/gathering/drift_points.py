"""What a finished network gathers of some pictures, and its true scores on them, from one pass.

A domain's pictures are cut into blocks of pictures that follow each other, as blocks of time: every other
block is the reference, the others are what is looked at, as they are and corrupted. No picture is in both.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from adapt.data.datasets import LabelledImages, Sample
from adapt.evaluation.prediction import labels_of_logits, picture_logits
from adapt.evaluation.scores import Scores, confusion_matrix
from adapt.model.segmenter import Segmenter
from adapt.run.run import Run
from serve.fleet.drift import BLOCK
from serve.gathering.counts import Counts, add, windows
from serve.gathering.packing import pack
from serve.gathering.rule import Subject, rule_around
from serve.gathering.store import Head, Record, write_gathered

FRAMES = 4
"""Pictures of a block."""
Blocks = list[list[Sample]]


@dataclass(frozen=True)
class Network:
    """A finished run, ready to be looked at."""

    segmenter: Segmenter
    subject: Subject

    @staticmethod
    def of(run: Run, pictures: Sequence[Sample]) -> "Network":
        """With bins around its logits on some pictures, as `export --gather` takes them."""
        segmenter, classes = run.segmenter().eval(), run.classes.names
        with torch.inference_mode():
            logits = [picture_logits(segmenter, each.image) for each in pictures]
        low, high = min(float(f.min()) for f in logits), max(float(f.max()) for f in logits)
        rule = rule_around((low, high), (0.0,) * len(classes), None)
        return Network(segmenter, Subject(run.path.name, classes, segmenter.output_stride, rule))


def blocks_of(pictures: LabelledImages, drive: str = "") -> Blocks:
    """All blocks of FRAMES neighbours, of one drive of CamVid's or of all; none runs over an end."""
    parts: dict[str, list[int]] = {}
    for number, name in enumerate(pictures.names):
        parts.setdefault(drive_of(name), []).append(number)
    chosen = [part for name, part in parts.items() if drive in ("", name)]
    whole = [part[n : n + FRAMES] for part in chosen for n in range(0, len(part) - FRAMES + 1, FRAMES)]
    return [[pictures[number] for number in block] for block in whole]


def drive_of(name: str) -> str:
    """The drive that a picture of CamVid is of, such as 0016E5; empty for other pictures."""
    found = re.match(r"(\d{4}[A-Z]\w)_", name)
    return found[1] if found else ""


def spread(blocks: Blocks, most: int) -> Blocks:
    """So many blocks at most, evenly from all."""
    if len(blocks) <= most:
        return blocks
    return [blocks[n] for n in np.linspace(0, len(blocks) - 1, most).round().astype(int)]


def look(network: Network, blocks: Blocks, path: Path) -> Scores:
    """Write what the network gathers of these pictures, a slot for every block; its scores on them."""
    C = len(network.subject.classes)
    confusion, packed, records = np.zeros((C, C), np.int64), [], []
    for number, block in enumerate(blocks):
        counts, outside = Counts.none(C), 0
        for image, labels in block:
            logits, found = _segmented(network.segmenter, image)
            confusion += confusion_matrix(labels, found, C)
            at = windows(found, network.subject.stride)
            inside = logits[:, : at.shape[0], : at.shape[1]]
            outside += add(counts, network.subject.rule, inside, at)
        slot = number * BLOCK
        records.append(Record(slot, "camera", slot + 1.0, slot + 2.0, len(block), outside))
        packed.append(pack(counts.values))
    write_gathered(path, Head(network.subject, BLOCK, tuple(records)), packed)
    return Scores.from_confusion(confusion)


@torch.inference_mode()
def _segmented(segmenter: Segmenter, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits [C, h, w] and labels [H, W] of a picture."""
    logits = picture_logits(segmenter, image)
    labels = labels_of_logits(logits, segmenter.output_stride, image.shape[:2], None, 0.0)
    return logits[0].numpy(), labels
