"""What a graph file shows of its correction: curves and estimated bias, ready to be drawn without torch."""

import json

import torch

from adapt.balance.bias import bias_without_labels
from adapt.balance.correction import own_shifts
from adapt.balance.logit_statistics import ShiftStatistics

POINTS = 96
_DIGITS = 6
"""Significant ones."""


def drawn(statistics: ShiftStatistics) -> str:
    """As `serve.demo.tabs.curves.read_drawn` reads it: JSON.

    "bias": [C] (Li et al. 2025, bias), of the uncorrected network, estimated without labels. "shifts": for
    each class Delta[c, c] on an even grid between its quantiles eps and 1 - eps, {"lower", "step", "shift"}
    in logits at tau = 1; null for a class without statistics.
    """
    exact = statistics.to(torch.float64)
    table = own_shifts(exact, POINTS)
    shifts = [
        {
            "lower": _short(float(table.lower[c])),
            "step": float(table.step[c]),
            "shift": [_short(value) for value in table.shift[c].tolist()],
        }
        if seen
        else None
        for c, seen in enumerate(statistics.seen.tolist())
    ]
    bias = [_short(value) for value in bias_without_labels(exact).tolist()]
    return json.dumps({"bias": bias, "shifts": shifts})


def _short(value: float) -> float:
    """Rounded, whatever the scale of the logits."""
    return float(f"{value:.{_DIGITS}g}")
