"""A short run, and a copy of it to be altered."""

import shutil
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner

from adapt.cli import main


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cards")
    tiny.make_domains(root, images=3)
    arguments = tiny.train_arguments(
        root, root / "run", "training.iterations=2", "method.statistics_warmup=1"
    )
    result = CliRunner().invoke(main, [*arguments, "--evaluate", str(root / "target_eval")])
    assert result.exit_code == 0, result.output
    return root / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    target = tmp_path / "run"
    shutil.copytree(run, target)
    return target
