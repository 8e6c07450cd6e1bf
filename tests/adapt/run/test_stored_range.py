"""The range that statistics were counted in is read back, is optional, and is refused if it was altered."""

from types import SimpleNamespace

import pytest
import torch
from random_statistics import random_statistics

from adapt.balance.bins import LOGIT_RANGE
from adapt.balance.logit_statistics import LogitStatistics
from adapt.balance.online import Balance
from adapt.run import run
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


def test_an_unfinished_run_hands_on_the_range_of_its_running_statistics(tmp_path, monkeypatch) -> None:
    """What `export` folds of it says where it was counted; before anything was, in the range of before."""
    balance = Balance(LogitStatistics(3), lambda tensor: tensor, 4)
    monkeypatch.setattr(run, "new_statistics", lambda config, classes: LogitStatistics(classes))
    method = SimpleNamespace(self_training=False, balance="online")

    def stored() -> tuple[float, float]:
        opened = run.Run(tmp_path, None, SimpleNamespace(method=method), SimpleNamespace(__len__=None))
        tensors = run.prefixed("statistics", balance.statistics.state_dict())
        object.__setattr__(opened, "tensors", tensors)
        object.__setattr__(opened, "classes", ("a", "b", "c"))
        return opened.shift_statistics().logit_range

    assert stored() == LOGIT_RANGE
    logits = 0.01 * torch.randn(1, 3, 8, 8)
    balance.take_source(logits, torch.randint(0, 3, (1, 32, 32)))
    low, high = stored()
    assert low < float(logits.min()) and float(logits.max()) < high < 0.2
