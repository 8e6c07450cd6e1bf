"""A simulated fleet, once around: 50 devices in three places gather for five days; one place turns dusk.

    python tests/bench/gathering/fleet.py [--out fleet] [--devices 50] [--jobs 6]    # or: make fleet

It draws streets, trains a small network on them by day and exports it; devices are processes, so many at a
time, and ten are killed with -9 at random frames and started again. Then it does what a person would do:
`serve merge --by place`, `serve drift` for every place and day against the place's first two days, and
`export onnx --stats` with what was gathered where it drifted. What is claimed is checked, and the exit code 1
if a claim does not hold: which place, which day, which classes; better there on labelled frames and no worse
elsewhere; what a kill costs. A network that is there from an earlier call is not trained again.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
from device import DAY, DAYS, DUSK, FIRST, FIRST_DAYS, FRAMES
from places import PLACES, at_dusk, write_labelled

from adapt.synthetic.sample import SUBURB
from serve.gathering.store import Gathered

ROOT = Path(__file__).parents[3]
KILLED, INTERVAL, LATE = 10, 2.0, 1.0
"""Devices, seconds between two writings, and those that a writing may take on a busy machine."""
WORSE = 0.5
"""mIoU, in per cent, that counts as no worse: about what 60 pictures leave open."""
LABELLED = 60


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("fleet"))
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=6, help="devices that run at a time")
    given = parser.parse_args()
    model = _model(given.out)
    given.out = given.out.resolve()
    begin = time.monotonic()
    losses = _gather(given.out, model, given.devices, given.jobs)
    print(f"{given.devices} devices gathered in {time.monotonic() - begin:.0f} s", flush=True)
    claims = _kill_claims(given.out, given.devices, losses)
    named = _report(given.out)
    claims += _report_claims(named)
    claims += _act(given.out, model, named)
    for claim, holds in claims:
        print(f"{'holds ' if holds else 'MISSED'}  {claim}")
    return 0 if all(holds for _, holds in claims) else 1


Claims = list[tuple[str, bool]]


def run(*words: object, allowed: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """A command of ours, as a person types it. Raises SystemExit with its output if it fails."""
    command = [sys.executable, "-m", *map(str, words)]
    print("$", *map(str, words), flush=True)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode not in allowed:
        raise SystemExit(done.stdout + done.stderr)
    return done


def _model(out: Path) -> Path:
    """The model that is shipped: trained and folded by day."""
    out = out.resolve()
    model = out / "model.onnx"
    if model.exists():
        return model
    shutil.rmtree(out, ignore_errors=True)
    write_labelled(out / "data/source", SUBURB, 1, 160)
    target = []
    for number, (name, place) in enumerate(PLACES.items()):
        target += ["--target", write_labelled(out / "data/by-day" / name, place, 10 + number, 40) / "images"]
        write_labelled(out / "data/labelled" / name, place, 20 + number, LABELLED)
    write_labelled(out / "data/labelled/dusk", at_dusk(PLACES[DUSK]), 30, LABELLED)
    settings = ("training.iterations=500", "method.host=source", "method.balance=posthoc")
    options = [word for each in settings for word in ("--set", each)]
    run(
        "adapt",
        "train",
        "--preset",
        "demo",
        *options,
        "--source",
        out / "data/source",
        *target,
        "-o",
        out / "run",
    )
    run("export", "onnx", out / "run", "--gather", "-o", model)
    return model


@dataclass(frozen=True)
class Loss:
    """What a kill cost."""

    frames: int
    age: float
    """Seconds from the oldest lost frame to the kill; 0 if none was lost."""


def _names(devices: int) -> dict[str, str]:
    """Place of each device."""
    places = list(PLACES)
    return {f"{places[n % 3]}-{n // 3:02d}": places[n % 3] for n in range(devices)}


def _gather(out: Path, model: Path, devices: int, jobs: int) -> list[Loss]:
    for part in ("first", "then", "journal"):
        shutil.rmtree(out / part, ignore_errors=True)
        (out / part).mkdir()
    names, rng = _names(devices), np.random.default_rng(7)
    with (out / "places.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("device", "place"), *names.items()])
    doomed = rng.choice(devices, min(KILLED, devices), replace=False)
    at = {int(n): int(rng.integers(1, DAYS * FRAMES)) for n in doomed}

    def tend(number: int) -> Loss | None:
        name, place = list(names.items())[number]
        words = [
            sys.executable,
            Path(__file__).with_name("device.py"),
            model,
            out,
            name,
            place,
            number,
            INTERVAL,
        ]
        command, loss = list(map(str, words)), None
        if number in at:
            loss = _kill(subprocess.Popen(command), out, name, at[number])
        subprocess.run(command, check=True)
        return loss

    with ThreadPoolExecutor(jobs) as pool:
        return [loss for loss in pool.map(tend, range(devices)) if loss is not None]


def _kill(process: subprocess.Popen[bytes], out: Path, name: str, frame: int) -> Loss:
    """kill -9 when so many frames were counted; what is missing in its files then."""
    journal = out / "journal" / name
    while process.poll() is None:
        if journal.exists() and journal.stat().st_size and len(journal.read_bytes().splitlines()) >= frame:
            break
        time.sleep(0.01)
    process.kill()
    killed = time.time()
    process.wait()
    times = [float(line) for line in journal.read_bytes().splitlines()]
    kept = 0
    for part in ("first", "then"):
        path = out / part / f"{name}.safetensors"
        kept += sum(record.frames for record in Gathered(path).head.records) if path.exists() else 0
    lost = max(len(times) - kept, 0)
    return Loss(lost, killed - times[-lost] if lost else 0.0)


def _kill_claims(out: Path, devices: int, losses: list[Loss]) -> Claims:
    kept = sum(
        record.frames
        for part in ("first", "then")
        for path in sorted((out / part).glob("*.safetensors"))
        for record in Gathered(path).head.records
    )
    lost, age = sum(loss.frames for loss in losses), max((loss.age for loss in losses), default=0.0)
    whole = devices * DAYS * FRAMES
    print(
        f"{len(losses)} devices killed: {lost} frames of {whole} lost, the oldest {age:.1f} s before its kill"
    )
    # A frame may have been counted and written, but not noted, when the kill came: it is counted again.
    return [
        (f"a kill loses at most an interval of {INTERVAL:g} s (and a writing)", age <= INTERVAL + LATE),
        ("nothing else is missing", 0 <= kept - (whole - lost) <= len(losses)),
    ]


def _date(day: int) -> str:
    return datetime.fromtimestamp(FIRST + DAY * day, UTC).date().isoformat()


def _report(out: Path) -> dict[tuple[str, int], list[str]]:
    """Classes that drifted, by place and day (the first is 1), as merge and drift say."""
    table = ("--by", "place", "--table", out / "places.csv", "--force")
    run("serve", "merge", out / "then", "-o", out / "then.safetensors", *table)
    named: dict[tuple[str, int], list[str]] = {}
    for place in PLACES:
        first = out / f"first-{place}.safetensors"
        run("serve", "merge", f"{out}/first/{place}-*.safetensors", "-o", first, *table)
        for day in range(FIRST_DAYS, DAYS):
            found, wanted = out / "drift.json", ("--device", place, "--slot", _date(day))
            run(
                *("serve", "drift", out / "then.safetensors", "--against", first, *wanted),
                *("--block", "3h", "--alpha", 0.005, "--json", found, "--force"),
                allowed=(0, 3),
            )
            said = json.loads(found.read_text())
            assert said["told"], "eight blocks of a day against sixteen are enough"
            named[place, day + 1] = [each["class"] for each in said["classes"] if each["drifted"]]
            print(f"  {place}, day {day + 1}: p = {said['p']:.3f}; {', '.join(named[place, day + 1]) or '-'}")
    return named


def _report_claims(named: dict[tuple[str, int], list[str]]) -> Claims:
    alarmed = {key for key, classes in named.items() if classes}
    first = min((day for _, day in alarmed), default=None)
    return [
        (f"the report names {DUSK} and no other place", {place for place, _ in alarmed} == {DUSK}),
        (f"from day {FIRST_DAYS + 1} on", first == FIRST_DAYS + 1 and len(alarmed) == DAYS - FIRST_DAYS),
    ]


def _act(out: Path, model: Path, named: dict[tuple[str, int], list[str]]) -> Claims:
    """Fold what was gathered where it drifted; score both files everywhere."""
    drifted, new = out / "drifted.safetensors", out / "refolded.onnx"
    run("serve", "merge", f"{out}/then/{DUSK}-*.safetensors", "-o", drifted, "--force")
    pictures = out / "data/labelled/dusk/images"
    run("export", "onnx", model, "--stats", drifted, "--data", pictures, "--gather", "-o", new, "--force")
    scores = {
        (place, file): _scores(out, file, out / "data/labelled" / place)
        for place in ("dusk", *PLACES)
        for file in (model, new)
    }
    for (place, file), each in scores.items():
        print(f"  {file.name} at {place}: mIoU {each['mean_iou']:.1f}, mAcc {each['mean_accuracy']:.1f}")
    gains = {
        place: scores[place, new]["mean_iou"] - scores[place, model]["mean_iou"]
        for place in ("dusk", *PLACES)
    }
    lost = scores[DUSK, model]["iou"] - scores["dusk", model]["iou"]
    order = [scores["dusk", model]["classes"][c] for c in np.argsort(-lost)]
    print(f"  IoU lost at dusk, from most to least: {', '.join(order)}")
    said = named[DUSK, FIRST_DAYS + 1]
    elsewhere = min(gains[place] for place in PLACES)
    return [
        (
            f"the class that loses most IoU is named at once: {order[0]}",
            order[0] in said,
        ),
        (f"better at dusk: {gains['dusk']:+.1f} mIoU", gains["dusk"] > WORSE),
        (f"no worse elsewhere: {elsewhere:+.1f} mIoU at least", elsewhere >= -WORSE),
    ]


def _scores(out: Path, file: Path, data: Path) -> dict[str, Any]:
    """Scores in per cent of a file as it is shipped."""
    found = out / "scores.json"
    run("export", "eval", file, "--data", data, "--json", found, "--force")
    said = json.loads(found.read_text())
    (scores,) = said["tau"].values()
    numbers = {
        name: 100 * np.array(scores[name], np.float64) for name in ("mean_iou", "mean_accuracy", "iou")
    }
    return {"classes": said["classes"], **numbers}


if __name__ == "__main__":
    sys.exit(main())
