"""Writes the weights that one ONNX file can't hold into one file beside it.

    NAME.onnx                       the graph
    NAME.onnx.0123456789ab.data     its weights

The second name says which weights they are and how they lie, and the graph names it. So whenever a process
ends, and whatever was there before, a graph of that name lies beside the very weights that it was written
with: these get their name first, and what an earlier graph of the name had is removed last.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx

from export.weights.beside import bytes_outside, layout, outside, placed, write_weights
from serve.card import Key
from serve.media.whole import replacing


@dataclass(frozen=True)
class Beside:
    """A graph whose weights are being written."""

    now: onnx.ModelProto
    """With its weights where they are while it is checked."""
    later: onnx.ModelProto
    """With its weights where they will be."""


@contextmanager
def written_beside(model: onnx.ModelProto, output: Path, network: str) -> Iterator[Beside]:
    """Write the weights outside of a graph that will be at `output`; on failure nothing of it is left.

    A graph without any stays as it is.

    Args:
        network: the fingerprint of what is inside.
    """
    if not outside(model):
        yield Beside(model, model)
        return
    digest = hashlib.sha256(f"{network} {layout(model)}".encode()).hexdigest()[:12]
    target = output.with_name(f"{output.name}.{digest}.data")
    model.metadata_props.add(
        key=Key.WEIGHTS, value=json.dumps({"file": target.name, "bytes": bytes_outside(model)})
    )
    with replacing(target) as temporary:
        write_weights(model, temporary)
        yield Beside(placed(model, temporary), placed(model, target))


def remove_former(output: Path, model: onnx.ModelProto) -> None:
    """Remove the weights of graphs that were at `output` before the one that is there now."""
    kept = {entry.value for t in outside(model) for entry in t.external_data if entry.key == "location"}
    ours = re.compile(re.escape(output.name) + r"\.[0-9a-f]{12}\.data")
    for file in output.absolute().parent.iterdir():
        if ours.fullmatch(file.name) and str(file) not in kept:
            file.unlink(missing_ok=True)
