"""The file that `export calibrate` writes and `export onnx --stats` reads: safetensors, no pickle.

Tensors are those of `ShiftStatistics.state`; the metadata holds one JSON record under `blda.calibration`: the
fields of `Calibrated`, and `format`. Statistics say nothing of any network but the one that they were
gathered with, so its fingerprint is among them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from adapt.balance.logit_statistics import ShiftStatistics
from adapt.errors import InputError
from adapt.run.cards import problem
from adapt.run.stored import stored_statistics
from export.foreign.convention import Intake
from export.foreign.network import Outlet
from serve.card import Color
from serve.media.whole import replacing

FORMAT = 1
_KEY = "blda.calibration"


@dataclass(frozen=True)
class Calibrated:
    """What is known about a model besides its statistics."""

    model: str
    """File name of the model."""
    source: str
    """Where the statistics come from, in words."""
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    pixels: tuple[int, ...]
    """[C] logit pixels that each class's statistics were fitted to."""
    intake: Intake
    outlet: Outlet
    network: str | None = None
    """`export.fold.fingerprint.fingerprint` of the graph, cut at its logits. None in files of versions that
    did not write it: whether a model is the one that they are of can't be told."""
    offset: tuple[float, ...] | None = None
    """[C] logits that were added before pixels were labelled, see export/statistics/gather.py. None in files
    of versions that did not write it."""


class _Format(BaseModel):
    format: int


_RECORD = TypeAdapter(Calibrated)


def write_statistics(
    path: Path, statistics: ShiftStatistics, calibrated: Calibrated, *, overwrite: bool = True
) -> None:
    """Write the file in one step; without `overwrite`, what is there is kept, see `serve.media.whole`."""
    record = {"format": FORMAT, **_RECORD.dump_python(calibrated, mode="json")}
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(save(statistics.state(), {_KEY: json.dumps(record)}))


def read_statistics(path: Path) -> tuple[ShiftStatistics, Calibrated]:
    """Read what `write_statistics` wrote.

    Raises:
        InputError: missing, no such file, cut off, altered, or of a newer version.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; make it with `blda export calibrate MODEL.onnx -o {path}`.")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except SafetensorError as error:
        raise InputError(
            f"{path} is not a whole safetensors file; make it again with `blda export calibrate`."
        ) from error
    if _KEY not in metadata:
        raise InputError(f"{path} holds no calibration; make one with `blda export calibrate`.")
    try:
        number = _Format.model_validate_json(metadata[_KEY]).format
        if number > FORMAT:
            raise InputError(f"{path} has format {number}, this version reads up to {FORMAT}; upgrade blda.")
        calibrated = _RECORD.validate_json(metadata[_KEY], strict=True)
        classes = len(calibrated.classes)
        if calibrated.offset is not None and len(calibrated.offset) != classes:
            raise ValueError("classes and offset differ in length")
        if not classes == len(calibrated.palette) == len(calibrated.pixels) == calibrated.outlet.classes:
            raise ValueError("classes, palette, pixels and outlet.classes differ in length")
        for each in calibrated.intake.inputs:
            each.value()
        statistics = stored_statistics(tensors, classes)
    except ValueError as error:
        reason = problem(error) if isinstance(error, ValidationError) else error
        raise InputError(
            f"{path} was altered ({reason}); make it again with `blda export calibrate`."
        ) from error
    return statistics, calibrated
