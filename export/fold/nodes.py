"""Write nodes that can be told from the rest of a graph, and taken out again."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

PREFIX = "blda/"
"""Begins the name of every node, initialiser and value of ours."""


class Builder:
    """Collects nodes and initialisers; every name begins with PREFIX."""

    def __init__(self, scope: str = "") -> None:
        """All names begin with PREFIX and then with `scope`."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names: set[str] = set()
        self._scope = scope

    def within(self, scope: str) -> "Builder":
        """One that collects into the same lists, under names of its own."""
        inner = Builder(scope)
        inner.nodes, inner.initializers, inner._names = self.nodes, self.initializers, self._names
        return inner

    def op(
        self, kind: str, inputs: list[str], name: str, output: str | None = None, **attributes: Any
    ) -> str:
        """Add one node; returns the name of its output, `output` if that must be somebody else's name."""
        name = self._unique(name)
        output = output or name
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, value: NDArray[Any], name: str) -> str:
        """Add an initialiser; returns its name."""
        name = self._unique(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def floats(self, value: NDArray[Any] | float, name: str) -> str:
        return self.constant(np.asarray(value, np.float32).reshape(np.shape(value)), name)

    def integers(self, value: list[int], name: str) -> str:
        return self.constant(np.asarray(value, np.int64), name)

    def _unique(self, name: str) -> str:
        name = PREFIX + self._scope + name
        assert name not in self._names, name
        self._names.add(name)
        return name


def rename_values(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Rename values wherever they occur in a graph and in the subgraphs of its nodes, in place."""
    for node in graph.node:
        for field in (node.input, node.output):
            for position, name in enumerate(field):
                field[position] = names.get(name, name)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                rename_values(attribute.g, names)
            for subgraph in attribute.graphs:
                rename_values(subgraph, names)
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        for value in values:
            value.name = names.get(value.name, value.name)
