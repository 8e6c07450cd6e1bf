"""Deployable graphs of a tiny network."""

import onnx
from onnx_segmenters import card, plain_segmenter, statistics

from export.fold.fold import Extras, Strength, fold


def folded(tau: float = 0.5, runtime: bool = False, size=None) -> onnx.ModelProto:
    return fold(
        plain_segmenter(4), card(4, size), Strength(statistics(4, 1), "random", tau, runtime), Extras()
    )
