"""The evidence: hosts, balancings and corrections on four shifts, three seeds each. `make evidence` runs it.

Trains what is missing, scores it, writes a JSON per run to results/, and the page docs/evidence.md from all of
them. It can be stopped at any time and goes on where it was; finished runs are never trained again. Seed 0 of
everything comes first, so that a part of it is a table already.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

from arms import ARMS, available
from runs import Place, trained
from shifts import ORDER

SEEDS = (0, 1, 2)


def main() -> int:
    options = arguments()
    place = Place(options.data, options.out)
    begun, done = time.monotonic(), 0
    for seed, arm, name in itertools.product(options.seeds, options.arms, options.shifts):
        if done == options.at_most or (time.monotonic() - begun) / 60 > options.minutes:
            break
        if not available(arm):
            continue
        folder = place.run(name, arm, seed)
        if (folder / "evidence.json").exists() and (folder / "finished").exists():
            continue
        print(f"{name}, {arm}, seed {seed}", file=sys.stderr, flush=True)
        run = trained(place, name, arm, seed)
        if run is None:
            return 130
        (folder / "finished").touch()
        done += 1
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="The folder that the recipes' paths are below.")
    parser.add_argument("--out", type=Path, default=Path("evidence"), help="For runs; by default %(default)s.")
    parser.add_argument("--shifts", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--at-most", type=int, default=-1, help="Runs to train; by default all.")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="Begin none after these.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
