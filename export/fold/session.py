"""Graphs run here, in ONNX Runtime on the CPU, and their labels held against what labels must be."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.weights.beside import serialised
from serve.card import Card
from serve.inference import opening

Labels = NDArray[Any]
ALTERED = "; it was altered, export it again"
"""Advice for a graph that we have made."""


def open_session(model: onnx.ModelProto, source: str, *, advice: str = "", seldom: bool = False) -> Any:
    """An onnxruntime.InferenceSession of a graph in memory; see `serve.inference.opening.open_session`."""
    graph, folder = serialised(model)
    return opening.open_session(graph, source, advice=advice, seldom=seldom, weights=folder)


def unlike(labels: Labels, shape: tuple[int, ...], card: Card) -> list[str]:
    """What keeps label maps from being those of pictures, in words: their shape, type or values."""
    kind = np.dtype(np.uint8 if len(card.classes) <= 256 else np.uint16)
    found = []
    if labels.shape != shape or labels.dtype != kind:
        found.append(f"labels are {labels.dtype} {list(labels.shape)}, not {kind} {list(shape)}")
    elif int(labels.max()) >= len(card.classes):
        found.append(f"there are labels up to {labels.max()}, but {len(card.classes)} classes")
    return found
