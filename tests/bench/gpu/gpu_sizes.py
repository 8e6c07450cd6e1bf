"""How large the parts of `tests/bench/gpu/gpu.py` are, and the processes that they start."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Sizes:
    """What a machine with a GPU measures."""

    classes: int = 19
    side: int = 512
    """Of training crops."""
    width: int = 256
    """Of the decoder."""
    batch: int = 2
    """Source crops and target crops, each."""
    encoders: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "MiT-B0": {"model_type": "segformer"},
            "MiT-B5": {
                "model_type": "segformer",
                "hidden_sizes": [64, 128, 320, 512],
                "depths": [3, 6, 40, 3],
            },
        }
    )
    """Of training steps; the exported graphs have the first one."""
    repetitions: int = 15
    """Timed training steps of each kind."""
    precisions: tuple[str, ...] = ("fp32", "bf16", "fp16")
    sample: bool = True
    """Whether runs learn from `adapt sample-data`; else from a few pictures of 48x64."""
    iterations: int = 40
    save_every: int = 5
    pictures: int = 8
    """Whose labels are compared."""
    picture: tuple[int, int] = (512, 1024)
    """Height and width of the one that exported graphs are timed on."""
    rounds: int = 60
    """Timed runs of each graph."""


FULL = Sizes()
TINY = Sizes(
    classes=5,
    side=64,
    width=8,
    batch=1,
    encoders={
        "tiny": {
            "model_type": "segformer",
            "hidden_sizes": [8, 8, 8, 8],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 1, 1],
        }
    },
    repetitions=3,
    precisions=("fp32", "bf16"),
    sample=False,
    iterations=8,
    save_every=2,
    pictures=2,
    picture=(64, 128),
    rounds=5,
)
"""So small that a CPU can try the script itself; the times mean nothing."""


def environment() -> dict[str, str]:
    """Of a process that imports this project wherever it lies, and asks no network for anything."""
    places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, places)), "HF_HUB_OFFLINE": "1"}
    if Path("/sys/class/net/lo").exists():
        own["GLOO_SOCKET_IFNAME"] = "lo"  # ranks of one machine need no host name that resolves
    return os.environ | own


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Python with these arguments, what it says in a file."""
    with log.open("wb") as said:
        words = [sys.executable, *arguments]
        return subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=said, stderr=subprocess.STDOUT)


def run(arguments: list[str], log: Path, seconds: float) -> str:
    """Run Python to its end; returns what it said.

    Raises:
        RuntimeError: it failed, or took longer; with the end of what it said.
    """
    process = start(arguments, log)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired as error:
        process.terminate()  # torchrun ends its ranks then
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        raise RuntimeError(f"took longer than {seconds:.0f} s; {said_last(log)}") from error
    finally:
        process.kill()
        process.wait()
    if code:
        raise RuntimeError(f"exit code {code}; {said_last(log)}")
    return log.read_text(errors="replace")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and whatever in the group hangs or outlived it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
            time.sleep(1)  # for what it started
    process.wait()


def said_last(log: Path) -> str:
    """The end of a log, for an error's text; progress bars left out."""
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
    kept = [line for line in lines if line.strip() and "it/s" not in line and "image/s" not in line]
    return "it said: " + (" ".join(kept[-12:]) or "nothing")
