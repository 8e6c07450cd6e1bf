"""What `kill -9` leaves behind: `make kill`.

Training, export, a single video, a batch of videos and the recording of a stream are killed, each at random
moments of its work. Whatever then lies under its own name must load, and after the next run the folder must
hold what an undisturbed run leaves there, and nothing else. A recording must keep all but its last second.
Prints a table; exits with 1 if anything was lost, broken or left over.

    make kill                                        # every kind of work, 50 times each: about an hour
    python tests/bench/kill.py --minutes 2           # what fits into two minutes of each, once at least
"""

import argparse
import math
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

sys.path.extend(map(str, (Path(__file__).parents[1] / "support").glob("**/")))

from killing.leftovers import files_of, lost, unloadable
from killing.nursery import Nursery, nursery
from killing.trials import OUT, Trial, make_trials

FINISHED = "there is nothing to resume"
"""What training says that was killed when all was written; its files are compared like the others."""
PATIENCE = 300.0
"""Seconds that an undisturbed run may take before something is taken to hang."""


@dataclass
class Result:
    """What the kills of one trial led to."""

    killed: int = 0
    finished_before: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=50, help="kills of each kind of work")
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="no further kill of a kind after these (default: no limit)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these kinds of work")
    options = parser.parse_args()
    print("| work | killed | finished first | faults |\n| --- | --- | --- | --- |", flush=True)
    faults = []
    with tempfile.TemporaryDirectory() as inputs, nursery(Path(inputs) / "said.txt") as commands:
        for trial in make_trials(Path(inputs)):
            if options.only and trial.name not in options.only:
                continue
            dice = random.Random(options.seed)
            result = run(trial, commands, Path(inputs), options.times, 60 * options.minutes, dice)
            killed = f"{result.killed} of {options.times}"
            print(
                f"| {trial.name} | {killed} | {result.finished_before} | {len(result.faults)} |", flush=True
            )
            faults += [f"{trial.name}: {fault}" for fault in result.faults]
    print("\n".join(faults) or "nothing unloadable, nothing left over")
    return 1 if faults else 0


def run(
    trial: Trial, commands: Nursery, inputs: Path, times: int, seconds: float, dice: random.Random
) -> Result:
    """Kill the work so many times, and look each time at what is there, before and after the next run.

    After `seconds` there is no further kill, but one is made in any case.
    """
    result = Result()
    first_sign, whole = undisturbed(trial, commands, inputs)
    expected = files_of(inputs / OUT)
    progress = tqdm(total=times, desc=trial.name, unit="kill", leave=False)
    end = time.monotonic() + seconds
    while result.killed < times and (result.killed == 0 or time.monotonic() < end):
        shutil.rmtree(inputs / OUT)
        (inputs / OUT).mkdir()
        moment = dice.uniform(0.9 * first_sign, whole)
        begin = time.monotonic()
        work = commands.begin(trial.begin, inputs)
        if work.ended(moment) is not None or not work.kill():
            result.finished_before += 1
            faster = (time.monotonic() - begin) / whole  # the machine was busier with the first one
            first_sign, whole = first_sign * faster, whole * faster
            continue
        result.killed += 1
        said, known = f"killed after {moment:.2f} s", len(result.faults)
        result.faults += [f"{said}: {fault}" for fault in (*unloadable(inputs / OUT), *lost(inputs / OUT))]
        command = trial.resume if (inputs / trial.made).exists() else trial.begin
        progress.update()
        again = commands.begin(command, inputs)
        code = again.ended(PATIENCE)
        if code is None:
            again.kill()
            result.faults.append(f"{said}: the next run had not ended after {PATIENCE:.0f} s")
            continue
        if code and FINISHED not in commands.said:
            result.faults.append(f"{said}: the next run ended with {code}: {commands.said[-500:]}")
        result.faults += [f"{said}, next run: {fault}" for fault in unloadable(inputs / OUT)]
        left = files_of(inputs / OUT) ^ expected
        result.faults += [f"{said}, next run: {name} is there in one of them only" for name in sorted(left)]
        for fault in result.faults[known:]:
            tqdm.write(f"{trial.name}: {fault}", file=sys.stderr)
    progress.close()
    return result


def undisturbed(trial: Trial, commands: Nursery, inputs: Path) -> tuple[float, float]:
    """Seconds until something is written, and until the end, of a run that nobody kills.

    There are two: the second one finds imported what the first one did import.
    """
    for _ in range(2):
        shutil.rmtree(inputs / OUT, ignore_errors=True)
        (inputs / OUT).mkdir()
        begin = time.monotonic()
        work = commands.begin(trial.begin, inputs)
        first_sign = code = None
        while code is None:
            code = work.ended(0.01)
            spent = time.monotonic() - begin
            if first_sign is None and files_of(inputs / OUT):
                first_sign = spent
            if spent > PATIENCE:
                work.kill()
                raise SystemExit(f"{trial.name}: it had not ended after {PATIENCE:.0f} s")
        if code or first_sign is None:
            raise SystemExit(f"{trial.name}: it ended with {code}: {commands.said[-500:]}")
    return first_sign, spent


if __name__ == "__main__":
    sys.exit(main())
