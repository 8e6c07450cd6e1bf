"""kill -9 of `adapt train` at random moments: what is there loads, and the next run leaves nothing behind."""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from adapt.run import load_run
from adapt.temporary import SUFFIX

ITERATIONS = 12
SETTINGS = (
    *("data.crop=[32, 32]", "data.workers=0", "model.decoder=segformer", "model.width=8"),
    "model.encoder={config: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 8, 8, 8], "
    "depths: [1, 1, 1, 1], layer_type: basic}}",
    *("method.min_pixels=4", "method.statistics_warmup=2", "training.batch=1", "training.log_every=1"),
    *(f"training.iterations={ITERATIONS}", "training.save_every=1", "training.evaluate_every=4"),
    "data.frames=4",
)


@dataclass
class Tally:
    """What became of the kills."""

    kills: int = 0
    while_made: int = 0
    """Of them, before the run folder was there."""
    unfinished: int = 0
    """Of them, with something unfinished left behind."""
    unloadable: int = 0
    left: int = 0
    """Files and folders that the next run did not remove."""

    def line(self) -> str:
        """A row of a table."""
        return (
            f"| train | {self.kills} kills, {self.while_made} while the run was made, {self.unfinished} left "
            f"something unfinished | unloadable: {self.unloadable} | left after the next run: {self.left} |"
        )


def train(n: int, seed: int, folder: Path) -> Tally:
    """Kill `n` trainings at moments drawn from `seed`, each one gone on with or begun again, to its end.

    Args:
        n: kills.
        seed: of the moments.
        folder: empty; the data and the runs go there.
    """
    dice, tally = random.Random(seed), Tally()
    data = folder / "data"
    _adapt("sample-data", str(data)).wait()
    domains = (
        *("--source", str(data / "source"), "--target", str(data / "target.mp4")),
        *("--evaluate", str(data / "target_eval")),
        *(word for setting in SETTINGS for word in ("--set", setting)),
    )
    started = time.monotonic()
    assert _adapt("train", "-o", str(folder / "whole"), *domains).wait() == 0
    seconds = time.monotonic() - started
    number = 0
    while tally.kills < n:
        run, number = folder / f"run{number}", number + 1
        while tally.kills < n:
            process = _next(run, domains)
            try:
                process.wait(dice.uniform(0.1, 1) * seconds)
                break  # it came to its end
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            tally.kills += 1
            tally.while_made += not run.exists()
            tally.unfinished += bool(_hidden(folder))
            tally.unloadable += run.exists() and not _loads(run)
        if not run.exists() or not load_run(run).card.finished:
            assert _next(run, domains).wait() == 0
        tally.left += len(_hidden(folder))
        tally.unloadable += not _loads(run)
    return tally


def _next(run: Path, domains: tuple[str, ...]) -> subprocess.Popen[bytes]:
    if run.exists():
        return _adapt("train", "--resume", str(run))
    return _adapt("train", "-o", str(run), *domains)


def _adapt(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "adapt", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name.endswith(SUFFIX)]


def _loads(run: Path) -> bool:
    try:
        return load_run(run).segmenter().num_classes > 0
    except Exception as error:
        print(f"{run}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=50, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        tally = train(options.n, options.seed, Path(place))
    print(tally.line())
    sys.exit(bool(tally.unloadable or tally.left))
