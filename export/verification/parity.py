"""Parity of a deployable graph, run by ONNX Runtime, with a slow reference of what it should compute.

The reference never sees the fold: logits come from the torch network of a run (or, without one, from the bare
logits graph), the correction from exact curves of Delta, one hypothesis at a time, upsampling and argmax from
torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.data.images import resize_labels
from adapt.errors import InputError
from export.fold.folded import error_bound_at, folded_statistics, graph_info, table_grid
from export.fold.nodes import PREFIX
from export.fold.session import ALTERED, Labels, open_session
from export.fold.tables import MAX_TAU, Grid
from export.precision.conversion import precision_of
from export.sources.reference import Reference
from export.verification.band import TRIM, Band, band_of, fitting, needs_trimming
from export.verification.exact import COARSE_RELATIVE, COARSE_ROUNDING, RELATIVE, ROUNDING, Exactness
from export.verification.result import Tally, Verification
from serve.card import GraphInfo
from serve.inference.engine import EngineRuntime
from serve.inference.runtime import first_line
from serve.media.images import Image
from serve.media.progress import Bar

_HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


class Said(NamedTuple):
    """What a file gives for pictures [N, H, W, 3]."""

    labels: Labels
    """[N, H, W]"""
    scores: Tensor | None
    """[N, C, h, w], if there are any."""
    uncorrected_labels: Labels | None = None


class Candidate(NamedTuple):
    """What is checked: a graph in ONNX Runtime, or an engine."""

    info: GraphInfo
    statistics: ShiftStatistics | None
    run: Callable[[Image, float], Said]
    """What it gives for pictures [N, H, W, 3] at a strength."""
    grid: Grid | None = None
    """Bins of its table; None if that is not known, which makes the check coarser."""
    batch: int = 1
    """Pictures that it takes at once, 2 if it takes more."""
    rounding: float = COARSE_ROUNDING
    """See export/verification/exact.py."""
    relative: float = RELATIVE
    """The same."""
    least: tuple[int, int] = (1, 1)
    """Height and width of the smallest pictures that it takes, if those of its card are not."""
    profile: str = ""
    """Which of the file's corrections it is, if there are several."""


def verify(
    model: onnx.ModelProto,
    source: str,
    reference: Reference,
    against: str,
    frames: Sequence[Image],
    pictures: str,
    truths: Sequence[Labels] = (),
    faults: Sequence[str] = (),
    most: int | None = None,
    session: Any = None,
) -> Verification:
    """Compare a deployable graph with a reference on pictures.

    Args:
        model: what `export.fold.fold.fold` made.
        source: its file, for messages.
        reference: from `run_reference` or `bare_reference`.
        against, pictures: in words, for the report.
        frames: at least one; from `export.sources.pictures.pictures_for`.
        truths: ground truth [H, W] of each frame, or nothing.
        faults: what is known to be wrong already, in words.
        most: terms of exact scores that are looked at in a picture (export/verification/band.py); None looks
            at all pixels. With truths, all are.
        session: of `open_with_scores`, if it is open.
    """
    candidates = graph_candidates(model, source, session)
    return compare(candidates, reference, against, frames, pictures, truths, faults, most)


def compare(
    candidates: Sequence[Candidate],
    reference: Reference,
    against: str,
    frames: Sequence[Image],
    pictures: str,
    truths: Sequence[Labels] = (),
    faults: Sequence[str] = (),
    most: int | None = None,
) -> Verification:
    """Compare anything that runs with a reference; see `verify`.

    Of a file with several corrections, each is a candidate, in their order, and all are compared with the
    same logits. What is found is said of the first one, or of one that fails; ground truth is for the first.

    The first picture loses a few rows and columns if all sides are multiples of the stride, so that padding
    and cropping are looked at; and it is given together with its mirror image, so that batches are.
    """
    candidate, card = candidates[0], candidates[0].info.card
    ways = [_Way(each, number == 0) for number, each in enumerate(candidates)]
    parts_only = False
    trim = needs_trimming(frames, card, candidate.least)
    shown = Bar(frames, desc="checking", unit="image", delay=5, leave=False)
    for position, frame in enumerate(shown):
        image = fitting(frame, card)
        truth = resize_labels(truths[position], image.shape[:2]) if truths else None
        parts = [image, *([] if truth is None else [truth])]
        if position == 0 and trim:
            parts = [part[: -TRIM[0], : -TRIM[1]] for part in parts]
        both = position == 0 and candidate.batch > 1
        images, *given = (np.stack([part, part[:, ::-1]]) if both else part[None] for part in parts)
        with torch.no_grad():
            logits = reference(images)
        band = band_of(position, len(frames), tuple(logits.shape), None if given else most)
        parts_only = parts_only or not band.whole
        for way in ways:
            way.add(images, logits[:, :, band.rows], given[0] if given else None, band)
    pictures += " (a band of rows of each)" * parts_only
    results = [way.tally.result(against, pictures, len(frames), way.strengths, tuple(faults)) for way in ways]
    worst = next((n for n, result in enumerate(results) if not result.passed), 0)
    names = tuple(each.profile for each in candidates if each.profile)
    return replace(results[worst], profiles=names, profile=candidates[worst].profile)


class _Way:
    """One candidate, and what is counted of it."""

    def __init__(self, candidate: Candidate, labelled: bool) -> None:
        """`labelled`: ground truth counts."""
        self.tally, self.strengths = Tally(candidate.info.card), _strengths(candidate.info)
        self._candidate, self._labelled = candidate, labelled
        parts = candidate.statistics, candidate.grid, candidate.rounding, candidate.relative
        self._exactness = Exactness(*parts)

    def add(self, images: Image, logits: Tensor, truth: Labels | None, band: Band) -> None:
        """Compare on pictures [N, H, W, 3], of which the reference has the band's logits [N, C, h, w]."""
        tally, exactness, size = self.tally, self._exactness, images.shape[1:3]
        given = truth if self._labelled else None
        for tau in self.strengths:
            said = self._candidate.run(images, tau)
            right = exactness.of(logits, tau, _proven(self._candidate.info, tau))
            first = tau == self.strengths[0]
            tally.add(right, said.labels, said.scores, size, given if first else None, first, band)
            if given is not None and first and tau > 0:
                tally.add_plain(logits, given)
            if said.uncorrected_labels is not None and first:
                tally.add(exactness.of(logits, 0), said.uncorrected_labels, None, size, None, False, band)


def graph_candidate(model: onnx.ModelProto, source: str) -> Candidate:
    """A graph with its default profile, if it has several; see `graph_candidates`."""
    return graph_candidates(model, source)[0]


def open_with_scores(model: onnx.ModelProto, source: str) -> Any:
    """A session of a graph that gives its scores, whether or not it offers them."""
    offered = any(value.name == "scores" for value in model.graph.output)
    whole = model if offered else _with_output(model, _scores_name(model))
    return open_session(whole, source, advice=ALTERED, seldom=True)


def graph_candidates(model: onnx.ModelProto, source: str, session: Any = None) -> list[Candidate]:
    """A graph under each of its profiles, run by ONNX Runtime with its scores, whether or not it offers them.

    The folded strength is the one that it has by itself, so a run-time tau is not fed with it; and neither is
    the first profile's number.
    """
    info = graph_info(model, source)
    offered = [value.name for value in model.graph.output]
    scores = "scores" if "scores" in offered else _scores_name(model)
    session = session or open_with_scores(model, source)
    names = ["labels", scores, *(name for name in offered if name == "uncorrected_labels")]

    def run(image: Image, tau: float, profile: int = 0) -> Said:
        feeds: dict[str, NDArray[Any]] = {"image": image}
        if info.correction is not None and info.correction.runtime_tau and tau != info.correction.tau:
            feeds["tau"] = np.array(tau, np.float32)
        if profile:
            feeds["profile"] = np.array(profile, np.int32)
        try:
            labels, found, *uncorrected = session.run(names, feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise InputError(f"{source} fails on pictures of {image.shape} ({first_line(error)}).") from error
        return Said(labels, torch.from_numpy(found), uncorrected[0] if uncorrected else None)

    image = next(value for value in model.graph.input if value.name == "image")
    batch = image.type.tensor_type.shape.dim[0].dim_value or 2
    rounding = (ROUNDING, RELATIVE)
    if precision_of(model).name != "fp32" or _in_steps(model):
        rounding = (COARSE_ROUNDING, COARSE_RELATIVE)
    return [
        Candidate(
            info.under(n),
            folded_statistics(model, n),
            partial(run, profile=n),
            table_grid(model, n),
            min(batch, 2),
            *rounding,
            profile=name,
        )
        for n, name in enumerate([each.name for each in info.profiles] or [""])
    ]


def _in_steps(model: onnx.ModelProto) -> bool:
    """Whether some value of the network is made a half or an integer on its way."""
    return any(
        node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")
        or (node.op_type == "Cast" and any(a.i in _HALVES for a in node.attribute if a.name == "to"))
        for node in model.graph.node
    )


def engine_candidate(
    engine: EngineRuntime, statistics: ShiftStatistics | None, grid: Grid | None, profile: int = 0
) -> Candidate:
    """An open engine under a profile. It knows its card but not the statistics that were folded into it.

    Raises:
        InputError: it is corrected, and there are no statistics to check that by.
    """
    info = engine.info.under(profile)
    if info.correction is not None and statistics is None:
        raise InputError(
            f"{engine.path} is corrected; give with --against the graph that it was built from, or its run."
        )
    offered = [t.name for t in engine.outputs]
    names = ["labels", *(name for name in ("scores", "uncorrected_labels") if name in offered)]

    def run(image: Image, tau: float) -> Said:
        feeds: dict[str, NDArray[Any]] = {"image": image}
        if info.correction is not None and info.correction.runtime_tau:
            feeds["tau"] = np.array(tau, np.float32)
        if profile:
            feeds["profile"] = np.array(profile, np.int32)
        found = dict(zip(names, engine.run(names, feeds), strict=True))
        scores = torch.from_numpy(found["scores"]) if "scores" in found else None
        return Said(found["labels"], scores, found.get("uncorrected_labels"))

    known = None if info.correction is None else statistics
    name = info.profiles[profile].name if info.profiles else ""
    return Candidate(info, known, run, grid, least=(engine.least[1], engine.least[2]), profile=name)


def _strengths(info: GraphInfo) -> tuple[float, ...]:
    """The folded strength; of a run-time tau also both ends of its range."""
    if info.correction is None:
        return (0.0,)
    tau = info.correction.tau
    return tuple(dict.fromkeys((tau, 0.0, MAX_TAU))) if info.correction.runtime_tau else (tau,)


def _proven(info: GraphInfo, tau: float) -> float:
    return 0.0 if info.correction is None else error_bound_at(info.correction, tau)


def _scores_name(model: onnx.ModelProto) -> str:
    """The value that labels are made of."""
    producer = {output: node for node in model.graph.node for output in node.output}
    try:
        node = producer["labels"]
        while node.name != PREFIX + "labels_channels_last":
            node = producer[node.input[0]]
    except (KeyError, IndexError) as error:
        raise InputError("the nodes behind the network were altered; export the graph again.") from error
    return str(node.input[0])


def _with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy with one output more."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copy
