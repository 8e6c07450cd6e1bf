"""A run of a small network, for the tests that hold a file against its run."""

from pathlib import Path

import cv2
import pytest
import tiny
from click.testing import CliRunner

from adapt.cli import main


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny.make_domains(tmp_path_factory.mktemp("domains"))
    for file in root.rglob("*.png"):
        picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), cv2.resize(picture, tiny.SERVED_SIZE[::-1], interpolation=cv2.INTER_NEAREST))
    return root


@pytest.fixture(scope="module")
def run(domains: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    settings = ("method.balance=posthoc", "training.iterations=30")
    assert CliRunner().invoke(main, tiny.train_arguments(domains, folder, *settings)).exit_code == 0
    return folder
