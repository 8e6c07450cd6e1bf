"""A classifier's statistics gathered and folded by the commands, and what it says by its definition."""

from pathlib import Path

import cv2
import foreign_segmenters as foreign
import numpy as np
from click.testing import CliRunner, Result
from foreign_segmenters import MEAN, STD

from export.cli.commands import main

NORMALISED = ("--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD)))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def calibrated(model: Path, target: Path, *options: object) -> Path:
    """Calibrate beside the model; returns the statistics. What lies there already, another test needs."""
    out = model.with_suffix(".safetensors")
    result = call("calibrate", model, "--target", target, *options, "-o", out)
    assert result.exit_code == 0, result.output
    assert f"--stats {out} -o corrected.onnx" in result.output
    return out


def folded(model: Path, stats: Path, *options: object) -> Path:
    out = model.with_name(f"{model.stem}-corrected.onnx")
    result = call("onnx", model, "--with-correction", "--stats", stats, "-o", out, *options)
    assert result.exit_code == 0, result.output
    assert "passed: against" in result.output
    return out


def images_of(folder: Path) -> list[np.ndarray]:
    paths = sorted((folder / "images").iterdir())
    return [np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in paths]


def oracle_logits(image: np.ndarray) -> np.ndarray:
    """The classifier by its definition, float64 [C, h, w]."""
    height, width = image.shape[:2]
    side = foreign.SIDE
    colour = image.reshape(height // side, side, width // side, side, 3).mean((1, 3)) / 255
    centre = (foreign.COLOURS / 255 - MEAN) / STD
    x = (colour - MEAN) / STD
    return (2 * x @ centre.T - (centre**2).sum(1) + foreign.FAVOUR).transpose(2, 0, 1)
