"""Kinds of files that were hunted for: odd endings and types, old resizes, graphs in graphs, labels painted.

Each is the colour classifier, changed: what is done to it, how it is written before, and what its test needs.
"""

from typing import Any

import numpy as np
from foreign_steps import (
    BFLOAT16,
    CHOSEN,
    DOUBLE,
    FLOAT,
    HALF,
    MAP,
    NHWC,
    PALETTE,
    RESIZED,
    SIZE_OF_PICTURE,
    UINT8,
    UP,
    Change,
    Step,
    argmax,
    ends,
    flat,
    labels,
    looped,
    painted,
    picture,
    quantised_operators,
    resize,
    softmax,
    sparse,
    step,
)
from onnx import TensorProto

Odd = tuple[Change, dict[str, Any], dict[str, Any]]
UNIT = {"options": {"mean": (0.0,) * 3, "std": (1.0,) * 3}}


def unpainted(outputs: list[np.ndarray]) -> np.ndarray:
    """Labels of colours."""
    return np.abs(outputs[0][0].astype(int)[..., None, :] - PALETTE.astype(int)).sum(-1).argmin(-1)


def less_one(outputs: list[np.ndarray]) -> np.ndarray:
    return outputs[0][0, 0] - 1


def first_channel(outputs: list[np.ndarray]) -> np.ndarray:
    return outputs[0][0, 0]


def last_channel(outputs: list[np.ndarray]) -> np.ndarray:
    return outputs[0][0, ..., 0]


def over_255(outputs: list[np.ndarray]) -> np.ndarray:
    return outputs[0][0] / 255


def in_rows(outputs: list[np.ndarray]) -> np.ndarray:
    """[N, h w, C] or [N, C, h w] or [N, h w] as pictures."""
    found = outputs[0][0]
    if found.ndim == 1:
        return found.reshape(MAP)
    return (found.T if found.shape[-1] == 4 else found).reshape(4, *MAP)


ODD: dict[str, Odd] = {
    "opset 8, Upsample": (
        ends(step("Upsample", mode="linear", scales=[1.0, 1.0, 4.0, 4.0])),
        {"opset": 8},
        {},
    ),
    "opset 9, Upsample": (ends(step("Upsample", UP, mode="linear")), {"opset": 9}, {}),
    "opset 9, nearest, argmax": (labels(step("Upsample", UP, mode="nearest"), argmax()), {"opset": 9}, {}),
    "opset 10, Resize": (ends(step("Resize", UP, mode="linear")), {"opset": 10}, {}),
    "Resize with antialias": (labels(resize(mode="linear", antialias=1), argmax()), {}, {}),
    "Resize, cubic": (labels(resize(mode="cubic"), argmax()), {}, {}),
    "Resize, corners aligned": (
        labels(resize(mode="linear", coordinate_transformation_mode="align_corners"), argmax()),
        {},
        {},
    ),
    "upsampled to the picture's shape": (ends(*SIZE_OF_PICTURE, RESIZED), {}, {}),
    "half logits of a float picture": (ends(step("Cast", to=HALF), kind=HALF), {}, {}),
    "float logits of a half picture": (ends(step("Cast", to=FLOAT), softmax()), {"dtype": HALF}, {}),
    "double logits": (ends(step("Cast", to=DOUBLE), kind=DOUBLE), {}, {}),
    "double inside": (labels(step("Cast", to=DOUBLE), step("Mul", 2.0), argmax()), {}, {}),
    "bfloat16 logits": (ends(step("Cast", to=BFLOAT16), kind=BFLOAT16), {}, {}),
    "argmax over the last axis, last index": (
        labels(step("Transpose", perm=NHWC), argmax(-1, select_last_index=1)),
        {},
        {"read": last_channel},
    ),
    "argmax over axis -3": (labels(softmax(-3), argmax(-3, keepdims=0), rank=3), {}, {}),
    "softmax of pixels in a row": (
        ends(step("Transpose", perm=NHWC), flat(-1, 4), softmax(-1), flat(1, *MAP, 4)),
        {"size": (64, 96)},
        {},
    ),
    "probabilities in a row": (
        ends(step("Transpose", perm=NHWC), flat(0, -1, 4), softmax(-1), rank=3),
        {},
        {"read": in_rows},
    ),
    "logits in a row": (ends(flat(0, 0, -1), rank=3), {}, {"read": in_rows}),
    "labels in a row": (labels(flat(0, 0, -1), argmax(keepdims=0), rank=2), {}, {"read": in_rows}),
    "probabilities times 255": (
        ends(softmax(), step("Mul", np.float32(255)), step("Cast", to=UINT8), kind=UINT8),
        {},
        {"read": over_255},
    ),
    "logarithm of a softmax": (ends(softmax(), step("Log")), {}, {}),
    "int8 model in QDQ form, softmax": (
        ends(
            softmax(),
            step("QuantizeLinear", np.float32(1 / 256), np.int8(-128)),
            step("DequantizeLinear", np.float32(1 / 256), np.int8(-128)),
        ),
        {},
        {},
    ),
    "whole numbers of a quantised output": (
        ends(step("QuantizeLinear", np.float32(0.25), np.uint8(128)), kind=UINT8),
        {},
        {},
    ),
    "QLinearConv": (quantised_operators, {}, {}),
    "painted": (painted(UINT8), {}, {"read": unpainted}),
    "painted in floats": (painted(FLOAT), {}, {"read": unpainted}),
    "one-hot labels": (
        ends(argmax(keepdims=0), step("OneHot", np.int64(4), np.array([0, 1], np.float32), axis=1)),
        {},
        {},
    ),
    "labels from 1": (labels(argmax(), step("Add", np.int64(1))), {}, {"read": less_one}),
    "labels in floats": (ends(argmax(), step("Cast", to=FLOAT)), {}, {}),
    "labels, cropped": (
        labels(argmax(), step("Slice", np.array([0, 0]), np.array([9999, 9999]), np.array([2, 3]))),
        {},
        {},
    ),
    "labels and how sure they are": (
        ends(
            softmax()._replace(name="odd_shares"),
            argmax(),
            step("Cast", to=FLOAT)._replace(name="odd_labels"),
            step("ReduceMax", np.array([1]))._replace(reads=("odd_shares",), name="odd_sure"),
            step("Concat", axis=1)._replace(reads=("odd_labels", "odd_sure")),
        ),
        {},
        {"read": first_channel},
    ),
    "the two best": (
        labels(Step("TopK", (np.array([2]),), {"axis": 1}, outputs=2)),
        {},
        {"read": first_channel},
    ),
    "If in front": (CHOSEN, {}, UNIT),
    "If in front, opset 11": (CHOSEN, {"opset": 11}, UNIT),
    "Loop behind": (looped, {}, {}),
    "LayerNormalization": (
        ends(
            step("Transpose", perm=NHWC),
            step("LayerNormalization", np.float32([1, 1.1, 0.9, 1]), np.float32([0, 0.1, 0, -0.1]), axis=-1),
        ),
        {},
        {},
    ),
    "GroupNormalization": (
        ends(
            step("GroupNormalization", np.float32([1, 1.1, 1, 1]), np.float32([0, 0.1, 0, 0]), num_groups=2)
        ),
        {"opset": 21},
        {},
    ),
    "sparse weights": (sparse, {}, {}),
    "sizes of -1": (picture(dims={0: -1, 2: -1, 3: -1}), {}, {}),
    "opset 26": (ends(step("Identity")), {"opset": 26}, {}),
    # refused, each in its own words
    "GroupNormalization of opset 18": (
        ends(step("GroupNormalization", np.float32([1, 1.1]), np.float32([0, 0.1]), num_groups=2)),
        {},
        {"refused": "is not valid ONNX"},
    ),
    "four channels": (picture(dims={1: 4}), {}, {"refused": "takes pictures of 4 channels"}),
    "grey": (picture(dims={1: 1}), {}, {"refused": "takes pictures of 1 channel,"}),
    "multi-label": (
        ends(step("Sigmoid"), step("Greater", np.float32(0.5)), kind=TensorProto.BOOL),
        {},
        {"refused": "no output that leads to logits"},
    ),
    "one sigmoid as two classes": (
        ends(
            step("Slice", np.array([0]), np.array([1]), np.array([1])),
            step("Sigmoid")._replace(name="odd_is"),
            step("Neg"),
            step("Add", np.float32(1))._replace(name="odd_not"),
            step("Concat", axis=1)._replace(reads=("odd_not", "odd_is")),
        ),
        {},
        {"refused": "holds probabilities"},
    ),
    "strides that differ": (
        ends(step("Conv", np.ones((4, 1, 1, 2), np.float32), group=4, strides=[1, 2])),
        {},
        {"refused": "at one stride along both sides"},
    ),
    "something else each time": (
        ends(
            step("RandomNormalLike", scale=3.0)._replace(name="odd_noise"),
            step("Add")._replace(reads=("logits", "odd_noise")),
        ),
        {},
        {"refused": "something else of the same picture each time"},
    ),
    "an operator of nobody's": (
        ends(step("Magic", domain="nobody")),
        {},
        {"refused": "can't be opened as an ONNX graph"},
    ),
}
