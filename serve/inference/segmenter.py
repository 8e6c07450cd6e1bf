"""Frames in, label maps out."""

import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serve.card import Card, Correction
from serve.errors import InputError
from serve.gathering.gatherer import Gather, Seen
from serve.inference.catching import Catch, open_gatherer
from serve.inference.feeding import TAU_RANGE, choose
from serve.inference.large import Way, Ways
from serve.inference.mosaic import Arrays, check_tile, run_tiled
from serve.inference.opening import open_runtime
from serve.inference.runtime import OutOfMemoryError, Provider, Runtime, failed, failure
from serve.inference.sizes import Labels, Pixels, best_labels, chunks, fit, unfit

__all__ = ["TAU_RANGE", "Labels", "Pixels", "Segmentation", "Segmenter"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The labels of one frame (or, with a leading N, of a batch)."""

    labels: Labels
    """[H, W] positions in `card.classes`; uint8, uint16 above 256 classes."""
    scores: NDArray[np.float32] | None = None
    """[C, h, w] corrected scores at the decoder's stride, over the picture *as the graph saw it*: resized to
    `card.size`, or padded to `card.minimum_size` at bottom and right. None unless asked for and present."""
    uncorrected_labels: Labels | None = None
    """[H, W] labels without the correction. None unless asked for and present."""


class Segmenter:
    """A deployable graph, ready to segment RGB frames.

    >>> from serve import Segmenter
    >>> segmenter = Segmenter("model.onnx")
    >>> labels = segmenter(frame).labels        # frame: uint8 [H, W, 3] RGB -> uint8 [H, W]
    >>> segmenter.card.classes[labels[0, 0]]    # the name of the class at the top left
    'road'

    Frames are **RGB**; OpenCV reads BGR, so convert with `cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)`. They need
    no other preparation: normalising, padding and scaling back happen inside the graph or here. Frames are
    not changed, and results share no memory with them.

    Thread-safety: a Segmenter never changes after construction and ONNX Runtime runs are re-entrant, so one
    Segmenter may be called from any number of threads at once. Say so with `callers`: a few frames side by
    side, with a core each, are done sooner than one after the other on all cores. It can be neither pickled
    nor used after a fork: open one in each process.
    """

    def __init__(
        self,
        model: str | Path | Runtime,
        *,
        provider: Provider = "auto",
        threads: int | None = None,
        tile: int | Literal["auto"] | None = None,
        callers: int = 1,
        gather: Gather | str | Path | None = None,
        profile: str | None = None,
    ) -> None:
        """Open `model`.

        Args:
            model: a file; or one that is open already, whose provider and threads stay what they are.
            provider: what to run on, see `serve.inference.opening.open_runtime`.
            threads: CPU threads that run the graph; None is one per core.
            tile: segment frames larger than this many pixels along a side in overlapping tiles, at full
                resolution and with bounded memory (serve/inference/tiling.py). "auto" takes the size of a
                fixed-size graph. None segments a frame in one piece, resized if the graph's size is fixed; if
                it is not and memory does not suffice, in tiles that it does for (see
                serve/inference/large.py), and `notice` says so.
            callers: how many threads are going to call it at the same time; `threads` are shared among them.
            gather: count the logits of every n-th frame in a file; a path is `Gather(path)`. It is written at
                intervals, by `close` and at the end of the process. Needs a graph exported with --gather.
            profile: name of the correction to run, of a graph that holds several; None is its first.

        Raises:
            InputError: see `open_runtime`; a profile that the graph lacks; a tile below `card.minimum_size`,
                one that the graph can't take, or "auto" for any size; what can't be gathered with.
        """
        if not isinstance(model, Runtime):
            model = open_runtime(model, provider, threads, callers)
        self.runtime = model
        self._chosen = choose(self.runtime, profile)
        self._callers = callers
        self._tile = check_tile(self.card, str(self.runtime.path), tile)
        self._ways = Ways(self.runtime, threads, callers)
        self._inputs = {tensor.name: tensor for tensor in self.runtime.inputs}
        outputs = {tensor.name for tensor in self.runtime.outputs}
        self._extras: list[str] = [name for name in ("scores", "uncorrected_labels") if name in outputs]
        batch = self._inputs["image"].shape[0]
        self._fixed_batch = batch if isinstance(batch, int) else None
        self._gatherer = None if gather is None else open_gatherer(gather, self.runtime, self._chosen.number)
        self._finalizer = None if self._gatherer is None else weakref.finalize(self, self._gatherer.close)

    def close(self) -> None:
        """Write what was gathered and was not yet; without `gather` there is nothing to close."""
        if self._finalizer is not None:
            self._finalizer()

    @property
    def callers(self) -> int:
        """How many calls at the same time are faster than one after the other."""
        return self._callers if self.provider == "cpu" else 1

    @property
    def card(self) -> Card:
        return self.runtime.info.card

    @property
    def correction(self) -> Correction | None:
        """That of the profile that runs."""
        return self._chosen.correction

    @property
    def profiles(self) -> tuple[str, ...]:
        """Names of the corrections that the graph holds, its default first; empty if there is one or none."""
        return self._chosen.names

    @property
    def profile(self) -> str:
        """Name of the one that runs; empty without profiles."""
        return self._chosen.name

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says about itself, as if the profile that runs were its only one."""
        return self._chosen.metadata

    def under(self, profile: str) -> "Segmenter":
        """The same open graph running another profile, of which nothing is gathered.

        Raises:
            InputError: it has none of that name.
        """
        other = object.__new__(Segmenter)
        vars(other).update(vars(self))
        other._chosen = choose(self.runtime, profile)
        other._gatherer = other._finalizer = None
        return other

    @property
    def provider(self) -> str:
        """What the graph really runs on: cpu, cuda, tensorrt or openvino."""
        return self.runtime.provider

    @property
    def notice(self) -> str:
        """Which frames were cut into tiles for want of memory, in one sentence; empty if none were."""
        return self._ways.notice

    @property
    def gathered(self) -> Seen | None:
        """What was gathered so far; None without `gather`."""
        return None if self._gatherer is None else self._gatherer.seen()

    @property
    def extras(self) -> tuple[str, ...]:
        """The optional outputs that this graph has, of `scores` and `uncorrected_labels`."""
        return tuple(self._extras)

    def __call__(
        self, frames: Pixels, tau: float | None = None, *, extras: bool | Collection[str] = False
    ) -> Segmentation:
        """Segment one frame, uint8 [H, W, 3] RGB, or a batch of equal size, uint8 [N, H, W, 3].

        Any H and W from 1 up: a fixed-size graph gets the frame resized and its labels are resized back
        (nearest), a frame below `card.minimum_size` is padded with its border pixels and cropped back. With
        `tile`, or where memory does not suffice, a larger frame is cut up instead.

        Args:
            tau: strength of the correction in [0, 2], for a graph with runtime tau; None is the graph's own.
            extras: also return `scores` and `uncorrected_labels`, where the graph has these outputs; or the
                names of those wanted.

        Raises:
            ValueError: frames of another shape or type.
            InputError: a tau that is outside its range or that the graph does not take, or a frame that the
                graph fails on (too large for the memory, for instance).
        """
        if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or frames.shape[-1] != 3 or frames.size == 0:
            raise ValueError(f"frames must be uint8 [(N,) H, W, 3], got {frames.dtype} {frames.shape}")
        batch = frames if frames.ndim == 4 else frames[None]
        due = [] if self._gatherer is None else self._gatherer.due(len(batch))
        outputs = self._outputs(batch, tau, extras, due)
        if frames.ndim == 3:
            outputs = {name: array[0] for name, array in outputs.items()}
        return Segmentation(**outputs)

    def _outputs(
        self, batch: Pixels, tau: float | None, extras: bool | Collection[str], due: Sequence[int] = ()
    ) -> Arrays:
        """Labels and extras of a batch, whichever way memory allows; frames that are `due` are gathered."""
        wanted = [n for n in self._extras if extras is True or (extras and n in extras)]
        feed = self._chosen.feed(tau)
        way: Way | None = self._way(*batch.shape[:3])
        while way is not None:
            try:
                return self._segment(batch, way, wanted, feed, due)
            except (OutOfMemoryError, MemoryError) as error:  # the latter around the runs
                way = self._smaller(way, batch)
                if way is None and isinstance(error, InputError):
                    raise
                if way is None:
                    raise failure(self.runtime, error, *batch.shape[1:3]) from error
        raise AssertionError  # a way is None only where something was raised

    def labels_of_scores(self, scores_Chw: NDArray[np.float32], height: int, width: int) -> Labels:
        """Labels [height, width] of a frame from its scores [C, h, w], as the graph itself makes them.

        That is: upsample once, bilinearly, take the best class, crop; then back from the size of a fixed-size
        graph. For scores that were changed, such as averaged over time.
        """
        labels = best_labels(scores_Chw, self.card.output_stride)
        if self.card.size is not None and not self._is_cut(height, width):
            inner = labels[None, : self.card.size[0], : self.card.size[1]]
            labels = unfit(self.card, inner, height, width)[0]
        return labels[:height, :width]

    def warm_up(self, height: int, width: int, batch: int = 1) -> None:
        """Run once on black frames of this size, so that no later call pays for lazy set-up."""
        self._outputs(np.zeros((batch, height, width, 3), np.uint8), None, False)

    def check_tau(self, tau: float | None) -> None:
        """Raise InputError unless `tau` is None or one that this graph can take."""
        self._chosen.check_tau(tau)

    def _smaller(self, way: Way, batch: Pixels) -> Way | None:
        """The way after memory ran out; None if there is none, or somebody chose the tile."""
        if self._tile is not None or len(batch) > 1:
            return None
        return self._ways.smaller(way, *batch.shape[1:3])

    def _run(self, runtime: Runtime, names: list[str], images_NHWC: Pixels, feed: Arrays) -> Arrays:
        """Outputs for pictures of a size that the graph takes, be its batch fixed or not."""
        whole = self._fixed_batch is None
        parts = [images_NHWC] if whole else chunks(images_NHWC, self._fixed_batch or 1)
        try:
            results = [runtime.run(names, {"image": part, **feed}) for part in parts]
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            if not failed(error):
                raise
            raise failure(self.runtime, error, *images_NHWC.shape[1:3]) from error
        if whole:
            return dict(zip(names, results[0], strict=True))
        joined = (np.concatenate(arrays)[: len(images_NHWC)] for arrays in zip(*results, strict=True))
        return dict(zip(names, joined, strict=True))

    def _is_cut(self, height: int, width: int) -> bool:
        """Are frames of this size segmented in tiles, because somebody asked for it?"""
        return self._tile is not None and (height > self._tile[0] or width > self._tile[1])

    def _way(self, frames: int, height: int, width: int) -> Way:
        if self._tile is None:
            return self._ways.of(frames, height, width)
        return Way(self.runtime, self._tile if self._is_cut(height, width) else None)

    def _segment(
        self, batch: Pixels, way: Way, wanted: list[str], feed: Arrays, due: Sequence[int]
    ) -> Arrays:
        """Labels and the outputs `wanted` of frames of any size."""
        height, width = batch.shape[1:3]
        catch = Catch(self.card, due, (height, width))

        def run(names: list[str], images_NHWC: Pixels) -> Arrays:
            return self._run(way.runtime, names, images_NHWC, feed)

        if way.tile is not None:
            scored = "scores" in self._extras
            parts = [
                run_tiled(catch.around(run, range(n, n + 1)), self.card, frame, way.tile, wanted, scored)
                for n, frame in enumerate(batch)
            ]
            catch.count(self._gatherer)
            return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        step = way.frames or len(batch)
        runs = [
            catch.around(run, range(start, start + step))(
                ["labels", *wanted], fit(self.card, batch[start : start + step])
            )
            for start in range(0, len(batch), step)
        ]
        catch.count(self._gatherer)
        outputs = runs[0] if len(runs) == 1 else {n: np.concatenate([r[n] for r in runs]) for n in runs[0]}
        for name in {"labels", "uncorrected_labels"} & outputs.keys():
            outputs[name] = unfit(self.card, outputs[name], height, width)
        return outputs
