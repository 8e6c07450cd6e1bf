"""Many small kernels as one call: a CUDA graph of a function whose tensors keep their shapes."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Out = TypeVar("Out")

WARM_UP = 2
"""Calls before the recording, which load what is loaded lazily."""


class Captured(Generic[Out]):
    """Calls a function, on a GPU from the third time on by replaying its kernels.

    Estimating mixtures takes hundreds of kernels on tensors of a few thousand numbers; launching them one by
    one costs a GPU's host more than the rest of a small network's step. What is computed is the same.

    The function must not read a tensor back, must change tensors in place only, and must always get tensors
    of the same shapes. On a GPU its results are valid until the next call.
    """

    def __init__(self, function: Callable[..., Out]) -> None:
        self._function = function
        self._calls = 0
        self._inputs: list[Tensor] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Out

    def __call__(self, *inputs: Tensor) -> Out:
        if inputs[0].device.type != "cuda" or self._calls < WARM_UP:
            self._calls += 1
            return self._function(*inputs)
        if self._graph is None:
            self._record(inputs)
        assert self._graph is not None
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._result

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """Record the kernels, without running them."""
        self._inputs = [tensor.clone() for tensor in inputs]
        graph = torch.cuda.CUDAGraph()
        # Other threads go on as they like, such as the one that pins batches for the copy to the GPU.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._result = self._function(*self._inputs)
        self._graph = graph
