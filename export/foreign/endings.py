"""Where the logits of somebody else's graph are, whatever it makes of them behind.

    logits -> Softmax | LogSoftmax | Sigmoid -> ArgMax | TopK | ReduceMax -> labels, scores

None of these changes which class is best: softmax and sigmoid rise with their logit (a softmax takes the same
off the logarithm of every class), and the others only pick it. So whatever stands behind the logits is left
out, and with it what only moves values about between them (casts, transposes, squeezes, resizes) or makes all
of them larger alike (a factor, a logarithm). What is made of labels alone (colours, one-hot maps, other
numbers) comes from the logits in front of the ArgMax (export/foreign/labels.py).

Where a file upsamples probabilities (a Resize behind the Softmax), its labels at borders differ a little from
those of upsampled logits; what the balanced file does then is chosen in export/foreign/upsampling.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from numpy.typing import NDArray

from adapt.errors import InputError
from export.foreign.graph import LOGITS, UnknownError, constants_of, describe, rank, ranks_of, value_type
from export.foreign.labels import HARMLESS, PICKING, made_of_labels
from serve.card import Upsampling

_RISING = ("Softmax", "LogSoftmax", "Sigmoid")
_MOVING = (
    *("Identity", "Cast", "Squeeze", "Unsqueeze", "Transpose", "Resize", "Upsample", "Reshape", "Flatten"),
    *("QuantizeLinear", "DequantizeLinear"),
)
_RESIZING = ("Resize", "Upsample")
_SCALING = ("Mul", "Div")
_QUANTISED = ("QuantizeLinear", "QLinear")
"""Beginnings of the names of operators whose whole numbers rise with a logit."""

_SWAP = [0, 3, 2, 1]

_PLAIN: tuple[set[str], ...] = (set(), {"Identity"}, {"Identity", "Flatten", "Reshape", "Squeeze"})
"""What alone does not say, in each of the tries below, that something else stands behind logits."""
_AUXILIARY = ("aux", "aux_out", "auxiliary")
"""What torchvision and others call the logits of a head that only training needs."""

Makers = Mapping[str, onnx.NodeProto]


class Ending(NamedTuple):
    """The logits, and what stands behind them."""

    name: str
    """Of the value."""
    behind: tuple[str, ...] = ()
    """Operators that are left out, from the logits to the output."""
    queries: str | None = None
    """Of a query model: the two values that its logits are made of, see export/foreign/queries.py."""

    values: tuple[str, ...] = ()
    """What each of these operators gives."""
    upsampling: Upsampling | None = None
    """Of a file that resizes behind Softmax, LogSoftmax or Sigmoid: how, if it can be done here alike."""
    unlike: str = ""
    """Why it can't, in words."""

    @property
    def rising(self) -> tuple[str, ...]:
        """Of them, those that make probabilities of logits."""
        return tuple(kind for kind in self.behind if kind in _RISING)

    @property
    def resizing(self) -> tuple[str, ...]:
        """What the resizes between the first of these and the choice of the best class give."""
        first = next((i for i, kind in enumerate(self.behind) if kind in _RISING), len(self.behind))
        parts = zip(self.behind[first : self._picking], self.values[first : self._picking], strict=True)
        return tuple(value for kind, value in parts if kind in _RESIZING)

    @property
    def resizes_probabilities(self) -> bool:
        """Whether what is upsampled are probabilities: logarithms of them have the same labels as logits."""
        return bool(self.resizing) and not self.resizes_logarithms

    @property
    def resizes_logarithms(self) -> bool:
        """Whether they are logarithms of probabilities."""
        before = self.behind[: self.values.index(self.resizing[0])] if self.resizing else ()
        return bool({"Log", "LogSoftmax"} & set(before))

    @property
    def changes_labels(self) -> tuple[str, ...]:
        """Operators that make something else of labels: colours, other numbers."""
        return tuple(kind for kind in self.behind[self._picking + 1 :] if kind not in HARMLESS)

    @property
    def _picking(self) -> int:
        return next((i for i, kind in enumerate(self.behind) if kind in PICKING), len(self.behind))


class _Graph(NamedTuple):
    """What the way back needs to know."""

    model: onnx.ModelProto
    makers: Makers
    picked: frozenset[str]
    """Values that an ArgMax or TopK reads: a ReduceMax of these is their best score."""
    factors: frozenset[str]
    """Constants of one number above 0."""


def find_logits(model: onnx.ModelProto, output: str | None, path: Path) -> Ending:
    """Find the logits.

    Args:
        output: name of any value of the graph; None takes what the outputs are made of: of the float ones of
            rank 4, else of a squeezed or flat one, else of labels.

    Raises:
        InputError: no such value, or one that no node makes.
        UnknownError: the outputs lead to several values, or to none.
    """
    graph, known = model.graph, _known(model)
    if output is not None:
        if output not in known.makers:
            raise InputError(
                f"{path} has no value {output!r}; its outputs are {describe(graph.output)}; give one of "
                "them, or the name of a value inside the graph."
            )
        return _made(walk_back(output, known), known, path)
    scores = [v for v in graph.output if _may_be_logits(v, known) and v.name not in _AUXILIARY]
    if len(many := [v for v in scores if not _one_channel(v)]) > 0:
        scores = many
    tries: tuple[list[Ending], ...] = (
        [walk_back(v.name, known) for v in scores if rank(v) in (4, None)],
        [walk_back(v.name, known) for v in scores if rank(v) == 3],
        [walk_back(v.name, known) for v in graph.output],
    )
    for number, endings in enumerate(tries):
        found = [e for e in endings if number < 1 or set(e.behind) - _PLAIN[number]]
        by_name = {ending.name: ending for ending in reversed(found)}
        if len(by_name) == 1:
            return _made(next(iter(by_name.values())), known, path)
        if by_name:
            names = ", ".join(reversed(by_name))
            raise UnknownError(
                f"{path} has several outputs that may be logits: {describe(graph.output)}, which come from "
                f"{names}; choose one with --output."
            )
    raise UnknownError(
        f"{path} has no output that leads to logits, only {describe(graph.output)}; name them with "
        "--output: a float value of rank 4 inside the graph."
    )


def walk_back(name: str, known: _Graph) -> Ending:
    """From a value to the logits that it is made of; to itself if nothing says that it is no logits."""
    made = made_of_labels(known.model, name)
    start, after = (name, ()) if made is None else (made.picked, made.behind)
    behind: list[str] = list(after)
    values = [""] * len(after)
    found = Ending(start, after, values=tuple(values))
    name = start
    while (maker := known.makers.get(name)) is not None:
        best = maker.op_type == "ReduceMax" and maker.input[0] in known.picked
        if not best and not _passes(maker, known):
            break
        renamed = maker.op_type == "Identity" and name == found.name
        values.insert(0, name)
        name = next(value for value in maker.input if value not in known.factors)
        behind.insert(0, maker.op_type)
        if best or renamed or maker.op_type in (*_RISING, *PICKING):
            name = _before_swap(name, known, behind, values)
            found = Ending(name, tuple(behind), values=tuple(values))
    return _of_rank_4(found, known)


def _before_swap(name: str, known: _Graph, behind: list[str], values: list[str]) -> str:
    """What a softmax of the last axis takes the classes from, where they were swapped with the width for it.

    Paddle2ONNX writes that below opset 13; [N, W, H, C] is no layout of logits.
    """
    maker = known.makers.get(name)
    if maker is None or maker.op_type != "Transpose" or [list(a.ints) for a in maker.attribute] != [_SWAP]:
        return name
    behind.insert(0, "Transpose")
    values.insert(0, name)
    return str(maker.input[0])


def _passes(maker: onnx.NodeProto, known: _Graph) -> bool:
    """Whether an operator leaves the order of the classes of a pixel as it is."""
    if maker.op_type in _SCALING:
        data = [value for value in maker.input if value not in known.factors]
        return len(data) == 1 and (maker.op_type == "Mul" or data[0] == maker.input[0])
    return maker.op_type in (*_RISING, *PICKING, *_MOVING, "Log")


def _of_rank_4(found: Ending, known: _Graph) -> Ending:
    """The same before pixels were put in a row, or a dimension of one was taken away."""
    maker = known.makers.get(found.name)
    if maker is None or maker.op_type not in _MOVING:
        return found
    ranks = ranks_of(known.model)
    name, behind, values = found.name, list(found.behind), list(found.values)
    while ranks.get(name, 4) != 4 and (maker := known.makers.get(name)) and maker.op_type in _MOVING:
        values.insert(0, name)
        name = maker.input[0]
        behind.insert(0, maker.op_type)
    return (
        found._replace(name=name, behind=tuple(behind), values=tuple(values))
        if ranks.get(name) == 4
        else found
    )


def _known(model: onnx.ModelProto) -> _Graph:
    graph = model.graph
    numbers = constants_of(model)
    return _Graph(
        model,
        {out: node for node in graph.node for out in node.output},
        frozenset(node.input[0] for node in graph.node if node.op_type in PICKING),
        frozenset(name for name, value in numbers.items() if value.size == 1 and _is_factor(value)),
    )


def _is_factor(value: NDArray[Any]) -> bool:
    return value.dtype.kind == "f" and value.item() > 0


def _may_be_logits(value: onnx.ValueInfoProto, known: _Graph) -> bool:
    """Whether an output has the type of logits: floats, or whole numbers that a quantised graph ends in."""
    if value_type(value) in LOGITS:
        return True
    maker = known.makers.get(value.name)
    while maker is not None and maker.op_type in ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze"):
        maker = known.makers.get(maker.input[0])
    return maker is not None and maker.op_type.startswith(_QUANTISED)


def _one_channel(value: onnx.ValueInfoProto) -> bool:
    """Whether an output of rank 4 is a single map, as of depth: no classes."""
    dims = value.type.tensor_type.shape.dim
    return len(dims) == 4 and 1 in (dims[1].dim_value, dims[3].dim_value)


def _made(ending: Ending, known: _Graph, path: Path) -> Ending:
    if ending.name not in known.makers:
        raise InputError(
            f"{path}: the output {ending.name} is made by no node of the graph; choose with --output."
        )
    return ending
