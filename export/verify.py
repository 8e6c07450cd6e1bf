"""Parity of a deployable graph, run by ONNX Runtime, with a slow reference of what it should compute.

The reference never sees the fold: logits come from the torch network of a run (or, without one, from the bare
logits graph), the correction from exact curves of Delta, one hypothesis at a time, upsampling and argmax from
torch.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from adapt.images import read_image, resize_image
from adapt.run import Run
from adapt.segmenter import labels_from_scores
from export.curves import Curves, shift_curves
from export.fold import error_bound_at, folded_statistics, graph_info, unfold
from export.nodes import PREFIX
from export.tables import MAX_TAU
from serve.card import Card, GraphInfo

Image = NDArray[np.uint8]
Reference = Callable[[Image], Tensor]
"""Logits float [N, C, h, w] at the decoder's stride, from images uint8 [N, H, W, 3]."""

ROUNDING = 0.01
"""Part of the tolerance, in logits, for float32 in another order of operations: network, table, graph."""
AGREEMENT = 0.9999
"""Least share of equal labels away from near-ties."""
CLASS_AGREEMENT = 0.998
"""The same for every class with more than CLASS_SHARE of the pixels: a mean hides what a rare class loses."""
CLASS_SHARE = 0.001
MAX_FRAMES = 8


@dataclass(frozen=True)
class Verification:
    """What was compared, and how far apart the two were."""

    against: str
    """Reference, in words."""
    pictures: str
    """Which pictures, in words."""
    frames: int
    strengths: tuple[float, ...]
    """Values of tau that were checked."""
    score_difference: float
    """Largest |score - reference score| in logits; of further strengths in proportion to their tolerance."""
    tolerance: float
    """Proven bound of the knots plus rounding, in logits."""
    agreement: float
    """Share of equal labels among the pixels that are not near-ties."""
    near_ties: float
    """Share of pixels whose two best reference scores lie within twice the tolerance: either is right."""
    class_agreement: dict[str, float]
    """Agreement per class of the reference, of classes with more than CLASS_SHARE of the pixels."""

    @property
    def passed(self) -> bool:
        return (
            self.score_difference <= self.tolerance
            and self.agreement >= AGREEMENT
            and all(share >= CLASS_AGREEMENT for share in self.class_agreement.values())
        )

    def record(self) -> dict[str, object]:
        """For the graph's metadata."""
        return {**dataclasses.asdict(self), "passed": self.passed}

    def report(self) -> str:
        """For a person."""
        rarest = min(self.class_agreement.items(), key=lambda item: item[1], default=("none", 1.0))
        strengths = ", ".join(f"{tau:g}" for tau in self.strengths)
        return "\n".join(
            [
                f"{'passed' if self.passed else 'FAILED'}: against {self.against}",
                f"  on {self.frames} {self.pictures}, tau {strengths}",
                f"  largest difference of scores {self.score_difference:.2g}, tolerance {self.tolerance:.2g}",
                f"  equal labels {self.agreement:.4%} of all but {self.near_ties:.2%} near-ties; "
                f"least by class {rarest[1]:.4%} ({rarest[0]})",
            ]
        )


def verify(
    model: onnx.ModelProto,
    source: str,
    reference: Reference,
    against: str,
    frames: Sequence[Image],
    pictures: str,
) -> Verification:
    """Compare a deployable graph with a reference on pictures.

    Args:
        model: what `export.fold.fold` made.
        source: its file, for messages.
        reference: from `run_reference` or `bare_reference`.
        against, pictures: in words, for the report.
        frames: at least one; from `frames_from` or `synthetic_frames`.
    """
    info = graph_info(model, source)
    statistics = folded_statistics(model)
    curves = None if statistics is None else shift_curves(statistics)
    session = _session(_with_scores(model))
    tally = _Tally(info.card)
    for frame in frames:
        image = _fitting(frame, info.card)[None]
        with torch.no_grad():
            logits = reference(image)
        for tau in _strengths(info):
            feeds = {"image": image}
            if info.correction is not None and info.correction.runtime_tau:
                feeds["tau"] = np.array(tau, np.float32)
            labels, scores = session.run(["labels", _scores_name(model)], feeds)
            exact = logits if curves is None or tau == 0 else exact_scores(logits, curves, tau)
            tally.add(exact, torch.from_numpy(scores), labels, _tolerance(info, tau))
    return tally.result(
        against, pictures, len(frames), _strengths(info), _tolerance(info, _strengths(info)[0])
    )


def run_reference(run: Run) -> Reference:
    """The network of a run, in torch."""
    segmenter = run.segmenter()
    return lambda image: segmenter.logits(torch.from_numpy(image))


def bare_reference(model: onnx.ModelProto, source: str) -> Reference:
    """The logits graph inside a folded graph; checks everything around the network, not the network."""
    card = graph_info(model, source).card
    bare = unfold(model)
    session = _session(bare)
    name = bare.graph.input[0].name
    mean, std = np.array(card.mean), np.array(card.std)

    def logits(image: Image) -> Tensor:
        height, width = image.shape[1:3]
        pixels = ((image / 255.0 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
        pads = ((0, 0), (0, 0), (0, -height % card.stride), (0, -width % card.stride))
        return torch.from_numpy(session.run(None, {name: np.pad(pixels, pads)})[0])

    return logits


def frames_from(paths: Sequence[Path]) -> list[Image]:
    """Up to MAX_FRAMES pictures, spread evenly over the paths."""
    chosen = np.unique(np.linspace(0, len(paths) - 1, MAX_FRAMES).astype(int))
    return [read_image(paths[position]) for position in chosen]


def synthetic_frames(card: Card) -> list[Image]:
    """Smooth colour fields of odd sizes, when no real picture is at hand."""
    rng = np.random.default_rng(0)
    sizes = [card.size] if card.size else [(card.minimum_size + 1, card.minimum_size + 33), (192, 320)]
    coarse = [rng.integers(0, 256, (7, 9, 3), dtype=np.uint8) for _ in sizes]
    return [resize_image(colours, size) for colours, size in zip(coarse, sizes, strict=True)]


class _Tally:
    """Adds up the comparison frame by frame."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.excess = 0.0
        self.pixels, self.near = 0, 0
        self.counted = np.zeros(len(card.classes), np.int64)
        self.equal = np.zeros(len(card.classes), np.int64)

    def add(self, exact: Tensor, scores: Tensor, labels: Image, tolerance: float) -> None:
        difference = float((exact - scores).abs().max())
        self.excess = max(self.excess, difference / tolerance if np.isfinite(difference) else np.inf)
        height, width = labels.shape[1:]
        scale = self.card.output_stride
        expected = labels_from_scores(exact, scale, height, width).numpy()
        full = torch.nn.functional.interpolate(
            exact, scale_factor=float(scale), mode="bilinear", align_corners=False
        )[:, :, :height, :width]
        best = full.topk(2, dim=1).values
        clear = (best[:, 0] - best[:, 1] > 2 * tolerance).numpy()
        self.pixels += clear.size
        self.near += int((~clear).sum())
        C = len(self.card.classes)
        self.counted += np.bincount(expected[clear], minlength=C)
        self.equal += np.bincount(expected[clear & (expected == labels)], minlength=C)

    def result(
        self, against: str, pictures: str, frames: int, strengths: tuple[float, ...], tolerance: float
    ) -> Verification:
        total = int(self.counted.sum())
        shares = {
            name: float(equal / counted)
            for name, equal, counted in zip(self.card.classes, self.equal, self.counted, strict=True)
            if counted > CLASS_SHARE * self.pixels
        }
        return Verification(
            against=against,
            pictures=pictures,
            frames=frames,
            strengths=strengths,
            score_difference=self.excess * tolerance,
            tolerance=tolerance,
            agreement=float(self.equal.sum() / total) if total else 1.0,
            near_ties=self.near / self.pixels,
            class_agreement=shares,
        )


def _strengths(info: GraphInfo) -> tuple[float, ...]:
    """The folded strength; of a run-time tau also both ends of its range."""
    if info.correction is None:
        return (0.0,)
    tau = info.correction.tau
    return tuple(dict.fromkeys((tau, 0.0, MAX_TAU))) if info.correction.runtime_tau else (tau,)


def _tolerance(info: GraphInfo, tau: float) -> float:
    bound = 0.0 if info.correction is None else error_bound_at(info.correction, tau)
    return bound + ROUNDING * (1 + tau)


def exact_scores(logits: Tensor, curves: list[Curves], tau: float) -> Tensor:
    """Scores a_c[c] - logsumexp_l a_c[l] with a_c[l] = f[l] + tau * Delta[c, l](f[l]), one c at a time.

    Args:
        logits: [N, C, h, w].
        curves: from `export.curves.shift_curves`, whose grids resolve steep climbs that an even table misses.
    """
    f = logits.double()
    shifts = [
        torch.from_numpy(curve.at(f[:, l].reshape(-1).numpy())).view(-1, *f[:, l].shape)
        for l, curve in enumerate(curves)
    ]  # C of [C, N, h, w]
    scores = torch.empty_like(f)
    for c in range(len(curves)):
        corrected = f + tau * torch.stack([shift[c] for shift in shifts], dim=1)
        scores[:, c] = corrected[:, c] - corrected.logsumexp(1)
    return scores


def _fitting(frame: Image, card: Card) -> Image:
    """Bring a picture to what the graph takes: its fixed size, or at least the minimum."""
    if card.size is not None:
        return resize_image(frame, card.size)
    height, width = (max(side, card.minimum_size) for side in frame.shape[:2])
    return resize_image(frame, (height, width))


def _scores_name(model: onnx.ModelProto) -> str:
    """The value that labels are made of."""
    producer = {output: node for node in model.graph.node for output in node.output}
    node = producer["labels"]
    while node.name != PREFIX + "labels_channels_last":
        node = producer[node.input[0]]
    return str(node.input[0])


def _with_scores(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose outputs include the scores, whether or not the file offers them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name = _scores_name(model)
    copy.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copy


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
