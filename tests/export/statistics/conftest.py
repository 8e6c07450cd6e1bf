"""Pictures to calibrate on, and a classifier that was."""

from pathlib import Path

import pytest
from calibrated_models import NORMALISED, calibrated, folded
from foreign_segmenters import write_pictures, write_segmenter


@pytest.fixture(scope="session")
def target(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="session")
def plain(target, tmp_path_factory) -> tuple[Path, Path, Path]:
    """The classifier, its statistics, and the two folded with a run-time tau; beside it lies fixed.onnx."""
    model = write_segmenter(tmp_path_factory.mktemp("plain") / "model.onnx")
    stats = calibrated(model, target, *NORMALISED, "--classes", target / "classes.yaml")
    folded(model, stats).rename(model.with_name("fixed.onnx"))
    return model, stats, folded(model, stats, "--runtime-tau", "--uncorrected-labels", "--data", target)
