"""A small JSON file beside each finished output says what it was made from, so that a batch can resume.

    clip.mp4  clip.mp4.json

It is written while the output still has its temporary name: whenever the output is there, so is its sidecar.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve.media.series import FrameSeries
from serve.media.video.damage import Damage
from serve.media.video.source import Source
from serve.media.whole import replacing
from serve.video.segment import VideoReport
from serve.video.settings import Settings


def sidecar(target: Path) -> Path:
    """Where the sidecar of an output lies."""
    return target.with_name(target.name + ".json")


def fingerprint(model: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with model.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def origin(
    source: Source, model: str, settings: Settings, tile: int | str | None, profile: str = ""
) -> dict[str, Any]:
    """Everything that an output depends on, ready for JSON: model (its fingerprint), settings and source.

    The settings have a profile if the model has several.
    """
    described: dict[str, Any] = {"address": source}
    if isinstance(source, FrameSeries):
        described = {"name": source.name, **source.state()}
    elif isinstance(source, Path) and source.exists():
        state = source.stat()
        described = {"name": source.name, "bytes": state.st_size, "modified_ns": state.st_mtime_ns}
    chosen = json.loads(json.dumps(dataclasses.asdict(settings), default=str))  # times become text
    del chosen["reconnect"]  # matters to streams only, which are ever new
    under = {"profile": profile} if profile else {}
    return {"model": model, "settings": {**chosen, "tile": tile, **under}, "source": described}


def write(target: Path, made: Path, come_from: dict[str, Any], video: VideoReport) -> None:
    """Write the sidecar of `target`, whose complete content lies at `made`."""
    content = {**come_from, "output_bytes": _bytes(made), "video": dataclasses.asdict(video)}
    with replacing(sidecar(target)) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


@dataclass(frozen=True)
class Finished:
    """An output that is there, whole, and made from just what it would be made from again."""

    video: VideoReport | None
    """What was said of it then; None if another version made it."""


def finished(target: Path, come_from: dict[str, Any]) -> Finished | None:
    """What an earlier batch made, if `target` is that; never for an address: its frames are ever new."""
    if "address" in come_from["source"]:
        return None
    try:
        said = json.loads(sidecar(target).read_text())
        video = said.pop("video", None)
        if said != {**come_from, "output_bytes": _bytes(target)}:
            return None
    except (OSError, ValueError, AttributeError):
        return None
    return Finished(_report(video))


def _report(said: Any) -> VideoReport | None:
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
        values["damage"] = Damage(**said["damage"])
        return VideoReport(**values)
    except (AttributeError, KeyError, TypeError):
        return None


def _bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
