"""150 classes: the table is placed in less than a minute, and what it gives is right."""

import numpy as np
import oracle
import pytest
from onnx_segmenters import as_rows, card, correction_alone, logits_as_pixels, statistics
from scipy.special import logsumexp

from export.fold.fold import Extras, Strength, fold


@pytest.mark.slow
def test_150_classes_agree_with_the_oracle():
    """Two of the hypotheses: the oracle takes seconds for each."""
    C, stats = 150, statistics(150, 1)
    model = fold(logits_as_pixels(C), card(C), Strength(stats, "random", 0.2), Extras(scores=True))
    logits = np.random.default_rng(0).normal(0, 5, (1, C, 8, 8)).astype(np.float32)
    scores, f = as_rows(correction_alone(model, logits)), as_rows(logits).astype(np.float64)
    rows, anchors = (tuple(p.double().numpy() for p in m) for m in (stats.rows, stats.anchors))
    for c in (0, 149):
        shifts = [oracle.delta(rows, anchors, stats.seen.numpy(), c, l, f[:, l]) for l in range(C)]
        corrected = f + 0.2 * np.stack(shifts, axis=1)
        exact = corrected[:, c] - logsumexp(np.delete(corrected, c, axis=1), axis=1)
        assert np.abs(scores[:, c] - exact).max() <= 0.02
    assert model.ByteSize() < 30e6
