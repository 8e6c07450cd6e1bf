"""The range that statistics were counted in is read back, is optional, and is refused if it was altered."""

import pytest
import torch
from random_statistics import random_statistics

from adapt.balance.bins import LOGIT_RANGE
from adapt.run.stored import stored_statistics


def test_statistics_of_older_versions_had_the_range_of_before() -> None:
    state = random_statistics(3, 0).state()
    del state["logit_range"], state["outside"]
    found = stored_statistics(state, 3)
    assert found.logit_range == LOGIT_RANGE and found.outside == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logit_range", [0.0]),
        ("logit_range", [1.0, 1.0]),
        ("logit_range", [float("nan"), 1.0]),
        ("outside", 1.5),
    ],
)
def test_altered_ranges_are_refused(name: str, value: object) -> None:
    state = random_statistics(3, 0).state()
    state[name] = torch.tensor(value, dtype=torch.float64)
    with pytest.raises(ValueError, match="logit_range"):
        stored_statistics(state, 3)
