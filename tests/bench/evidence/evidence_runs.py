"""Train a run of the evidence, or go on with it; a finished one is kept for good."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence_arms import BEGUN, WITH_LABELS, settings_of
from evidence_shifts import Shift, load_shift, place_of

from adapt.commands.train import resume, train
from adapt.run.run import Run, load_run
from serve.media.whole import replacing

ROOT = Path(__file__).parents[3]
COST = "evidence.json"
"""Beside a run's own files: what it took, over all its parts."""


@dataclass(frozen=True)
class Place:
    """Where the evidence is made."""

    data: Path
    """The folder that the recipes' paths are below."""
    out: Path
    """Runs, and data that recipes make."""

    def run(self, shift: str, arm: str, seed: int) -> Path:
        return self.out / shift / f"{arm}-{seed}"


def trained(place: Place, name: str, arm: str, seed: int) -> Run | None:
    """The finished run; None when it was interrupted, and then the next call goes on with it."""
    folder = place.run(name, arm, seed)
    if (folder / "card.json").exists():
        run = load_run(folder)
        if not run.card.finished:
            started = _now()
            run = resume(folder)
            _add_cost(folder, started)
    else:
        shift, first = load_shift(name), None
        if arm in BEGUN and (first := trained(place, name, BEGUN[arm], seed)) is None:
            return None
        started = _now()
        run = _start(folder, shift, arm, place, seed, first)
        _add_cost(folder, started)
    return run if run.card.finished else None


def _start(folder: Path, shift: Shift, arm: str, place: Place, seed: int, first: Run | None) -> Run:
    """From `first`, the finished run that the arm goes on from, without its source; else from nothing."""
    pictures = place_of(shift, place.data, place.out / "data", seed)
    settings = settings_of(arm, shift.settings, shift.things, str(place.data.resolve()), seed)
    target = [pictures.target]
    if first is not None:
        return train(folder, target=target, start=first.path, settings=settings)
    return train(
        folder,
        source=pictures.source,
        target=target,
        target_labels=pictures.few if arm in WITH_LABELS else None,
        classes=shift.class_file,
        preset=None,  # nothing is chosen from the machine
        settings=settings,
    )


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _add_cost(folder: Path, started: tuple[float, float]) -> None:
    """Add seconds since `started` to what earlier parts took."""
    before = cost_of(folder)
    now = _now()
    cost = {
        "seconds": round(before["seconds"] + now[0] - started[0], 1),
        "processor_seconds": round(before["processor_seconds"] + now[1] - started[1], 1),
        "version": version(),
    }
    with replacing(folder / COST) as temporary:
        temporary.write_text(json.dumps(cost) + "\n")


def cost_of(folder: Path) -> dict[str, Any]:
    """seconds, processor_seconds, and the version that trained last."""
    path = folder / COST
    empty = {"seconds": 0.0, "processor_seconds": 0.0, "version": "unknown"}
    return json.loads(path.read_text()) if path.exists() else empty


def version() -> str:
    """The commit of this checkout, with -dirty where code differs from it; results are none."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    code = ("adapt", "serve", "tests/bench", ":!tests/bench/evidence/results")
    changed = git("status", "--porcelain", "--", *code)
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("-dirty" if changed else "")
