"""One colour classifier in the many shapes in which people export segmenters, and pictures to classify."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
COLOURS = np.array([[90, 90, 90], [60, 120, 200], [150, 110, 60], [200, 60, 60]])
NAMES = ("ground", "sky", "wall", "sign")
FAVOUR = np.array([0.0, 2.0, 0.0, -2.0])
"""What the classifier adds to its logits and should not: it sees too much sky and too few signs."""
SIDE = 4
"""Pixels per logit pixel along each side."""


def write_segmenter(
    path: Path,
    *,
    layout: str = "NCHW",
    order: str = "RGB",
    inside: int = 0,
    dtype: int = TensorProto.FLOAT,
    out_layout: str = "NCHW",
    upsample: bool = False,
    tail: str = "",
    opset: int = 18,
    size: tuple[int, int] | None = None,
    batch: int | str = "N",
) -> Path:
    """Write the classifier: the mean colour of 4x4 pixels, normalised, to 4 logits.

    Args:
        inside: 1 or 255: the graph itself normalises pixels up to that value; 0 leaves it to the caller.
        tail: "Softmax", "ArgMax" or "two", which adds another output.
    """
    nodes, weights, value = [], {}, "picture"

    def add(kind: str, *constants: np.ndarray, **attributes: object) -> None:
        nonlocal value
        names = [f"{kind}{len(nodes)}_{i}" for i in range(len(constants))]
        weights.update(zip(names, constants, strict=True))
        nodes.append(helper.make_node(kind, [value, *names], [f"value{len(nodes)}"], **attributes))
        value = nodes[-1].output[0]

    if dtype != TensorProto.FLOAT:
        add("Cast", to=TensorProto.FLOAT)
    if layout == "NHWC":
        add("Transpose", perm=[0, 3, 1, 2])
    mean, std = (np.array(part, np.float32).reshape(1, 3, 1, 1) for part in (MEAN, STD))
    if order == "BGR":
        add("Gather", np.array([2, 1, 0]), axis=1)
    if inside:
        add("Sub", mean * inside)
        add("Div", std * inside)
    centre = (COLOURS / 255 - MEAN) / STD
    kernel = np.tile((2 * centre / SIDE**2)[:, :, None, None], (1, 1, SIDE, SIDE)).astype(np.float32)
    add("Conv", kernel, (FAVOUR - (centre**2).sum(1)).astype(np.float32), strides=[SIDE, SIDE])
    if upsample:
        scales = np.array([1, 1, SIDE, SIDE], np.float32)
        add("Resize", np.zeros(0, np.float32), scales, mode="linear")
    if out_layout == "NHWC":
        add("Transpose", perm=[0, 2, 3, 1])
    kind, outputs = TensorProto.FLOAT, [value]
    if tail == "Softmax":
        add("Softmax", axis=1)
    if tail == "ArgMax":
        add("ArgMax", axis=1, keepdims=0)
        kind = TensorProto.INT64
    if tail == "two":
        add("Neg")
        outputs = [outputs[0], value]
    else:
        outputs = [value]
    sides = size or ("H", "W")
    shape = [batch, 3, *sides] if layout == "NCHW" else [batch, *sides, 3]
    inner = ["n", "a", "b", "c"][: 3 if tail == "ArgMax" else 4]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("picture", dtype, shape)],
        [helper.make_tensor_value_info(name, kind, inner) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def write_pictures(root: Path, count: int = 6, size: tuple[int, int] = (64, 96), seed: int = 0) -> Path:
    """root/images, root/labels and root/classes.yaml: noisy colours that overlap, and signs are rare."""
    rng = np.random.default_rng(seed)
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    coarse = (size[0] // 16, size[1] // 16)
    for index in range(count):
        labels = rng.choice(4, coarse, p=[0.4, 0.25, 0.25, 0.1]).astype(np.uint8)
        labels = labels.repeat(16, 0).repeat(16, 1)
        noise = rng.normal(0, 45, (size[0] // SIDE, size[1] // SIDE, 3)).repeat(SIDE, 0).repeat(SIDE, 1)
        image = (COLOURS[labels] + noise).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(root / "images" / f"{index}.png"), np.ascontiguousarray(image[..., ::-1]))
        cv2.imwrite(str(root / "labels" / f"{index}.png"), labels)
    rows = [{"id": c, "name": n, "color": COLOURS[c].tolist()} for c, n in enumerate(NAMES)]
    (root / "classes.yaml").write_text(yaml.safe_dump({"ignore": 255, "classes": rows}))
    return root
