"""Logits that the histograms have no room for are told while a run is trained, once."""

from pathlib import Path

import torch

from adapt.balance.logit_statistics import LogitStatistics
from adapt.balance.online import Balance
from adapt.data.classes import ClassList
from adapt.training.journal import Journal

CLASSES = ClassList(("a", "b", "c"), (0, 1, 2), ((1, 0, 0), (0, 1, 0), (0, 0, 1)), ())


def test_a_masked_class_is_told_once(tmp_path: Path, capsys) -> None:
    logits, labels = torch.randn(1, 3, 16, 16), torch.randint(0, 2, (1, 16, 16))
    balance = Balance(LogitStatistics(3), lambda tensor: tensor, 1)
    journal = Journal(tmp_path, CLASSES, 10, 10, 0, writes=True)
    balance.take_source(logits, labels)
    journal.losses(1, {"loss": 1.0}, 1.0, {}, balance.statistics)
    assert capsys.readouterr().err == ""
    logits[:, 2] = -1e9
    balance.take_target(logits, labels)
    for iteration in (2, 3):
        journal.losses(iteration, {"loss": 1.0}, 1.0, {}, balance.statistics)
    said = capsys.readouterr().err
    assert said.count("16.7% of the logits lie beyond") == 1 and "masked" in said
