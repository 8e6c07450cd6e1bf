"""Where the logits of somebody else's graph are, whatever it makes of them behind.

    logits -> Softmax | LogSoftmax | Sigmoid -> ArgMax | TopK | ReduceMax -> labels, scores

None of these changes which class is best: softmax and sigmoid rise with their logit (a softmax takes the same
off the logarithm of every class), and the others only pick it. So whatever stands behind the logits is left
out, and with it what only moves values about between them: casts, transposes, squeezes, resizes.

Where a file upsamples probabilities (a Resize behind the Softmax), its labels at borders differ a little from
those of upsampled logits, which the balanced file has.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import onnx

from adapt.errors import InputError
from export.foreign.graph import FLOATS, UnknownError, describe, rank, value_type

_RISING = ("Softmax", "LogSoftmax", "Sigmoid")
_PICKING = ("ArgMax", "TopK")
_MOVING = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Transpose", "Resize", "Reshape")

_SWAP = [0, 3, 2, 1]

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

    @property
    def resizes_probabilities(self) -> bool:
        """Whether what is upsampled are probabilities, in place of logits."""
        rising = [i for i, kind in enumerate(self.behind) if kind in _RISING]
        picking = next((i for i, kind in enumerate(self.behind) if kind in _PICKING), len(self.behind))
        return bool(rising) and "Resize" in self.behind[rising[0] : picking]


def find_logits(model: onnx.ModelProto, output: str | None, path: Path) -> Ending:
    """Find the logits.

    Args:
        output: name of any value of the graph; None takes what the outputs are made of: of the float ones of
            rank 4, else of a squeezed one, else of labels.

    Raises:
        InputError: no such value, or one that no node makes.
        UnknownError: the outputs lead to several values, or to none.
    """
    graph = model.graph
    makers = {out: node for node in graph.node for out in node.output}
    if output is not None:
        if output not in makers:
            raise InputError(
                f"{path} has no value {output!r}; its outputs are {describe(graph.output)}; give one of "
                "them, or the name of a value inside the graph."
            )
        return _made(walk_back(output, makers, _picked(graph)), makers, path)
    floats = [v for v in graph.output if value_type(v) in FLOATS and v.name not in _AUXILIARY]
    tries: tuple[list[Ending | None], ...] = (
        [walk_back(v.name, makers, _picked(graph)) for v in floats if rank(v) in (4, None)],
        [_unsqueezed(v.name, makers, _picked(graph)) for v in floats if rank(v) == 3],
        [walk_back(v.name, makers, _picked(graph)) for v in graph.output],
    )
    for number, endings in enumerate(tries):
        known = [e for e in endings if e is not None and (number < 1 or e.behind)]
        by_name = {ending.name: ending for ending in reversed(known)}
        if len(by_name) == 1:
            return _made(next(iter(by_name.values())), makers, path)
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


def walk_back(name: str, makers: Makers, picked: frozenset[str] = frozenset()) -> Ending:
    """From a value to the logits that it is made of; to itself if nothing says that it is no logits.

    Args:
        picked: values that an ArgMax or TopK of the graph reads: a ReduceMax of these is their best score.
    """
    behind: list[str] = []
    found = Ending(name)
    while (maker := makers.get(name)) is not None:
        best = maker.op_type == "ReduceMax" and maker.input[0] in picked
        if not best and maker.op_type not in (*_RISING, *_PICKING, *_MOVING):
            break
        renamed = maker.op_type == "Identity" and name == found.name
        name = maker.input[0]
        behind.insert(0, maker.op_type)
        if best or renamed or maker.op_type in (*_RISING, *_PICKING):
            name = _before_swap(name, makers, behind)
            found = Ending(name, tuple(behind))
    return found


def _before_swap(name: str, makers: Makers, behind: list[str]) -> str:
    """What a softmax of the last axis takes the classes from, where they were swapped with the width for it.

    Paddle2ONNX writes that below opset 13; [N, W, H, C] is no layout of logits.
    """
    maker = makers.get(name)
    if maker is None or maker.op_type != "Transpose" or [list(a.ints) for a in maker.attribute] != [_SWAP]:
        return name
    behind.insert(0, "Transpose")
    return str(maker.input[0])


def _picked(graph: onnx.GraphProto) -> frozenset[str]:
    return frozenset(node.input[0] for node in graph.node if node.op_type in _PICKING)


def _unsqueezed(name: str, makers: Makers, picked: frozenset[str]) -> Ending | None:
    """Of an output without its batch dimension; None if none was squeezed away."""
    found = walk_back(name, makers, picked)
    if found.behind and set(found.behind) != {"Identity"}:
        return found
    behind: list[str] = []
    while (maker := makers.get(name)) is not None and maker.op_type in _MOVING:
        name = maker.input[0]
        behind.insert(0, maker.op_type)
        if maker.op_type == "Squeeze":
            return Ending(name, tuple(behind))
    return None


def _made(ending: Ending, makers: Makers, path: Path) -> Ending:
    if ending.name not in makers:
        raise InputError(
            f"{path}: the output {ending.name} is made by no node of the graph; choose with --output."
        )
    return ending
