"""Which classes ClassMix pastes where there is no source: those that need it.

DAFormer draws rare classes of the source more often, by their labels. A target has none, but pseudo-labels
have shares, and the watch knows how much less the student predicts a class than the teacher does. From its
counts R[y, l] (row = the teacher's label, column = the student's), of class c

    favour[c] = exp(-(share[c] + C * Bias(c)) / T),    share[c] = sum_l R[c, l] / sum R

with Bias of Li et al. 2025, pseudo-labels for labels: C * Bias(c) is -1 for a class that the student never
predicts and 0 for one without bias. Before anything was counted, all classes are alike.
"""

import torch
from torch import Tensor

from adapt.balance.bias import bias_with_labels

LEAST = 1e-3
"""Of what the most favoured class gets: no class is left out for good."""


def favour_of(counts: Tensor, temperature: float) -> Tensor:
    """[C], greatest 1 and least 1e-3, of counts [C, C], row = the teacher's label, column = the student's."""
    if not bool(counts.any()):
        return torch.ones(len(counts), device=counts.device)
    shares = counts.sum(1) / counts.sum()
    need = -(shares + len(counts) * bias_with_labels(counts)) / temperature
    return (need - need.max()).exp().clamp_min(LEAST).float()
