"""What is gathered in the field, counted pixel by pixel in float64, from the words of docs/field-loop.md."""

import numpy as np


def counted(logits: np.ndarray, labels: np.ndarray, low: float, step: float, offset, bins: int, levels: int):
    """Counts of logits [C, P] with final labels [P], by name; and how many lay outside of the bins."""
    C, P = logits.shape
    found = {
        "joint": np.zeros((C, C, bins), int),
        "labels": np.zeros(C, int),
        "plain": np.zeros(C, int),
        "agreed": np.zeros(C, int),
        "confidence": np.zeros((C, levels), int),
    }
    outside = 0
    for p in range(P):
        f = [float(z) for z in logits[:, p]]
        if not all(np.isfinite(f)):
            continue
        best = f.index(max(f))
        raised = [z + float(o) for z, o in zip(f, offset, strict=True)]
        row = raised.index(max(raised))
        for l in range(C):
            k = int(np.floor((f[l] - low) / step))
            outside += not 0 <= k < bins
            found["joint"][row, l, min(max(k, 0), bins - 1)] += 1
        found["labels"][labels[p]] += 1
        found["plain"][best] += 1
        found["agreed"][best] += best == labels[p]
        sure = np.exp(f[best]) / np.exp(f).sum()
        found["confidence"][row, min(int(sure * levels), levels - 1)] += 1
    return found, outside
