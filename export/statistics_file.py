"""The file that `export calibrate` writes and `export onnx --stats` reads: safetensors, no pickle.

Tensors are those of `ShiftStatistics.state`; the metadata holds one JSON record under `blda.calibration`: the
fields of `Calibrated`, and `format`. Statistics say nothing of any network but the one that they were
gathered with, so its fingerprint is among them.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from adapt.errors import InputError
from adapt.logit_statistics import ShiftStatistics
from export.convention import Intake
from export.foreign_network import Outlet
from serve.card import Color
from serve.files import replacing

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
    """`export.fingerprint.fingerprint` of the graph, cut at its logits. None in files of versions that did
    not write it: whether a model is the one that they are of can't be told."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Size of the pictures that the statistics were gathered at; None for their own."""
        return self.intake.size


def write_statistics(path: Path, statistics: ShiftStatistics, calibrated: Calibrated) -> None:
    """Write the file in one step."""
    record = dataclasses.asdict(calibrated) | {"format": FORMAT}
    with replacing(path) as temporary:
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
        record = json.loads(metadata[_KEY])
        number = int(record.pop("format"))
        if number > FORMAT:
            raise InputError(f"{path} has format {number}, this version reads up to {FORMAT}; upgrade blda.")
        statistics = ShiftStatistics.from_state(tensors)
        fields = {name: _tuples(value) for name, value in record.items()}
        intake = Intake(**{name: _tuples(value) for name, value in record["intake"].items()})
        calibrated = Calibrated(**fields | {"intake": intake, "outlet": Outlet(**record["outlet"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} was altered ({error}); make it again with `blda export calibrate`."
        ) from error
    return statistics, calibrated


def _tuples(value: Any) -> Any:
    """JSON has lists only."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
