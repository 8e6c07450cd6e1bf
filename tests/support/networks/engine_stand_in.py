"""An engine that needs no GPU: its file is an ONNX graph, which ONNX Runtime runs in TensorRT's place.

All but TensorRT and CUDA is real: the file, its card, the profile, and everything that is built on them.
"""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

import serve.inference.engine
from serve.inference.runtime import Tensor

DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int32)": "int32"}


class StandIn:
    """The calls of serve.inference.engine.EngineSession."""

    def __init__(self, trt: Any, engine: bytes) -> None:
        self._session = onnxruntime.InferenceSession(engine, providers=["CPUExecutionProvider"])

    def tensors(self, inputs: bool) -> tuple[Tensor, ...]:
        session = self._session
        found = (
            session.get_inputs() + session.get_overridable_initializers() if inputs else session.get_outputs()
        )
        return tuple(Tensor(v.name, DTYPES[v.type], tuple("any" for _ in v.shape)) for v in found)

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [tensor.name for tensor in self.tensors(inputs=False)]
        return dict(zip(names, self._session.run(names, feed), strict=True))


def write_engine(graph: Path, most: tuple[int, int, int]) -> Path:
    """An engine beside a graph, with its card, for batches (N, H, W) from 1x64x64 to `most`."""
    path = graph.with_suffix(".engine")
    path.write_bytes(graph.read_bytes())
    model = onnx.load(graph)
    card = {
        "library": "tensorrt 10.16",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "profile": {"least": [1, 64, 64], "best": list(most), "most": list(most)},
        "outputs": [output.name for output in model.graph.output],
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
    }
    path.with_name(path.name + ".json").write_text(json.dumps(card))
    return path


class _Logger:
    ERROR = 0

    def __init__(self, level: int) -> None:
        pass


def install() -> None:
    """Take the place of TensorRT in this process."""
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: data)
    trt = SimpleNamespace(Logger=_Logger, Runtime=lambda logger: runtime)
    serve.inference.engine._library = lambda name: trt  # type: ignore[assignment]
    serve.inference.engine.EngineSession = StandIn  # type: ignore[assignment,misc]
