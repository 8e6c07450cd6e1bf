"""Kinds of files that take something beside the picture, the same at every run."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from foreign_odd import Odd
from foreign_steps import Change, argmax, ends, labels, softmax, step
from onnx import TensorProto, helper
from task_files import IDS, one_former, task, write_tokenizer

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
POOLED = {"kernel_shape": [4, 4], "strides": [4, 4]}


def taking(name: str, kind: int, shape: list[Any], change: Change) -> Change:
    """A change, and an input more that it reads."""

    def changed(model: onnx.ModelProto, path: Path) -> None:
        model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
        change(model, path)

    return changed


def with_tokenizer(model: onnx.ModelProto, path: Path) -> None:
    write_tokenizer(path.parent)
    one_former(model, path)


FLAG = taking(
    "is_training", BOOL, [], ends(step("Dropout", np.float32(0.5))._replace(reads=("$",)), step("Identity"))
)


def flag(model: onnx.ModelProto, path: Path) -> None:
    """A dropout that a flag turns on."""
    FLAG(model, path)
    dropout = next(node for node in model.graph.node if node.op_type == "Dropout")
    dropout.input.append("is_training")
    onnx.save(model, path)


MASK = taking(
    "mask",
    FLOAT,
    ["N", 1, "H", "W"],
    ends(
        step("MaxPool", **POOLED)._replace(reads=("mask",), name="odd_seen"),
        step("Mul")._replace(reads=("logits", "odd_seen")),
    ),
)
PIXEL_MASK = taking(
    "pixel_mask",
    INT64,
    ["batch", "rows", "columns"],
    ends(
        step("Unsqueeze", np.array([1]))._replace(reads=("pixel_mask",)),
        step("Cast", to=FLOAT),
        step("MaxPool", **POOLED)._replace(name="odd_seen"),
        step("Mul")._replace(reads=("logits", "odd_seen")),
    ),
)
LABELS_RESIZED = taking(
    "orig_size",
    INT64,
    [4],
    labels(softmax(), argmax(), step("Expand")._replace(reads=("$", "orig_size"))),
)
GIVEN = ",".join(map(str, (*IDS, *[0] * (77 - len(IDS)))))
TASK = {"task_inputs": task()}
SEEN = {"mask": np.ones((1, 1, 64, 96), np.float32)}

BESIDE: dict[str, Odd] = {
    "a flag for training": (
        flag,
        {},
        {"options": {"inputs": ("is_training=false",)}, "feed": {"is_training": np.array(False)}},
    ),
    "a flag, not said": (flag, {}, {"refused": "as in --input is_training=false"}),
    "a mask": (MASK, {}, {"options": {"inputs": ("mask=1",)}, "feed": SEEN}),
    "a mask, not said": (MASK, {}, {"refused": "as in --input mask=1 or --input mask=FILE.npy"}),
    "pixel_mask": (PIXEL_MASK, {}, {"feed": {"pixel_mask": np.ones((1, 64, 96), np.int64)}}),
    "a size for labels alone": (
        LABELS_RESIZED,
        {},
        {"feed": {"orig_size": np.array([1, 1, 16, 24])}},
    ),
    "OneFormer with its tokenizer": (with_tokenizer, {}, {"feed": TASK}),
    "OneFormer, its task given": (
        one_former,
        {},
        {"options": {"inputs": (f"task_inputs={GIVEN}",)}, "feed": TASK},
    ),
    "OneFormer, its task not said": (one_former, {}, {"refused": "takes task_inputs (int64 [N, 77])"}),
}
