"""Runs a TensorRT engine through the interface of an ONNX graph.

Written against the API documentation of TensorRT 10, 11 and TensorRT for RTX and of cuda-python; **never run
on a GPU so far**, because the machines that test this project have none. What needs no GPU is tested: the
sidecar, the profile and every refusal.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serve.card import GraphInfo, from_metadata
from serve.errors import InputError
from serve.inference.runtime import Runtime, Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class EngineRuntime(Runtime):
    """An open engine. Calls from several threads take turns: they share one execution context."""

    least: Shape = ()
    """(N, H, W) of the smallest batch that the engine takes."""
    most: Shape = ()
    """(N, H, W) of the largest one."""
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width of the largest picture in the engine's profile."""
        return self.most[1], self.most[2]

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        """Compute the outputs `names`. Raises InputError if the pictures are outside the engine's profile."""
        shape = feed["image"].shape[:3]
        if not all(low <= side <= high for low, side, high in zip(self.least, shape, self.most, strict=True)):
            raise InputError(
                f"the engine takes pictures (NxHxW) from {_words(self.least)} to {_words(self.most)}, not "
                f"{_words(shape)}; build it with other --min and --max"
            )
        correction = self.info.correction
        if correction is not None and correction.runtime_tau and "tau" not in feed:
            feed = {**feed, "tau": np.array(correction.tau, np.float32)}
        if self.info.profiles and "profile" not in feed:
            feed = {**feed, "profile": np.array(0, np.int32)}
        with self.turn:
            outputs = self.session.run(feed)
        return [outputs[name] for name in names]


class EngineSession:
    """One engine, one execution context, one CUDA stream."""

    def __init__(self, trt: Any, engine: Any) -> None:
        self._trt, self._engine = trt, engine
        self._context = engine.create_execution_context()
        self._cuda = _cuda()
        self._stream = self._checked(self._cuda.cudaStreamCreate())

    def tensors(self, inputs: bool) -> tuple[Tensor, ...]:
        """The engine's inputs or outputs."""
        wanted = self._trt.TensorIOMode.INPUT if inputs else self._trt.TensorIOMode.OUTPUT
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        return tuple(
            Tensor(name, str(self._dtype(name)), tuple(s if s >= 0 else "any" for s in self._shape(name)))
            for name in names
            if self._engine.get_tensor_mode(name) == wanted
        )

    def run(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs for these inputs."""
        held: list[int] = []
        try:
            for name, array in feed.items():
                array = np.asarray(array, order="C")  # ascontiguousarray would make tau a vector
                self._context.set_input_shape(name, array.shape)
                self._bind(held, name, array.nbytes)
                self._copy(held[-1], array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice")
            outputs = {}
            for tensor in self.tensors(inputs=False):
                shape = tuple(self._context.get_tensor_shape(tensor.name))
                array = np.empty(shape, self._dtype(tensor.name))
                self._bind(held, tensor.name, array.nbytes)
                outputs[tensor.name] = (array, held[-1])
            if not self._context.execute_async_v3(int(self._stream)):
                raise RuntimeError("TensorRT refused the run")
            for array, device in outputs.values():
                self._copy(array.ctypes.data, device, array.nbytes, "cudaMemcpyDeviceToHost")
            self._checked(self._cuda.cudaStreamSynchronize(self._stream))
            return {name: array for name, (array, _) in outputs.items()}
        finally:
            for device in held:
                self._cuda.cudaFree(device)

    def _bind(self, held: list[int], name: str, size: int) -> None:
        held.append(int(self._checked(self._cuda.cudaMalloc(max(size, 1)))))
        self._context.set_tensor_address(name, held[-1])

    def _copy(self, to: int, source: int, size: int, direction: str) -> None:
        kind = getattr(self._cuda.cudaMemcpyKind, direction)
        self._checked(self._cuda.cudaMemcpyAsync(to, source, size, kind, self._stream))

    def _checked(self, result: tuple[Any, ...]) -> Any:
        """cuda-python returns (error, value)."""
        if result[0] != self._cuda.cudaError_t.cudaSuccess:
            raise RuntimeError(f"CUDA reports {result[0].name}")
        return result[1] if len(result) > 1 else None

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._engine.get_tensor_shape(name))

    def _dtype(self, name: str) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        return dtype


class Sidecar(NamedTuple):
    """What lies beside an engine and says what it means."""

    library: str
    """Name and version of what built it."""
    info: GraphInfo
    metadata: Mapping[str, str]
    """What `info` is read of."""
    outputs: tuple[str, ...]
    least: Shape
    """(N, H, W) of the smallest batch that the engine takes."""
    best: Shape
    most: Shape


def read_sidecar(path: Path) -> Sidecar:
    """Read the card of the engine at `path`.

    Raises:
        InputError: no engine or no card there, a card that was altered, or one of another engine.
    """
    side = path.with_name(path.name + ".json")
    if not path.is_file() or not side.is_file():
        missing = path if side.is_file() else side
        raise InputError(
            f"{missing} does not exist; an engine needs its card, and `blda export tensorrt` writes both."
        )
    try:
        fields = json.loads(side.read_text())
        digest, metadata, library = fields["sha256"], fields["metadata"], fields["library"]
        profile, outputs = fields["profile"], tuple(fields["outputs"])
        least, best, most = (tuple(map(int, profile[name])) for name in ("least", "best", "most"))
        if not len(least) == len(best) == len(most) == 3:
            raise ValueError("profile")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{side} was altered ({error}); build the engine again.") from error
    info = from_metadata(metadata, str(side))
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise InputError(f"{path} is not the engine that {side} belongs to; build it again.")
    return Sidecar(library, info, metadata, outputs, least, best, most)


def open_engine(path: Path) -> EngineRuntime:
    """Open an engine made by `blda export tensorrt`.

    Raises:
        InputError: what `read_sidecar` refuses, or a library or a GPU that is missing or not the engine's.
    """
    sidecar = read_sidecar(path)
    library = sidecar.library
    trt = _library(library)
    try:
        engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
    except (TypeError, RuntimeError):  # without a GPU there is no runtime
        engine = None
    if engine is None:
        raise InputError(
            f"{path} was built by {library}, and {trt.__name__} {trt.__version__} can't run it: it "
            "needs an NVIDIA GPU of the kind and a library of the version it was built for; build it here."
        )
    session = EngineSession(trt, engine)
    inputs, outputs = session.tensors(inputs=True), session.tensors(inputs=False)
    return EngineRuntime(
        path,
        sidecar.info,
        session,
        "tensorrt",
        inputs,
        outputs,
        sidecar.least,
        sidecar.most,
        metadata=sidecar.metadata,
    )


def _library(name: str) -> Any:
    """The library that an engine needs: `tensorrt 10.16.1` or `tensorrt_rtx 1.7.1`."""
    try:
        if name.startswith("tensorrt_rtx"):
            import tensorrt_rtx

            return tensorrt_rtx
        import tensorrt

        return tensorrt
    except (ImportError, OSError) as error:
        raise InputError(f"the engine was built by {name}, which is not installed; install it.") from error


def _cuda() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise InputError(
            "engines need NVIDIA's package cuda-python to move pictures; run `pip install cuda-python`."
        ) from error
    return runtime


def _words(shape: Shape) -> str:
    return "x".join(map(str, shape))
