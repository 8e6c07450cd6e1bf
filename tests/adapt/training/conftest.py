"""Tiny domains, a run on them that nothing interrupted, and an encoder of a file."""

from pathlib import Path

import pytest
import tiny
from training_runs import adapt


@pytest.fixture(scope="session")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_domains(tmp_path_factory.mktemp("domains"))


@pytest.fixture(scope="session")
def finished(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, evaluated on the labelled target."""
    run = tmp_path_factory.mktemp("finished") / "run"
    result = adapt(*tiny.train_arguments(domains, run), "--evaluate", str(domains / "target_eval"))
    assert result.exit_code == 0, result.output
    return run


OWN = """
from torch import nn

class Own(nn.Module):
    channels = (8, 8)
    strides = (4, 8)

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 8, 2, stride=2), nn.ReLU())

    def forward(self, pixels):
        fine = self.fine(pixels)
        return [fine, self.coarse(fine)]

build = Own
"""


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Setting of an encoder that counts as pretrained, so that there is something to stay near."""
    file = tmp_path_factory.mktemp("own") / "own.py"
    file.write_text(OWN)
    return f"model.encoder={{factory: '{file}:build'}}"
