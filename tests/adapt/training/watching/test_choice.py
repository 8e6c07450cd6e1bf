"""Which classes are pasted where there is no source."""

import math
import random

import pytest
import torch
import watch_oracle

from adapt.training.watching.choice import LEAST, favour_of
from adapt.training.watching.watch import Watch


def test_it_is_what_the_oracle_says() -> None:
    counts = [[random.randint(0, 40) for _ in range(5)] for _ in range(5)]
    got = favour_of(torch.tensor(counts).double(), 0.5)
    want = watch_oracle.favour([list(map(float, row)) for row in counts], 0.5, LEAST)
    assert got.tolist() == pytest.approx(want, abs=1e-6)


def test_rare_and_under_predicted_classes_come_first() -> None:
    even = torch.eye(3).double() * 10
    assert favour_of(even, 0.5).tolist() == [1, 1, 1]
    assert favour_of(torch.zeros(3, 3).double(), 0.5).tolist() == [1, 1, 1]  # nothing was counted
    rare = torch.diag(torch.tensor([80.0, 19, 1])).double()
    assert favour_of(rare, 0.5).argsort(descending=True).tolist() == [2, 1, 0]
    lost = even.clone()
    lost[1] = torch.tensor([10.0, 0, 0])  # the student says class 0 for it
    favour = favour_of(lost, 0.5)
    assert favour.argmax() == 1 and favour.argmin() == 0
    sharper = favour_of(lost, 0.1)
    assert sharper[2] < favour[2] and sharper.min() == pytest.approx(LEAST)


def test_the_watch_keeps_it_and_only_where_it_is_asked_for() -> None:
    watch = Watch("abc", lambda t: t, 0.5)
    logits = torch.zeros(1, 3, 1, 3)
    logits[:, 0] = 1  # class 0 everywhere
    watch.take(logits, torch.tensor([[[0, 0, 1]]]), 1)
    assert watch.favour is not None and watch.favour.tolist() == [1, 1, 1]
    watch.look(1)
    assert watch.favour.argmin() == 0 and not math.isclose(watch.favour[0], watch.favour[1])
    again = Watch("abc", lambda t: t, 0.5)
    again.load_state_dict(watch.state_dict())
    assert torch.equal(again.favour, watch.favour)  # type: ignore[arg-type]
    assert "favour" not in Watch("abc", lambda t: t).state_dict()  # of runs with a source, as they were
