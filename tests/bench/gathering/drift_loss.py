"""How `serve drift` goes together with what a network really loses, on the evidence's pairs and corruptions.

    python tests/bench/gathering/drift_loss.py --data DIR --runs evidence --out DIR [--seeds 0 1 2]

--runs holds finished source-only runs of `make evidence` (SHIFT/source-SEED), --data the pictures that its
recipes name. For every run, half of the source's blocks of pictures are gathered as the reference; the other
half is looked at as it is and in five corruptions at five strengths, then the target, and CamVid's drives by
themselves. Each is a point: what drift says without labels, and the mIoU that labels say. Points are kept in
--out as they come, and made once. Then the rank correlations are printed, and a scatter is drawn.

`same` gathers twice from the same domain, 500 times each, and counts alarms at 1 % nominal.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.append(str(Path(__file__).parents[1] / "evidence"))

import numpy as np
import torch
from corruptions import KINDS, STRENGTHS
from drift_points import Blocks, Network, blocks_of, look, spread
from drift_same import alarms
from drift_summary import scatter, summary
from evidence_shifts import ORDER, load_shift, place_of

from adapt.data.classes import load_classes
from adapt.data.datasets import LabelledFolder
from adapt.evaluation.scores import Scores
from adapt.run.cards import CARD
from adapt.run.run import load_run
from serve.fleet.drift import Drift, drift

LOOKED_AT, REFERENCE = 12, 24
"""Blocks at most, of 4 pictures."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", nargs="+", choices=ORDER, default=list(ORDER))
    parser.add_argument("--svg", type=Path, help="draw the scatter here")
    parser.add_argument("--only", choices=("points", "same", "summary"), help="one part alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds if given.only in (None, "points") else ():
        for shift in given.pairs:
            _measure(given.data, given.runs, given.out, shift, seed)
    if given.only in (None, "same"):
        for name, counted in alarms(given.out):
            print(name, counted, flush=True)
    points = [point for path in sorted(given.out.glob("*.jsonl")) for point in _read(path)]
    print(summary(points))
    if given.svg is not None:
        given.svg.write_text(scatter(points))
    return 0


def _measure(data: Path, runs: Path, out: Path, shift: str, seed: int) -> None:
    """The points of one run that are not there yet."""
    place, folder = out / f"{shift}-{seed}.jsonl", runs / shift / f"source-{seed}"
    if not (folder / CARD).exists() or not load_run(folder).card.finished:
        return
    done = {point["name"] for point in _read(place)} if place.exists() else set()
    recipe, run = load_shift(shift), load_run(folder)
    pictures = place_of(recipe, data, out / "data", seed)
    opened = partial(LabelledFolder, classes=load_classes(recipe.class_file), size=run.config.data.size)
    source, target = opened(pictures.source), opened(pictures.evaluate)
    blocks = blocks_of(source)
    reference = spread(blocks[::2], REFERENCE)
    network = Network.of(run, [sample for block in reference for sample in block])
    kept = out / "gathered" / f"{shift}-{seed}"
    kept.mkdir(parents=True, exist_ok=True)
    before = look(network, reference, kept / "reference")
    for name, looked in _conditions(blocks[1::2], blocks_of(target), source, shift):
        if name in done:
            continue
        after = look(network, looked, kept / name)
        said = drift(kept / name, kept / "reference")
        point = _point(said, network.subject.rule.step, before, after)
        with place.open("a") as file:
            file.write(json.dumps({"pair": shift, "seed": seed, "name": name, **point}) + "\n")
        print(shift, seed, name, f"lost {point['lost']:.1f}, moved {point['moved']:.2f}", flush=True)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _conditions(
    others: Blocks, target: Blocks, source: LabelledFolder, shift: str
) -> Iterator[tuple[str, Blocks]]:
    """What is looked at, by name."""
    clean = spread(others, LOOKED_AT)
    yield "same", clean
    for kind, corrupt in KINDS.items():
        for strength in STRENGTHS:
            rng = np.random.default_rng(strength)
            yield (
                f"{kind}-{strength}",
                [[each._replace(image=corrupt(each.image, strength, rng)) for each in b] for b in clean],
            )
    yield "target", spread(target, LOOKED_AT)
    if shift == "dusk":
        for drive in ("0006R0", "0016E5"):
            yield f"drive {drive}", spread(blocks_of(source, drive)[1::2], LOOKED_AT)
        yield "drive 0001TP, first half", target[: len(target) // 2]
        yield "drive 0001TP, second half", target[len(target) // 2 :]


def _point(found: Drift, step: float, before: Scores, after: Scores) -> dict[str, Any]:
    """What drift says, and what labels say; of classes that either side lacks, nothing."""
    now, then = found.now, found.then
    known = np.isfinite(before.iou) & np.isfinite(after.iou)
    relative = found.distance / _spread(then.distribution, step)
    shares = [np.nan_to_num(side.share) for side in (then, now)]
    sure = [
        float(share @ np.nan_to_num(side.confidence)) for share, side in zip(shares, (then, now), strict=True)
    ]
    lost = np.where(known, 100 * (before.iou - after.iou), np.nan)
    return {
        "lost": float(np.nanmean(lost)),
        "alarm": found.alarm.alarmed,
        "p": found.alarm.p,
        "unlikeness": found.overall,
        "moved": float(np.nanmean(relative)),
        "most moved": float(np.nanmax(relative)),
        "shares": float(np.abs(shares[1] - shares[0]).sum() / 2),
        "confidence": sure[0] - sure[1],
        "classes": [
            [name, _plain(lost[c]), _plain(relative[c]), bool(found.alarm.drifted[c])]
            for c, name in enumerate(found.classes)
        ],
    }


def _spread(distribution: np.ndarray, step: float) -> np.ndarray:
    """[C] standard deviation of positive logits, in logits; NaN of a class without any."""
    z = step * np.arange(distribution.shape[1])
    variance = distribution @ z**2 - (distribution @ z) ** 2
    return np.sqrt(np.where(variance > 0, variance, np.nan))


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
