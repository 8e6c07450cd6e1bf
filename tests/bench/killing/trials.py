"""Kinds of work to be killed, on inputs as small as they can be: training, export, videos, a recording."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from killing.camera import camera
from serve_graphs import write_clip, write_graph
from tiny import make_domains, train_arguments

OUT = Path("out")
"""What the work writes to, below the folder of its inputs."""


@dataclass(frozen=True)
class Trial:
    """One kind of work that is killed."""

    name: str
    begin: list[str]
    """The command, from the inputs' folder; it writes to out/ only."""
    resume: list[str]
    """The command that a person gives after it was killed and something is there."""
    made: Path
    """What is there if the work came far enough to be resumed."""


def make_trials(inputs: Path) -> Iterator[Trial]:
    """The inputs, as small as they can be and still leave time to be killed in, and the work on them."""
    make_domains(inputs)
    write_graph(inputs / "model.onnx")
    (inputs / "clips").mkdir()
    for name in ("a", "b", "c"):
        write_clip(inputs / "clips" / f"{name}.mp4", times=range(120), sound="aac")
    settings = (
        "training.iterations=12",
        "data.evaluate=target_eval",
        "training.evaluate_every=6",
        "training.save_every=3",
    )
    train = ["adapt", *train_arguments(Path(), OUT / "run", *settings)]
    yield Trial("train", train, ["adapt", "train", "--resume", str(OUT / "run")], OUT / "run")
    subprocess.run(program([*train[:3], "finished", *train[4:]]), cwd=inputs, check=True, capture_output=True)
    export = ["export", "onnx", "finished", "--with-correction", "-o", str(OUT / "model.onnx")]
    yield Trial("export", export, [*export, "--force"], OUT / "model.onnx")
    one = ["serve", "video", "model.onnx", "clips/a.mp4", "-o", str(OUT / "a.mp4"), "--shares"]
    yield Trial("single video", one, [*one, "--force"], OUT / "a.mp4")
    many = ["serve", "video", "model.onnx", "clips", "-o", str(OUT)]
    yield Trial("batch", many, many, OUT)
    with camera() as address:
        live = [
            "serve",
            "video",
            "model.onnx",
            address,
            "-o",
            str(OUT / "live.mp4"),
            "--end",
            "4",
            "--shares",
        ]
        yield Trial("live", live, [*live, "--force"], OUT / "live.mp4")


def program(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", *arguments]
