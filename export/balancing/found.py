"""What was found out about somebody's model before any picture was seen: five lines for a person."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from export.foreign.convention import Triple
from export.foreign.graph import opset, picture_input, value_type
from export.foreign.network import behind
from export.statistics.calibrate import Looked

NAMED = 8
"""Classes that the line names before it says how many more there are."""


def found(looked: Looked, path: Path) -> dict[str, str]:
    """Kind, classes, pictures, normalisation and logits, in words."""
    network = looked.network
    taken, outlet = network.intake, network.outlet
    padded = f", sides padded to multiples of {outlet.stride}" if outlet.stride > 1 else ""
    size, by = taken.found[-1], taken.found[-1].partition(" (")[2].rstrip(")")
    if taken.size is not None:
        size = f"{taken.size[0]}x{taken.size[1]} (height x width{', ' if by else ''}{by})"
    others = "; ".join(taken.found[:-3])
    return {
        "kind": _kind(network.model, path),
        "classes": f"{outlet.classes}: {_listed(looked.names)} ({looked.named_by}){_left(looked)}",
        "pictures": f"{size}{padded}, {taken.channel_order}, {taken.layout}",
        **({"other inputs": others} if others else {}),
        "normalisation": f"mean {_numbers(taken.mean)}, std {_numbers(taken.std)} ({taken.found[-2:][0]})",
        "logits": f"{outlet.name}, {outlet.layout}, at stride {outlet.output_stride}{behind(network)}",
    }


def _kind(model: onnx.ModelProto, path: Path) -> str:
    constants = [a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute]
    weights = sum(int(np.prod(tensor.dims)) for tensor in (*model.graph.initializer, *constants))
    maker = " ".join(part for part in (model.producer_name, model.producer_version) if part)
    kind = onnx.TensorProto.DataType.Name(value_type(picture_input(model, path))).lower()
    return (
        f"ONNX, opset {opset(model)}, {f'made by {maker}, ' if maker else ''}"
        f"{weights:,} weights, takes {kind}"
    )


def _left(looked: Looked) -> str:
    return "".join(f"; left as it is: {looked.names[c]}, {why}" for c, why in looked.leave.items())


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _numbers(values: Triple) -> str:
    """One number for three equal ones."""
    distinct = values[:1] if len(set(values)) == 1 else values
    return ",".join(f"{value:.4g}" for value in distinct)
