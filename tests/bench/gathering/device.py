"""One device of the simulated fleet: a camera in a place, for five days of an hour's few frames.

    python device.py MODEL FOLDER NAME PLACE SEED INTERVAL

Its clock is simulated; the interval of writing is real. It gathers into FOLDER/first/NAME.safetensors on the
first two days and into FOLDER/then/NAME.safetensors on those after. In FOLDER/journal/NAME a line for every
counted frame says when; started again, it goes on with the frame after the last of them, as a camera would.
"""

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
from places import PLACES, at_dusk, picture

from serve import Gather, Segmenter

FIRST = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp())
DAY = 86400
DAYS, FIRST_DAYS = 5, 2
"""Days in all, and those on which all is as it was."""
FRAMES = 8
"""Frames of a day, one in every part of it."""
PACE = 0.06
"""Seconds from one frame to the next at least: a camera does not hurry."""
DUSK = "market"
"""Where it is dusk from the third day on."""


def moment(day: int, frame: int, seed: int) -> float:
    """When a frame of a day is taken, in seconds since 1970."""
    within = np.random.default_rng((seed, day, frame)).random()
    return FIRST + DAY * (day + (frame + float(within)) / FRAMES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (
        ("model", Path),
        ("folder", Path),
        ("name", str),
        ("place", str),
        ("seed", int),
        ("interval", float),
    ):
        parser.add_argument(name, type=kind)
    given = parser.parse_args()
    journal = given.folder / "journal" / given.name
    done = len(journal.read_bytes().splitlines()) if journal.exists() else 0
    for part, days in (("first", range(FIRST_DAYS)), ("then", range(FIRST_DAYS, DAYS))):
        frames = [(day, frame) for day in days for frame in range(FRAMES)]
        before, done = min(done, len(frames)), max(done - len(frames), 0)
        if before < len(frames):
            _gather(given, part, frames[before:], journal)


def _gather(given: argparse.Namespace, part: str, frames: list[tuple[int, int]], journal: Path) -> None:
    now = float(FIRST)
    gather = Gather(
        given.folder / part / f"{given.name}.safetensors",
        every=1,
        device=given.name,
        interval=given.interval,
        clock=lambda: now,
    )
    segmenter = Segmenter(given.model, provider="cpu", threads=1, gather=gather)
    with journal.open("ab", buffering=0) as lines:  # what is written so is there after kill -9
        for day, frame in frames:
            begin, now = time.time(), moment(day, frame, given.seed)
            dusk = given.place == DUSK and day >= FIRST_DAYS
            place = at_dusk(PLACES[given.place]) if dusk else PLACES[given.place]
            segmenter(picture(place, given.seed, day, frame).image)
            lines.write(f"{time.time():.3f}\n".encode())
            time.sleep(max(0.0, begin + PACE - time.time()))
    segmenter.close()


if __name__ == "__main__":
    main()
