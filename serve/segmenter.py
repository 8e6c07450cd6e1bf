"""Frames in, label maps out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from serve.card import Card, Correction
from serve.errors import InputError
from serve.runtime import Provider, first_line, open_runtime

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

    >>> segmenter = Segmenter("model.onnx")
    >>> labels = segmenter(frame).labels        # frame: uint8 [H, W, 3] RGB -> uint8 [H, W]

    Thread-safety: a Segmenter never changes after construction and ONNX Runtime runs are re-entrant, so one
    Segmenter may be called from any number of threads at once. Concurrent calls share its CPU threads; on one
    machine a single caller is as fast as several.
    """

    def __init__(self, model: str | Path, *, provider: Provider = "auto", threads: int | None = None) -> None:
        """Open `model`; see `serve.runtime.open_runtime` for the arguments and errors."""
        self.runtime = open_runtime(model, provider, threads)
        self._inputs = {tensor.name: tensor for tensor in self.runtime.inputs}
        outputs = {tensor.name for tensor in self.runtime.outputs}
        self._extras = [name for name in ("scores", "uncorrected_labels") if name in outputs]
        batch = self._inputs["image"].shape[0]
        self._fixed_batch = batch if isinstance(batch, int) else None

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

    def __call__(self, frames: Pixels, tau: float | None = None, *, extras: bool = False) -> Segmentation:
        """Segment one frame, uint8 [H, W, 3] RGB, or a batch of equal size, uint8 [N, H, W, 3].

        Any H and W from 1 up: a fixed-size graph gets the frame resized and its labels are resized back
        (nearest), a frame below `card.minimum_size` is padded with its border pixels and cropped back.

        Args:
            tau: strength of the correction in [0, 2], for a graph with runtime tau; None is the graph's own.
            extras: also return `scores` and `uncorrected_labels`, where the graph has these outputs.

        Raises:
            ValueError: frames of another shape or type.
            InputError: a tau that is outside its range or that the graph does not take, or a frame that the
                graph fails on (too large for the memory, for instance).
        """
        if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or frames.shape[-1] != 3 or frames.size == 0:
            raise ValueError(f"frames must be uint8 [(N,) H, W, 3], got {frames.dtype} {frames.shape}")
        batch = frames if frames.ndim == 4 else frames[None]
        names = ["labels", *(self._extras if extras else [])]
        outputs = dict(zip(names, self._run(names, self._fit(batch), self._feed_tau(tau)), strict=True))
        for name in {"labels", "uncorrected_labels"} & outputs.keys():
            outputs[name] = self._unfit(outputs[name], *batch.shape[1:3])
        if frames.ndim == 3:
            outputs = {name: array[0] for name, array in outputs.items()}
        return Segmentation(**outputs)

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
    ) -> list[NDArray[Any]]:
        try:
            if self._fixed_batch is None:
                return list(self.runtime.session.run(names, {"image": images_NHWC, **tau}))
            parts = [
                self.runtime.session.run(names, {"image": part, **tau})
                for part in _chunks(images_NHWC, self._fixed_batch)
            ]
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            height, width = images_NHWC.shape[1:3]
            raise InputError(
                f"{self.runtime.path} failed on a {width}x{height} picture: {first_line(error)}."
            ) from error
        return [np.concatenate(arrays)[: len(images_NHWC)] for arrays in zip(*parts, strict=True)]

    def _fit(self, images_NHWC: Pixels) -> Pixels:
        """Bring pictures to a size that the graph takes."""
        height, width = images_NHWC.shape[1:3]
        if self.card.size is not None:
            return np.stack([_resize(image, *self.card.size) for image in images_NHWC])
        missing = [max(self.card.minimum_size - side, 0) for side in (height, width)]
        if any(missing):
            images_NHWC = np.pad(images_NHWC, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return np.ascontiguousarray(images_NHWC)

    def _unfit(self, labels_NHW: Labels, height: int, width: int) -> Labels:
        """Bring labels back to the size of the pictures they belong to."""
        if self.card.size not in (None, (height, width)):
            nearest = cv2.INTER_NEAREST_EXACT
            return np.stack([cv2.resize(each, (width, height), interpolation=nearest) for each in labels_NHW])
        return labels_NHW[:, :height, :width]


def _resize(image: Pixels, height: int, width: int) -> Pixels:
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Pixels = cv2.resize(image, (width, height), interpolation=method)
    return resized


def _chunks(images_NHWC: Pixels, size: int) -> list[Pixels]:
    """Batches of exactly `size`; the last one is filled up by repeating its last picture."""
    filler = np.repeat(images_NHWC[-1:], -len(images_NHWC) % size, axis=0)
    return list(np.concatenate([images_NHWC, filler]).reshape(-1, size, *images_NHWC.shape[1:]))
