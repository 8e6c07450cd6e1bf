"""The two ends of a deployable graph: pictures to normalised pixels, scores to labels."""

import numpy as np
from onnx import TensorProto

from export.fold.nodes import PREFIX, Builder
from serve.card import Card

_IMAGE_SIZE = PREFIX + "image_size"


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


def add_labels(b: Builder, card: Card, scores: str, output: str) -> None:
    """Scores [N,C,h,w] -> `output` [N,H,W]: upsample once, argmax, crop.

    Channels go last while the tensor is small: Resize and ArgMax over the last axis then take well under half
    the time in ONNX Runtime.
    """
    scale = card.output_stride
    full = b.op("Transpose", [scores], f"{output}_channels_last", perm=[0, 2, 3, 1])
    if scale > 1:
        full = b.op(
            "Resize",
            [full, "", b.floats(np.array([1, scale, scale, 1]), f"{output}_scales")],
            f"{output}_upsampled",
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
    best = b.op("ArgMax", [full], f"{output}_argmax", axis=3, keepdims=0)
    if _padded(card):
        # Cropped as int32: TensorRT slices no uint8, and int64 takes twice the memory.
        best = b.op("Cast", [best], f"{output}_int32", to=TensorProto.INT32)
        corner, axes = b.integers([0, 0], f"{output}_corner"), b.integers([1, 2], f"{output}_axes")
        size = _IMAGE_SIZE if card.size is None else b.integers(list(card.size), f"{output}_size")
        best = b.op("Slice", [best, corner, size, axes], f"{output}_cropped")
    b.op("Cast", [best], output, output=output, to=label_type(card))


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
