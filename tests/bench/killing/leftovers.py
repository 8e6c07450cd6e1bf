"""What lies there after a kill: whether it loads, and what a recording lacks."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import onnxruntime
import yaml
from safetensors.numpy import load_file

from adapt.run.run import load_run

UNFINISHED = re.compile(r"\..+-[0-9a-f]{8}-[0-9a-f]{8}\.partial(\..+)?")
"""Names of what is being written: `serve.media.partial`."""
EVENTS = re.compile(r"events\.out\.tfevents\.[^/]+")
"""TensorBoard's logs, which grow record by record; its reader takes them up to the last whole one."""
LAST_SECOND = 1.0
"""What a recording may lose, in seconds."""


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
