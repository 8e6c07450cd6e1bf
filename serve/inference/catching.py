"""Catches the logits of some frames while they are segmented, for `serve.gathering` to count."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.card import Card
from serve.errors import InputError
from serve.gathering.counts import windows
from serve.gathering.gatherer import Gather, Gatherer
from serve.gathering.rule import subject_of
from serve.inference.mosaic import Arrays, Run
from serve.inference.runtime import Runtime
from serve.inference.sizes import Pixels


def open_gatherer(gather: Gather | str | Path, runtime: Runtime, profile: int = 0) -> Gatherer:
    """A gatherer for what a graph says under a profile, if it has several corrections.

    Raises:
        InputError: the graph was not exported for it, or the file can't be gathered into.
    """
    subject = subject_of(runtime.metadata, runtime.info, str(runtime.path), profile)
    if "logits" not in {tensor.name for tensor in runtime.outputs}:
        raise InputError(f"{runtime.path} lost its output `logits`; export it again with --gather.")
    return Gatherer(gather if isinstance(gather, Gather) else Gather(Path(gather)), subject)


class Catch:
    """What is caught of one batch; nothing is counted before the batch is done, as runs may be repeated."""

    def __init__(self, card: Card, due: Collection[int], size: tuple[int, int]) -> None:
        """For a batch of frames of this height and width, of which those that are `due` are caught."""
        self._card, self._due, self._size = card, due, size
        self._caught: list[tuple[NDArray[np.floating[Any]], NDArray[Any]]] = []

    def around(self, run: Run, frames: range) -> Run:
        """`run`, for these frames of the batch or for tiles of one of them."""
        asked = [n - frames.start for n in self._due if n in frames]
        if not asked:
            return run

        def outputs_of(names: list[str], images_NHWC: Pixels) -> Arrays:
            outputs = run([*names, "logits"], images_NHWC)
            self._take(outputs.pop("logits"), outputs["labels"], images_NHWC.shape[1:3], asked)
            return outputs

        return outputs_of

    def count(self, gatherer: Gatherer | None) -> None:
        """Hand all of it over."""
        for logits_Chw, labels_hw in self._caught:
            assert gatherer is not None, "or nothing is due"
            gatherer.add(logits_Chw, labels_hw)

    def _take(
        self,
        logits_NChw: NDArray[np.floating[Any]],
        labels_NHW: NDArray[Any],
        fed: Sequence[int],
        frames: list[int],
    ) -> None:
        """Of the logit pixels whose centre is picture: of one that was resized, all."""
        height, width = fed if self._card.size else map(min, fed, self._size)
        for n in frames:
            labels = windows(labels_NHW[n, :height, :width], self._card.output_stride)
            self._caught.append((logits_NChw[n, :, : labels.shape[0], : labels.shape[1]], labels))
