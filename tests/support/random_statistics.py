"""Statistics of chance, and the same for the oracle."""

import numpy as np
import oracle
import torch

from adapt.balance.logit_statistics import (
    ShiftStatistics,
)
from adapt.balance.mixtures import Mixture


def random_statistics(C: int, seed: int, K: int = 5, unseen: int | None = None) -> ShiftStatistics:
    """Rows that differ between classes and anchors that match none of them, as in a biased network."""
    rng = np.random.default_rng(seed)

    def mixtures(*shape: int, centre: np.ndarray | float) -> Mixture:
        weights = rng.dirichlet(np.ones(K), size=shape)
        means = np.asarray(centre)[..., None] + rng.normal(0, 2, size=(*shape, K))
        variances = rng.uniform(0.1, 4, size=(*shape, K))
        return Mixture(*(torch.tensor(x) for x in (weights, means, variances)))

    centre = np.where(np.eye(C, dtype=bool), 6.0, -2.0) + rng.normal(0, 1.5, size=(C, C))
    seen = torch.ones(C, dtype=torch.bool)
    if unseen is not None:
        seen[unseen] = False
    rows, anchors = mixtures(C, C, centre=centre), mixtures(2, centre=np.array([6.0, -2.0]))
    return ShiftStatistics(rows, anchors, seen)


def as_oracle(s: ShiftStatistics) -> tuple[oracle.Mixture, oracle.Mixture, np.ndarray]:
    def plain(mixture: Mixture) -> oracle.Mixture:
        weights, means, variances = (p.double().numpy() for p in mixture)
        return weights, means, variances

    return plain(s.rows), plain(s.anchors), s.seen.numpy()
