"""The two ends of a deployable graph: pictures to normalised pixels, scores to labels."""

from typing import Any

import numpy as np
from onnx import TensorProto

from export.fold.correct import Scores
from export.fold.nodes import PREFIX, Builder
from serve.card import Card
from serve.inference.sizes import LEAST_ODDS, MOST_ODDS

_IMAGE_SIZE = PREFIX + "image_size"
_LOWEST = -1e38
"""Below every score."""


def add_preprocessing(b: Builder, card: Card, pixels: str) -> None:
    """uint8 `image` [N,H,W,3] -> `pixels`, normalised float [N,3,H',W'], zeros padded up to the stride.

    The cast comes first because TensorRT knows uint8 only at a graph's ends.
    """
    std = np.array(card.std).reshape(3, 1, 1)
    mean = np.array(card.mean).reshape(3, 1, 1)
    plain = b.op("Cast", ["image"], "float", to=TensorProto.FLOAT)
    channels = b.op("Transpose", [plain], "channels_first", perm=[0, 3, 1, 2])
    scaled = b.op("Mul", [channels, b.floats(1 / (255 * std), "scale")], "scaled")
    offset = b.floats(-mean / std, "offset")
    if not _padded(card):
        b.op("Add", [scaled, offset], "normalised", output=pixels)
        return
    normalised = b.op("Add", [scaled, offset], "normalised")
    b.op("Pad", [normalised, _pads(b, card)], "padded", output=pixels, mode="constant")


def add_labels(b: Builder, card: Card, scores: Scores, output: str) -> None:
    """Scores [N,C,h,w] -> `output` [N,H,W]: upsample once, argmax, crop.

    What is upsampled are the scores or their probabilities, as the card says.

    Channels go last while the tensor is small: Resize and ArgMax over the last axis then take well under half
    the time in ONNX Runtime.
    """
    scale = card.output_stride
    full = b.op("Transpose", [scores.name], f"{output}_channels_last", perm=[0, 2, 3, 1])
    if scale > 1 and card.upsampling.of == "probabilities":
        full = _probabilities(b, card, scores, full, output)
    if scale > 1:
        full = b.op(
            "Resize",
            [full, "", b.floats(np.array([1, scale, scale, 1]), f"{output}_scales")],
            f"{output}_upsampled",
            mode="linear",
            coordinate_transformation_mode=card.upsampling.coordinates,
        )
    best = b.op("ArgMax", [full], f"{output}_argmax", axis=3, keepdims=0)
    if _padded(card):
        # Cropped as int32: TensorRT slices no uint8, and int64 takes twice the memory.
        best = b.op("Cast", [best], f"{output}_int32", to=TensorProto.INT32)
        corner, axes = b.integers([0, 0], f"{output}_corner"), b.integers([1, 2], f"{output}_axes")
        size = _IMAGE_SIZE if card.size is None else b.integers(list(card.size), f"{output}_size")
        best = b.op("Slice", [best, corner, size, axes], f"{output}_cropped")
    b.op("Cast", [best], output, output=output, to=label_type(card))


def _probabilities(b: Builder, card: Card, scores: Scores, last: str, output: str) -> str:
    """Scores `last` [N,h,w,C] to probabilities, by the formulas of serve/inference/sizes.py."""
    plain = corrected = ""
    if scores.off is not False:
        kind = {"softmax": "Softmax", "sigmoid": "Sigmoid", "exp": "Exp"}[card.upsampling.uncorrected]
        axis: dict[str, Any] = {"axis": 3} if kind == "Softmax" else {}
        plain = b.op(kind, [last], f"{output}_uncorrected_probabilities", **axis)
    if scores.off is not True:
        corrected = _of_odds(b, len(card.classes), scores.excluded, last, f"{output}_")
    if plain and corrected:
        return b.op("Where", [str(scores.off), plain, corrected], f"{output}_probabilities")
    return plain or corrected


def _of_odds(b: Builder, C: int, excluded: tuple[int, ...], odds: str, name: str) -> str:
    """Log-odds [N,h,w,C] to probabilities, each class's own, held where float32 would not tell them apart.

    No Sigmoid sees more than MOST_ODDS, or of a best class less than LEAST_ODDS: ONNX Runtime's is exact to
    1.5e-7, and 0 below -18. So the order of a pixel's best classes is kept where they are 0.01 logits apart.
    """
    axis, lowest = b.integers([3], f"{name}class_axis"), b.floats(_LOWEST, f"{name}lowest")
    ends = [b.floats(value, f"{name}{of}") for value, of in ((LEAST_ODDS, "least"), (MOST_ODDS, "most"))]
    out = b.constant(np.isin(np.arange(C), excluded), f"{name}excluded") if excluded else ""
    others = b.op("Where", [out, lowest, odds], f"{name}others") if excluded else odds
    top = b.op("ReduceMax", [others, axis], f"{name}top")
    held = b.op("Clip", [top, *ends], f"{name}held")
    moved = b.op("Sub", [odds, b.op("Sub", [top, held], f"{name}beyond")], f"{name}held_odds")
    found = b.op("Sigmoid", [moved], f"{name}probabilities_of_odds")
    if not excluded:
        return found
    beside = b.op("Where", [out, b.op("Sub", [odds, top], f"{name}beside"), lowest], f"{name}beside_top")
    greatest = b.op("ReduceMax", [beside, axis], f"{name}greatest")
    each = b.op("Exp", [b.op("Sub", [beside, greatest], f"{name}less")], f"{name}each")
    total = b.op("ReduceSum", [each, axis], f"{name}total")
    own = b.op("Log", [b.op("Sigmoid", [held], f"{name}best")], f"{name}log_best")
    logarithms = b.op("Add", [greatest, b.op("Log", [total], f"{name}log_total")], f"{name}log_sum")
    share_odds = b.op("Add", [own, logarithms], f"{name}share_odds")
    share = b.op("Sigmoid", [share_odds], f"{name}share")
    rest = b.op("Sigmoid", [b.op("Neg", [share_odds], f"{name}rest_odds")], f"{name}rest")
    theirs = b.op("Mul", [b.op("Div", [each, total], f"{name}parts"), share], f"{name}of_excluded")
    return b.op(
        "Where", [out, theirs, b.op("Mul", [found, rest], f"{name}of_others")], f"{name}with_excluded"
    )


def label_type(card: Card) -> int:
    """ONNX type of the labels: uint8, or uint16 above 256 classes."""
    return int(TensorProto.UINT8 if len(card.classes) <= 256 else TensorProto.UINT16)


def _padded(card: Card) -> bool:
    return card.stride > 1 and (card.size is None or any(side % card.stride for side in card.size))


def _pads(b: Builder, card: Card) -> str:
    """Pads of [N,3,H,W], begins then ends: constants, or shape arithmetic when the size is dynamic."""
    if card.size is not None:
        return b.integers([0, 0, 0, 0, 0, 0, *(-side % card.stride for side in card.size)], "pads")
    shape = b.op("Shape", ["image"], "image_shape")
    size = b.op("Slice", [shape, b.integers([1], "height_axis"), b.integers([3], "width_end")], "image_size")
    assert size == _IMAGE_SIZE
    stride = b.integers([card.stride], "stride")
    up = b.op("Add", [size, b.integers([card.stride - 1], "stride_less_one")], "size_up")
    whole = b.op("Mul", [b.op("Div", [up, stride], "strides"), stride], "padded_size")
    ends = b.op("Sub", [whole, size], "pad_ends")
    return b.op("Concat", [b.integers([0] * 6, "pad_begins"), ends], "pads", axis=0)
