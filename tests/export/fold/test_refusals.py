"""What cannot be folded is refused in one sentence."""

import onnx
import pytest
from onnx import helper
from onnx_segmenters import (
    card,
    plain_segmenter,
    statistics,
)

from adapt.errors import InputError
from export.fold.fold import Strength, fold


def with_opset(version: int) -> onnx.ModelProto:
    model = plain_segmenter(3)
    model.opset_import[0].version = version
    return model


def with_two_outputs() -> onnx.ModelProto:
    model = plain_segmenter(3)
    model.graph.output.append(helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [1, 3]))
    return model


@pytest.mark.parametrize(
    ("model", "classes", "stats_classes", "tau", "message"),
    [
        (plain_segmenter(3), 4, 4, 0.2, "3 channels, the class list 4"),
        (plain_segmenter(3), 3, 4, 0.2, "statistics are of 4 classes, the model has 3"),
        (plain_segmenter(3), 3, 3, 2.5, r"must lie in \[0, 2\]"),
        (with_opset(17), 3, 3, 0.2, "opset 17, the least that can be folded is 18"),
        (with_two_outputs(), 3, 3, 0.2, "one output .*y of rank 4, other of rank 2"),
    ],
)
def test_what_cannot_be_folded_is_refused_in_one_sentence(model, classes, stats_classes, tau, message):
    with pytest.raises(InputError, match=message):
        fold(model, card(classes), Strength(statistics(stats_classes), "", tau))
