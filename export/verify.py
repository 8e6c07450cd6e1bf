"""Parity of a deployable graph, run by ONNX Runtime, with a slow reference of what it should compute.

The reference never sees the fold: logits come from the torch network of a run (or, without one, from the bare
logits graph), the correction from exact curves of Delta, one hypothesis at a time, upsampling and argmax from
torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from adapt.errors import InputError
from adapt.images import read_image, resize_image, resize_labels
from adapt.logit_statistics import ShiftStatistics
from adapt.run import Run
from export.curves import Curves, shift_curves
from export.fold import error_bound_at, folded_statistics, graph_info, unfold
from export.nodes import PREFIX
from export.tables import MAX_TAU
from export.verification import Labels, Tally, Verification
from serve.card import Card, GraphInfo
from serve.runtime import Runtime

Image = NDArray[np.uint8]
Reference = Callable[[Image], Tensor]
"""Logits float [N, C, h, w] at the decoder's stride, from images uint8 [N, H, W, 3]."""

ROUNDING = 0.01
"""Part of the tolerance, in logits, for float32 in another order of operations: network, table, graph."""
MAX_FRAMES = 8


class Candidate(NamedTuple):
    """What is checked: a graph in ONNX Runtime, or an engine."""

    info: GraphInfo
    statistics: ShiftStatistics | None
    run: Callable[[Image, float], tuple[Labels, Tensor | None]]
    """Labels [N, H, W] and scores [N, C, h, w], if it gives any, of pictures [N, H, W, 3] at a strength."""


def verify(
    model: onnx.ModelProto,
    source: str,
    reference: Reference,
    against: str,
    frames: Sequence[Image],
    pictures: str,
    truths: Sequence[Labels] = (),
) -> Verification:
    """Compare a deployable graph with a reference on pictures.

    Args:
        model: what `export.fold.fold` made.
        source: its file, for messages.
        reference: from `run_reference` or `bare_reference`.
        against, pictures: in words, for the report.
        frames: at least one; from `frames_from` or `synthetic_frames`.
        truths: ground truth [H, W] of each frame, or nothing.
    """
    return compare(graph_candidate(model, source), reference, against, frames, pictures, truths)


def compare(
    candidate: Candidate,
    reference: Reference,
    against: str,
    frames: Sequence[Image],
    pictures: str,
    truths: Sequence[Labels] = (),
) -> Verification:
    """Compare anything that runs with a reference; see `verify`."""
    info = candidate.info
    curves = None if candidate.statistics is None else shift_curves(candidate.statistics)
    tally, strengths = Tally(info.card), _strengths(info)
    for position, frame in enumerate(frames):
        image = _fitting(frame, info.card)[None]
        truth = resize_labels(truths[position], image.shape[1:3]) if truths else None
        with torch.no_grad():
            logits = reference(image)
        for tau in strengths:
            labels, scores = candidate.run(image, tau)
            exact = logits if curves is None or tau == 0 else exact_scores(logits, curves, tau)
            tally.add(exact, scores, labels, _tolerance(info, tau), truth if tau == strengths[0] else None)
    return tally.result(against, pictures, len(frames), strengths, _tolerance(info, strengths[0]))


def graph_candidate(model: onnx.ModelProto, source: str) -> Candidate:
    """A graph, run by ONNX Runtime with its scores, whether or not it offers them."""
    info = graph_info(model, source)
    session, name = _session(_with_scores(model)), _scores_name(model)

    def run(image: Image, tau: float) -> tuple[Labels, Tensor]:
        feeds: dict[str, NDArray[Any]] = {"image": image}
        if info.correction is not None and info.correction.runtime_tau:
            feeds["tau"] = np.array(tau, np.float32)
        labels, scores = session.run(["labels", name], feeds)
        return labels, torch.from_numpy(scores)

    return Candidate(info, folded_statistics(model), run)


def engine_candidate(engine: Runtime, statistics: ShiftStatistics | None) -> Candidate:
    """An open engine, which knows its card but not the statistics that were folded into it.

    Raises:
        InputError: it is corrected, and there are no statistics to check that by.
    """
    info = engine.info
    if info.correction is not None and statistics is None:
        raise InputError(
            f"{engine.path} is corrected; give with --against the graph that it was built from, or its run."
        )
    names = ["labels", *(t.name for t in engine.outputs if t.name == "scores")]

    def run(image: Image, tau: float) -> tuple[Labels, Tensor | None]:
        feeds: dict[str, NDArray[Any]] = {"image": image}
        if info.correction is not None and info.correction.runtime_tau:
            feeds["tau"] = np.array(tau, np.float32)
        labels, *scores = engine.run(names, feeds)
        return labels, torch.from_numpy(scores[0]) if scores else None

    return Candidate(info, None if info.correction is None else statistics, run)


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
