"""The evidence: hosts, balancings and corrections on four shifts, three seeds each. `make evidence` runs it.

Trains what is missing, scores it, writes a JSON per run to results/, and the page docs/evidence.md from all
of them. It can be stopped at any time and goes on where it was; finished runs are never trained again. Seed 0
of everything comes first, so that a part of it is a table already.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

from evidence_arms import ARMS, SEEDS, available, settings_of
from evidence_page import write_page
from evidence_results import RESULTS, Result, path_of, plain, rounded, write_result
from evidence_runs import Place, cost_of, trained, version
from evidence_scoring import score
from evidence_shifts import ORDER, load_shift, place_of
from evidence_watch import watched

from adapt.run.run import Run, load_run

INTERRUPTED = 130
NO_DATA = "There is no folder {}; name the one with the data: make evidence EVIDENCE_DATA=folder."


def main() -> int:
    options = arguments()
    place = Place(options.data, options.out)
    if not options.page_only and not options.data.is_dir():
        print(NO_DATA.format(options.data), file=sys.stderr)
        return 2
    code = 0 if options.page_only else work(options, place)
    if not options.train_only:
        write_page(options.results)
    return code


def work(options: argparse.Namespace, place: Place) -> int:
    """Train and score what is asked for and missing."""
    begun, done = time.monotonic(), 0
    for seed, arm, name in itertools.product(options.seeds, options.arms, options.shifts):
        if done == options.at_most or (time.monotonic() - begun) / 60 > options.minutes:
            break
        folder, result = place.run(name, arm, seed), path_of(name, arm, seed, options.results)
        if options.score_again:
            run = finished(folder)
        elif result.exists() or not available(arm) or (options.train_only and finished(folder)):
            continue
        else:
            print(f"{name}, {arm}, seed {seed}", file=sys.stderr, flush=True)
            run = trained(place, name, arm, seed)
            if run is None:
                return INTERRUPTED
        if run is None:
            continue
        if not options.train_only:
            write_result(scored(run, place, name, arm, seed), options.results)
            write_page(options.results)
        done += 1
    return 0


def finished(folder: Path) -> Run | None:
    """The run in a folder, where there is one and it is finished."""
    run = load_run(folder) if (folder / "card.json").exists() else None
    return run if run is not None and run.card.finished else None


def scored(run: Run, place: Place, name: str, arm: str, seed: int) -> Result:
    """What goes into the JSON."""
    shift = load_shift(name)
    pictures = place_of(shift, place.data, place.out / "data", seed)
    cost = cost_of(run.path)
    found = score(run, pictures)
    return Result(
        shift=name,
        arm=arm,
        seed=seed,
        iterations=run.card.iterations,
        seconds=cost["seconds"],
        processor_seconds=cost["processor_seconds"],
        trained_by=cost["version"],
        scored_by=version(),
        settings=settings_of(arm, shift.settings, shift.things, "DATA", seed),
        scores=plain(found.scores),
        signs=found.signs,
        estimated=rounded(found.estimated),
        few=rounded(found.few),
        watch=rounded(watched(run, pictures)),
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="The folder that the recipes' paths are below."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("evidence"), help="For runs; by default %(default)s."
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="For the JSON files.")
    parser.add_argument("--shifts", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--at-most", type=int, default=-1, help="Runs to train; by default all.")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="Begin none after these.")
    parser.add_argument("--train-only", action="store_true", help="Leave the scoring for later.")
    parser.add_argument("--score-again", action="store_true", help="Score finished runs anew; train none.")
    parser.add_argument("--page-only", action="store_true", help="Only write the page from the JSON files.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
