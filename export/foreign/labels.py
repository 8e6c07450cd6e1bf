"""What a graph makes of its labels (colours, one-hot maps, other numbers), and of which scores they are.

An output that depends on the picture only through the labels of one ArgMax or TopK says nothing that these
labels do not say, whatever type and shape it has. Its logits are those that the ArgMax reads.
"""

from typing import NamedTuple

import onnx

from export.foreign.graph import rank

PICKING = ("ArgMax", "TopK")
_MOVING = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Transpose", "Reshape", "Flatten", "Pad", "Resize")
HARMLESS = (*_MOVING, *PICKING, "Slice", "OneHot", "ReduceMax")
"""Of labels these make the same labels, of another type, shape or size."""
_PAINTING = (
    *("Gather", "GatherElements", "GatherND", "ScatterND", "ScatterElements", "Where", "Concat", "Expand"),
    *("Add", "Sub", "Mul", "Div", "Mod", "Clip", "Min", "Max", "Tile", "Upsample"),
    *("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Not"),
)
"""And these colours or other numbers. What computes more than that is a network that goes on."""
_SIZES = ("Shape", "Size")


class Made(NamedTuple):
    """What is made of labels."""

    picked: str
    """The value that the ArgMax reads."""
    behind: tuple[str, ...]
    """Operators from the ArgMax on."""


def made_of_labels(model: onnx.ModelProto, name: str) -> Made | None:
    """The scores that a value shows the best of; None of one that depends on the picture in another way.

    Of channels put together, such as labels and how sure they are, one that is made of labels is enough.
    """
    made = _of_labels_alone(model, name)
    if made is None and (joined := _joined(model, name)) is not None:
        parts = (_of_labels_alone(model, part) for part in joined.input)
        made = next((part._replace(behind=(*part.behind, "Concat")) for part in parts if part), None)
    return made


def _joined(model: onnx.ModelProto, name: str) -> onnx.NodeProto | None:
    """The Concat that a value comes from, moved at most."""
    makers = {out: node for node in model.graph.node for out in node.output}
    while (maker := makers.get(name)) is not None and maker.op_type in HARMLESS:
        name = maker.input[0]
    return maker if maker is not None and maker.op_type == "Concat" else None


def _of_labels_alone(model: onnx.ModelProto, name: str) -> Made | None:
    constants = {t.name for t in model.graph.initializer}
    pictures = {v.name for v in model.graph.input if rank(v) in (4, None)} - constants
    seen, between, picks = {name}, [], {}
    for node in reversed(model.graph.node):  # in topological order
        if not seen.intersection(node.output):
            continue
        if node.op_type in PICKING:
            picks[node.input[0]] = node
            continue
        if node.op_type in _SIZES or not any(node.input):
            continue
        if node.op_type not in (*HARMLESS, *_PAINTING):
            return None
        between.append(node)
        seen.update(node.input)
    if len(picks) != 1 or seen & pictures:
        return None
    picked, node = next(iter(picks.items()))
    return Made(picked, (node.op_type, *_kinds(between, set(node.output))))


def _kinds(between: list[onnx.NodeProto], labels: set[str]) -> list[str]:
    """Of the operators between, those that labels go through, in their order."""
    found = []
    for node in reversed(between):
        if labels.intersection(node.input):
            labels.update(node.output)
            found.append(node.op_type)
    return found
