"""What `kill -9` leaves behind: `make kill`.

Training, export, a single video, a batch of videos and the recording of a stream are killed, each at random
moments of its work. Whatever then lies under its own name must load, and after the next run the folder must
hold what an undisturbed run leaves there, and nothing else. A recording must keep all but its last second.
Prints a table; exits with 1 if anything was lost, broken or left over.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import onnxruntime
import yaml
from safetensors.numpy import load_file
from tqdm import tqdm

sys.path.extend(map(str, (Path(__file__).parents[1] / "support").glob("**/")))

from serve_graphs import write_clip, write_graph
from tiny import make_domains, train_arguments

from adapt.run.run import load_run

OUT = Path("out")
PATIENCE = 300.0
"""Seconds that an undisturbed run may take before something is taken to hang."""
UNFINISHED = re.compile(r"\..+-[0-9a-f]{8}-[0-9a-f]{8}\.partial(\..+)?")
"""Names of what is being written: `serve.media.partial`."""
EVENTS = re.compile(r"events\.out\.tfevents\.[^/]+")
"""TensorBoard's logs, which grow record by record; its reader takes them up to the last whole one."""
LAST_SECOND = 1.0
"""What a recording may lose, in seconds."""


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


@dataclass
class Result:
    """What the kills of one trial led to."""

    killed: int = 0
    finished_before: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=50, help="kills of each kind of work")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these kinds of work")
    options = parser.parse_args()
    print("| work | killed | finished first | faults |\n| --- | --- | --- | --- |", flush=True)
    faults = []
    with tempfile.TemporaryDirectory() as inputs:
        for trial in make_trials(Path(inputs)):
            if options.only and trial.name not in options.only:
                continue
            result = run(trial, Path(inputs), options.times, random.Random(options.seed))
            print(
                f"| {trial.name} | {result.killed} | {result.finished_before} | {len(result.faults)} |",
                flush=True,
            )
            faults += [f"{trial.name}: {fault}" for fault in result.faults]
    print("\n".join(faults) or "nothing unloadable, nothing left over")
    return 1 if faults else 0


def make_trials(inputs: Path) -> Iterator[Trial]:
    """The inputs, as small as they can be and still leave time to be killed in, and the work on them."""
    make_domains(inputs)
    write_graph(inputs / "model.onnx")
    (inputs / "clips").mkdir()
    for name in ("a", "b", "c"):
        write_clip(inputs / "clips" / f"{name}.mp4", times=range(120), sound="aac")
    settings = (
        "training.iterations=30",
        "data.evaluate=target_eval",
        "training.evaluate_every=10",
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


def run(trial: Trial, inputs: Path, times: int, dice: random.Random) -> Result:
    """Kill the work so many times, and look each time at what is there, before and after the next run."""
    result = Result()
    first_sign, whole = undisturbed(trial, inputs)
    expected = files_of(inputs / OUT)
    progress = tqdm(total=times, desc=trial.name, unit="kill", leave=False)
    while result.killed < times:
        shutil.rmtree(inputs / OUT)
        moment = dice.uniform(0.9 * first_sign, whole)
        if not killed_at(moment, trial, inputs):
            result.finished_before += 1
            continue
        result.killed += 1
        said = f"killed after {moment:.2f} s"
        result.faults += [f"{said}: {fault}" for fault in (*unloadable(inputs / OUT), *lost(inputs / OUT))]
        command = trial.resume if (inputs / trial.made).exists() else trial.begin
        progress.update()
        try:
            again = subprocess.run(
                program(command), cwd=inputs, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            result.faults.append(f"{said}: the next run had not ended after {PATIENCE:.0f} s")
            continue
        if again.returncode:
            result.faults.append(f"{said}: the next run ended with {again.returncode}: {again.stderr[-500:]}")
        result.faults += [f"{said}, next run: {fault}" for fault in unloadable(inputs / OUT)]
        left = files_of(inputs / OUT) ^ expected
        result.faults += [f"{said}, next run: {name} is there in one of them only" for name in sorted(left)]
    progress.close()
    return result


def undisturbed(trial: Trial, inputs: Path) -> tuple[float, float]:
    """Seconds until something is written, and until the end, of a run that nobody kills."""
    shutil.rmtree(inputs / OUT, ignore_errors=True)
    begin = time.monotonic()
    first_sign = None
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(program(trial.begin), cwd=inputs, **silent) as process:
        while process.poll() is None:
            if first_sign is None and files_of(inputs / OUT):
                first_sign = time.monotonic() - begin
            if time.monotonic() - begin > PATIENCE:
                process.kill()
            time.sleep(0.01)
    whole = time.monotonic() - begin
    if process.returncode or first_sign is None:
        raise SystemExit(f"{trial.name}: `{' '.join(trial.begin)}` ended with {process.returncode}")
    return first_sign, whole


def killed_at(moment: float, trial: Trial, inputs: Path) -> bool:
    """Begin the work and kill it, with all processes that it started; False if it had ended by then."""
    (inputs / OUT).mkdir()
    with subprocess.Popen(
        program(trial.begin),
        cwd=inputs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True
    return False


def program(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", *arguments]


def files_of(folder: Path) -> set[str]:
    """What is there; TensorBoard's logs, one of each process and named after it, count as one."""
    return {EVENTS.sub("events", str(path.relative_to(folder))) for path in folder.rglob("*")}


def unloadable(folder: Path) -> Iterator[str]:
    """What lies under its own name and can't be loaded; unfinished files have names that begin with a dot."""
    for path in sorted(folder.rglob("*")):
        if (
            path.is_dir()
            or EVENTS.fullmatch(path.name)
            or any(UNFINISHED.fullmatch(part) for part in path.relative_to(folder).parts)
        ):
            continue
        try:
            LOADERS[path.suffix](path)
        except Exception as error:  # whatever it is, the file is not what it should be
            yield f"{path.relative_to(folder)} does not load: {type(error).__name__}: {error}"


def lost(folder: Path) -> Iterator[str]:
    """What a recording lacks of the frames that the table beside it knows."""
    recording, table = folder / "live.mp4", folder / "live.shares.csv"
    if not recording.exists() or not table.exists():
        return
    rows = table.read_text().splitlines()[1:]
    with av.open(str(recording)) as container:
        *_, last = container.decode(video=0)
    missing = float(rows[-1].split(",")[1]) - last.time if rows else 0.0
    if missing > LAST_SECOND:
        yield f"the recording lacks its last {missing:.2f} s"


def _video(path: Path) -> None:
    with av.open(str(path)) as container:
        if not sum(1 for _ in container.decode(video=0)):
            raise ValueError("it has no frame")


def _picture(path: Path) -> None:
    if cv2.imread(str(path)) is None:
        raise ValueError("it is no picture")


def _json(path: Path) -> None:
    json.loads(path.read_text())
    if path.name == "card.json":
        load_run(path.parent)


def _text(path: Path) -> None:
    if not path.read_text().endswith("\n"):
        raise ValueError("its last line is not whole")


LOADERS: dict[str, Callable[[Path], object]] = {
    ".csv": _text,
    ".jpg": _picture,
    ".json": _json,
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
    ".mp4": _video,
    ".npy": np.load,
    ".onnx": onnxruntime.InferenceSession,
    ".png": _picture,
    ".safetensors": load_file,
    ".yaml": lambda path: yaml.safe_load(path.read_text()),
}


@contextmanager
def camera() -> Iterator[str]:
    """The address of a stream that begins anew for everyone who looks, at 25 frames a second."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):  # closed at the end
            while True:
                threading.Thread(target=_send, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()


def _send(connection: socket.socket) -> None:
    with (
        connection,
        suppress(OSError, av.error.FFmpegError, av.error.PyAVCallbackError),  # who looks may go
        connection.makefile("wb", buffering=0) as line,
        av.open(line, "w", format="mpegts", options={"flush_packets": "1"}) as container,
    ):
        stream = container.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "tune": "zerolatency"}
        )
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 72, "yuv420p", 25
        begin = time.monotonic()
        for number in range(25 * 60):
            time.sleep(max(begin + number / 25 - time.monotonic(), 0))
            frame = av.VideoFrame.from_ndarray(np.full((72, 96, 3), number % 200, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))


if __name__ == "__main__":
    sys.exit(main())
