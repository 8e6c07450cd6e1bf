"""What a re-folded file says otherwise than the one before it, on the pictures that it was checked on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve.inference.segmenter import Segmenter
from serve.media.images import Image


@dataclass(frozen=True, eq=False)
class Changes:
    """Labels of the same pixels, before and after."""

    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    """[C, C] pixels; row = label before, column = after."""
    profile: str = ""
    """Which of the new file's, if it has several."""

    @property
    def changed(self) -> float:
        """Share of the pixels whose label is another one."""
        return float(1 - np.trace(self.counts) / self.counts.sum())

    def report(self) -> str:
        """For a person: shares of the classes that change, largest change first."""
        before, after = self.counts.sum(1) / self.counts.sum(), self.counts.sum(0) / self.counts.sum()
        under = f"under {self.profile}, " if self.profile else ""
        lines = [
            f"  {under}beside the file before, {self.changed:.2%} of {self.counts.sum():,} labels change"
        ]
        wide = max(map(len, self.classes))
        for c in np.argsort(-np.abs(after - before), kind="stable"):
            if before[c] != after[c]:
                lines.append(f"    {self.classes[c]:<{wide}}  {before[c]:>7.2%} -> {after[c]:>7.2%}")
        return "\n".join(lines)


def changes(before: Path, after: Path, frames: Sequence[Image], profile: str = "") -> Changes:
    """Compare two files of the same classes on pictures.

    Args:
        profile: of the file after; before it was the same, if that file has it, or what it runs by itself.
    """
    one = Segmenter(before, provider="cpu")
    if profile in one.profiles:
        one = one.under(profile)
    other = Segmenter(after, provider="cpu", profile=profile or None)
    C = len(one.card.classes)
    counts = np.zeros((C, C), np.int64)
    for frame in frames:
        pairs = one(frame).labels.astype(np.int64) * C + other(frame).labels
        counts += np.bincount(pairs.ravel(), minlength=C * C).reshape(C, C)
    return Changes(one.card.classes, counts, profile)
