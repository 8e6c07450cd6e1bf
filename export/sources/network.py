"""Segmenter -> logits graph: float [N, 3, H, W] of normalised pixels in, logits [N, C, h, w] out."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import Tensor, nn

from adapt.data.classes import IGNORE
from adapt.errors import InputError
from adapt.model.segmenter import Segmenter
from adapt.run.run import Run
from export.fold.fold import OPSET
from serve.card import Card, Color

FORBIDDEN = {
    "loops and branches": ("If", "Loop", "Scan"),
    "sizes that depend on the data": ("NonZero", "Compress", "Unique", "NonMaxSuppression"),
    "scatter": ("Scatter", "ScatterElements", "ScatterND"),
    "sequences": (
        "SequenceConstruct",
        "SequenceAt",
        "SequenceInsert",
        "SplitToSequence",
        "ConcatFromSequence",
    ),
    "randomness": ("Dropout", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
}
"""Operators that some runtime does not run natively."""


def logits_graph(segmenter: Segmenter) -> onnx.ModelProto:
    """Export the network in evaluation mode; N, and H and W in multiples of the stride, stay dynamic.

    Raises:
        InputError: the network needs an operator that a deployable graph must not have.
    """
    side = 4 * segmenter.stride
    # Two images: torch.onnx.export fixes a dimension whose example is 1. Two sides: else it may tie H to W.
    example = torch.zeros(2, 3, side, side + segmenter.stride)
    dynamic = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
    network = _Logits(segmenter).eval()
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=(dynamic,),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _tidy(model)
    check_operators(model)
    return model


def card_of(run: Run) -> Card:
    """What an export of the run says of itself, with no fixed size."""
    recipe = run.card.model
    encoder = recipe.encoder.get("model_type") or recipe.encoder["file"]
    named = encoder if recipe.whole is not None else f"{encoder} encoder, {recipe.decoder} decoder"
    return card_with(run.segmenter(), run.classes.names, run.classes.palette, named, run.card.license_note)


def card_with(
    segmenter: Segmenter, classes: tuple[str, ...], palette: tuple[Color, ...], model: str, license_note: str
) -> Card:
    """The card of a network that takes pictures as `segmenter` does, with no fixed size."""
    return Card(
        classes=classes,
        palette=palette,
        ignore_index=IGNORE,
        mean=segmenter.mean,
        std=segmenter.std,
        stride=segmenter.stride,
        output_stride=segmenter.output_stride,
        model=model,
        license_note=license_note,
    )


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse operators that some runtime cannot run natively.

    Raises:
        InputError: names them.
    """
    forbidden = {kind for kinds in FORBIDDEN.values() for kind in kinds}
    bad = {n.op_type for n in model.graph.node if n.op_type in forbidden or n.domain not in ("", "ai.onnx")}
    for node in model.graph.node:
        if node.op_type == "Resize" and any(a.name == "antialias" and a.i for a in node.attribute):
            bad.add("antialiased Resize")
    if bad:
        raise InputError(
            f"the network needs {', '.join(sorted(bad))}, which not every runtime has natively; "
            "replace what makes it in the encoder."
        )


class _Logits(nn.Module):
    """The segmenter's forward pass alone."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.segmenter(pixels)
        return logits


def _tidy(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on every node, and name the dynamic sizes readably."""
    graph = model.graph
    for holder in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    pixels, logits = graph.input[0], graph.output[0]
    for value, names in (
        (pixels, ("batch", "", "padded_height", "padded_width")),
        (logits, ("batch", "", "logit_height", "logit_width")),
    ):
        for dim, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if dim.dim_param:
                dim.dim_param = name


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter reports on itself at length; what fails still raises."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
