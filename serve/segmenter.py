"""Frames in, label maps out."""

from collections.abc import Collection
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from serve.card import Card, Correction
from serve.errors import InputError
from serve.runtime import Provider, first_line, open_runtime
from serve.tiling import Blend, tiles

TAU_RANGE = (0.0, 2.0)

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint8 | np.uint16]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The labels of one frame (or, with a leading N, of a batch)."""

    labels: Labels
    """[H, W] positions in `card.classes`; uint8, uint16 above 256 classes."""
    scores: NDArray[np.float32] | None = None
    """[C, h, w] corrected scores at the graph's decoder stride, over the picture *as the graph saw it*:
    resized to `card.size`, or padded to `card.minimum_size` at the bottom and right. None unless asked for
    and present."""
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
        model: str | Path,
        *,
        provider: Provider = "auto",
        threads: int | None = None,
        tile: int | Literal["auto"] | None = None,
        callers: int = 1,
    ) -> None:
        """Open `model`.

        Args:
            provider: what to run on, see `serve.runtime.open_runtime`.
            threads: CPU threads that run the graph; None is one per core.
            tile: segment frames that are larger than this many pixels along a side in overlapping tiles, at
                full resolution and with bounded memory (see serve/tiling.py). "auto" takes the size of a
                fixed-size graph. None segments every frame in one piece, resized if the graph's size is
                fixed.
            callers: how many threads are going to call it at the same time; `threads` are shared among them.

        Raises:
            InputError: see `open_runtime`; a tile below `card.minimum_size`, one that the graph can't take,
                or "auto" for a graph that takes any size.
        """
        self.runtime = open_runtime(model, provider, threads, callers)
        self._callers = callers
        self._tile = self._check_tile(tile)
        self._inputs = {tensor.name: tensor for tensor in self.runtime.inputs}
        outputs = {tensor.name for tensor in self.runtime.outputs}
        self._extras: list[str] = [name for name in ("scores", "uncorrected_labels") if name in outputs]
        batch = self._inputs["image"].shape[0]
        self._fixed_batch = batch if isinstance(batch, int) else None

    @property
    def callers(self) -> int:
        """How many calls at the same time are faster than one after the other."""
        return self._callers if self.provider == "cpu" else 1

    @property
    def card(self) -> Card:
        return self.runtime.info.card

    @property
    def correction(self) -> Correction | None:
        return self.runtime.info.correction

    @property
    def provider(self) -> str:
        """What the graph really runs on: cpu, cuda, tensorrt or openvino."""
        return self.runtime.provider

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
        `tile`, a larger frame is cut up instead.

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
        wanted = [n for n in self._extras if extras is True or (extras and n in extras)]
        feed_tau = self._feed_tau(tau)
        if self._is_cut(*batch.shape[1:3]):
            parts = [self._run_tiled(frame, wanted, feed_tau) for frame in batch]
            outputs = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        else:
            outputs = self._run(["labels", *wanted], self._fit(batch), feed_tau)
            for name in {"labels", "uncorrected_labels"} & outputs.keys():
                outputs[name] = self._unfit(outputs[name], *batch.shape[1:3])
        if frames.ndim == 3:
            outputs = {name: array[0] for name, array in outputs.items()}
        return Segmentation(**outputs)

    def labels_of_scores(self, scores_Chw: NDArray[np.float32], height: int, width: int) -> Labels:
        """Labels [height, width] of a frame from its scores [C, h, w], as the graph itself makes them.

        That is: upsample once, bilinearly, take the best class, crop; then back from the size of a fixed-size
        graph. For scores that were changed, such as averaged over time.
        """
        scale = self.card.output_stride
        size = (scores_Chw.shape[2] * scale, scores_Chw.shape[1] * scale)
        best = cv2.resize(scores_Chw[0], size, interpolation=cv2.INTER_LINEAR)
        labels: Labels = np.zeros(best.shape, np.uint8 if len(scores_Chw) <= 256 else np.uint16)
        for label, channel in enumerate(scores_Chw[1:], start=1):  # one at a time: C full maps are large
            candidate = cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR)
            labels[candidate > best] = label
            np.maximum(best, candidate, out=best)
        if self.card.size is not None and not self._is_cut(height, width):
            labels = self._unfit(labels[None, : self.card.size[0], : self.card.size[1]], height, width)[0]
        return labels[:height, :width]

    def warm_up(self, height: int, width: int, batch: int = 1) -> None:
        """Run once on black frames of this size, so that no later call pays for lazy set-up."""
        self(np.zeros((batch, height, width, 3), np.uint8))

    def check_tau(self, tau: float | None) -> None:
        """Raise InputError unless `tau` is None or one that this graph can take."""
        if tau is None:
            return
        low, high = TAU_RANGE
        if not low <= tau <= high:
            raise InputError(f"tau is {tau:g}, but must be between {low:g} and {high:g}.")
        if "tau" not in self._inputs:
            folded = f"tau = {self.correction.tau:g} folded in" if self.correction else "no correction"
            raise InputError(
                f"{self.runtime.path} has {folded} and takes no other; leave --tau out, or export it again "
                "with --runtime-tau."
            )

    def _feed_tau(self, tau: float | None) -> dict[str, NDArray[np.float32]]:
        self.check_tau(tau)
        if tau is None:
            return {}  # the graph's input has the folded strength as its default
        return {"tau": np.asarray(tau, np.float32)}

    def _run(
        self, names: list[str], images_NHWC: Pixels, tau: dict[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[Any]]:
        whole = self._fixed_batch is None
        parts = [images_NHWC] if whole else _chunks(images_NHWC, self._fixed_batch or 1)
        try:
            results = [self.runtime.run(names, {"image": part, **tau}) for part in parts]
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            height, width = images_NHWC.shape[1:3]
            raise InputError(
                f"{self.runtime.path} failed on a {width}x{height} picture: {first_line(error)}."
            ) from error
        if whole:
            return dict(zip(names, results[0], strict=True))
        joined = (np.concatenate(arrays)[: len(images_NHWC)] for arrays in zip(*results, strict=True))
        return dict(zip(names, joined, strict=True))

    def _is_cut(self, height: int, width: int) -> bool:
        """Are frames of this size segmented in tiles?"""
        return self._tile is not None and (height > self._tile[0] or width > self._tile[1])

    def _run_tiled(
        self, frame_HWC: Pixels, wanted: list[str], tau: dict[str, NDArray[np.float32]]
    ) -> dict[str, NDArray[Any]]:
        """Outputs of one frame, put together from tiles; scores are blended wherever the graph has them."""
        assert self._tile is not None
        size, least = frame_HWC.shape[:2], self.card.minimum_size
        height, width = max(size[0], least), max(size[1], least)
        frame_HWC = _pad(frame_HWC[None], height, width)[0]
        names = ["labels", *dict.fromkeys([*wanted, *({"scores"} & {*self._extras})])]
        unit, align = self.card.output_stride, lcm(self.card.stride, self.card.output_stride)
        rows_of_scores, columns_of_scores = (-(-side // align) * align // unit for side in (height, width))
        outputs: dict[str, NDArray[Any]] = {}
        blend: Blend | None = None
        for part in tiles(height, width, self._tile, align):
            rows, columns = part
            crop = frame_HWC[None, rows.start : rows.stop, columns.start : columns.stop]
            if self.card.size is not None:
                crop = _pad(crop, *self.card.size)
            results = self._run(names, self._fit(crop), tau)
            if "scores" in results:
                scores = results.pop("scores")[0]
                blend = blend or Blend(len(scores), rows_of_scores, columns_of_scores, unit)
                blend.add(part, scores)
            (top, bottom), (left, right) = rows.kept, columns.kept
            for name, labels in results.items():
                whole = outputs.setdefault(name, np.empty((height, width), labels.dtype))
                inside = labels[0, top - rows.start :, left - columns.start :]
                whole[top:bottom, left:right] = inside[: bottom - top, : right - left]
        if blend is not None:
            outputs["scores"] = blend.scores()
            outputs["labels"] = self.labels_of_scores(outputs["scores"], height, width)
        for name in outputs.keys() - {"scores"}:
            outputs[name] = outputs[name][: size[0], : size[1]]
        return {name: outputs[name] for name in ("labels", *wanted)}

    def _check_tile(self, tile: int | Literal["auto"] | None) -> tuple[int, int] | None:
        size = self.card.size
        if tile is None:
            return None
        if size is not None:
            if tile != "auto" and size != (tile, tile):
                raise InputError(
                    f"tile is {tile}, but {self.runtime.path} takes {size[0]}x{size[1]} (height x width) "
                    "only; give auto."
                )
            return size
        if tile == "auto":
            raise InputError(
                f"{self.runtime.path} takes pictures of any size, so there is no size to tile by; give the "
                "side of a tile in pixels, such as 1024."
            )
        align = lcm(self.card.stride, self.card.output_stride)
        least = max(self.card.minimum_size, 4 * align) + align  # the last tile may be smaller by `align`
        if tile < least:
            raise InputError(f"tile is {tile} pixels, but must be {least} or more.")
        return tile, tile

    def _fit(self, images_NHWC: Pixels) -> Pixels:
        """Bring pictures to a size that the graph takes."""
        height, width = images_NHWC.shape[1:3]
        if self.card.size == (height, width):
            return np.ascontiguousarray(images_NHWC)
        if self.card.size is not None:
            return np.stack([_resize(image, *self.card.size) for image in images_NHWC])
        least = self.card.minimum_size
        return np.ascontiguousarray(_pad(images_NHWC, max(height, least), max(width, least)))

    def _unfit(self, labels_NHW: Labels, height: int, width: int) -> Labels:
        """Bring labels back to the size of the pictures they belong to."""
        if self.card.size not in (None, (height, width)):
            nearest = cv2.INTER_NEAREST_EXACT
            return np.stack([cv2.resize(each, (width, height), interpolation=nearest) for each in labels_NHW])
        return labels_NHW[:, :height, :width]


def _pad(images_NHWC: Pixels, height: int, width: int) -> Pixels:
    """Repeat the border pixels at the bottom and right up to this size."""
    missing = height - images_NHWC.shape[1], width - images_NHWC.shape[2]
    if not any(missing):
        return images_NHWC
    return np.pad(images_NHWC, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def _resize(image: Pixels, height: int, width: int) -> Pixels:
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(image, (width, height), interpolation=method)
    return resized


def _chunks(images_NHWC: Pixels, size: int) -> list[Pixels]:
    """Batches of exactly `size`; the last one is filled up by repeating its last picture."""
    filler = np.repeat(images_NHWC[-1:], -len(images_NHWC) % size, axis=0)
    return list(np.concatenate([images_NHWC, filler]).reshape(-1, size, *images_NHWC.shape[1:]))
