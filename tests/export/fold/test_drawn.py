"""What a file shows of its correction is what the oracle says, and what is no such thing is not drawn."""

import json

import numpy as np
import oracle
import oracle_scores
import pytest
from random_statistics import as_oracle, random_statistics

from export.fold.drawn import drawn
from serve.card import Key
from serve.demo.tabs.curves import read_drawn


def test_curves_and_bias_agree_with_the_oracle():
    statistics = random_statistics(5, 3, unseen=2)
    rows, anchors, seen = as_oracle(statistics)
    found = read_drawn({Key.CURVES: drawn(statistics)}, 5)
    assert found is not None
    for c, curve in enumerate(found.curves):
        assert (curve is None) == (c == 2)
        if curve is not None:
            expected = oracle.delta(rows, anchors, seen, c, c, curve.logits)
            np.testing.assert_allclose(curve.shift, expected, atol=0.005)
    expected = oracle_scores.bias_without_labels(rows, seen, 40_000, np.random.default_rng(0))
    np.testing.assert_allclose(found.bias, expected, atol=0.01)
    assert abs(found.bias.sum()) < 1e-4


def altered(change) -> str:
    record = json.loads(drawn(random_statistics(3, 0)))
    change(record)
    return json.dumps(record)


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        altered(lambda r: r.pop("bias")),
        altered(lambda r: r["bias"].append(0.0)),
        altered(lambda r: r["shifts"].pop()),
        altered(lambda r: r["shifts"][0].pop("step")),
        altered(lambda r: r["shifts"][0].update(shift=[])),
        altered(lambda r: r["shifts"][0].update(shift="abc")),
        altered(lambda r: r.update(shifts=[None] * 3)),
    ],
)
def test_what_is_altered_is_not_drawn(text):
    assert read_drawn({Key.CURVES: text}, 3) is None


def test_files_without_curves_are_not_drawn():
    text = drawn(random_statistics(3, 0))
    assert read_drawn({Key.CURVES: text}, 3) is not None
    assert read_drawn({}, 3) is None
    assert read_drawn({Key.CURVES: text}, 4) is None
