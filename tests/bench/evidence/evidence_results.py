"""One small JSON per run, committed: what was trained, how, at what cost, and every score."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.evaluation.scores import Scores
from serve.media.whole import replacing

RESULTS = Path(__file__).parent / "results"
FORMAT = 2
MEASURES = ("mean_iou", "mean_accuracy", "std_iou", "sum_abs_bias", "pixel_accuracy")
DIGITS = 5


@dataclass(frozen=True)
class Result:
    """A run, scored."""

    shift: str
    arm: str
    seed: int
    iterations: int
    seconds: float
    """Wall-clock time of the training, on a machine that may have had other work."""
    processor_seconds: float
    trained_by: str
    """Version of the code."""
    scored_by: str
    settings: tuple[str, ...]
    """As `adapt train --set` takes them."""
    scores: dict[str, dict[str, dict[str, Any]]]
    """By way and strength: the shares in MEASURES, and by class `iou`, `accuracy` and `bias`."""
    signs: dict[str, float | None]
    """What is known without labels (evidence_premise)."""
    estimated: dict[str, list[float]]
    """Bias [C] estimated without labels, by strength of the first way."""
    few: dict[str, float]
    """mIoU of the first way on the few labelled pictures that are no part of the evaluation, by strength."""
    watch: dict[str, Any]
    """What the watch said of the training, and what became of it (evidence_watch); empty without it."""


def plain(scores: dict[str, dict[str, Scores]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores as numbers that JSON has, rounded."""
    return {
        way: {strength: rounded(found.to_dict()) for strength, found in by.items()}
        for way, by in scores.items()
    }


def rounded(value: Any) -> Any:
    """The same, with every float in it as short as the page needs."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return {key: rounded(item) for key, item in value.items()} if isinstance(value, dict) else value


def write_result(result: Result, folder: Path = RESULTS) -> Path:
    """Write folder/SHIFT/ARM-SEED.json, whole or not at all."""
    path = path_of(result.shift, result.arm, result.seed, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(_text({"format": FORMAT, **vars(result)}) + "\n")
    return path


def _text(content: dict[str, Any]) -> str:
    """JSON with a line per key, way and strength, so that a change is seen as one."""

    def inner(value: Any, depth: int) -> str:
        if depth == 0 or not isinstance(value, dict) or not value:
            return json.dumps(value)
        space = "  " * (4 - depth)
        lines = [f"{space}{json.dumps(key)}: {inner(item, depth - 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + space[2:] + "}"

    return inner(content, 3)


def path_of(shift: str, arm: str, seed: int, folder: Path = RESULTS) -> Path:
    return folder / shift / f"{arm}-{seed}.json"


def read_results(folder: Path = RESULTS) -> list[Result]:
    """All that are there, in the order of their names."""
    return [read_result(path) for path in sorted(folder.glob("*/*.json"))]


def read_result(path: Path) -> Result:
    content = json.loads(path.read_text())
    if content.pop("format") != FORMAT:
        raise ValueError(f"{path} is not in format {FORMAT}; score its run again")
    return Result(**content | {"settings": tuple(content["settings"])})
