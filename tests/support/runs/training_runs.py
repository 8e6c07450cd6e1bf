"""Training on tiny domains, by every host, and what a run has written down."""

import json
from pathlib import Path

import tiny
from click.testing import CliRunner, Result

from adapt.cli import main


def adapt(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def train(domains: Path, out: Path, *more: str) -> Result:
    return adapt(*tiny.train_arguments(domains, out, *more))


def trace(run: Path) -> list[dict[str, float]]:
    """The loss trace, without the rate."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "iterations_per_second"} for line in lines]


def album(run: Path) -> dict[str, bytes]:
    """The pages, file by file."""
    return {path.name: path.read_bytes() for path in (run / "report" / "album").iterdir()}


HOSTS: dict[str, tuple[str, ...]] = {
    "source": ("method.host=source",),
    "dacs": ("method.host=dacs",),
    "daformer": ("method.host=daformer", "method.thing_classes=[box]"),
    "mic": ("method.host=mic", "method.thing_classes=[box]", "method.mask_patch=8"),
    "hrda": ("method.host=daformer", "method.feature_distance=0", "model.multi_resolution=true"),
}
