"""Opens a deployable graph in ONNX Runtime and says what it really runs on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from serve.card import GraphInfo, Key
from serve.errors import InputError

Provider = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
PROVIDERS: tuple[str, ...] = get_args(Provider)

_GPU = ("cuda", "tensorrt")


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph."""

    name: str
    dtype: str
    """ONNX type in words, such as `uint8`."""
    shape: tuple[int | str, ...]
    """Sizes; a name stands for a size that may change from call to call."""


@dataclass(frozen=True)
class Runtime:
    """An open graph. `session.run` may be called from several threads at once."""

    path: Path
    info: GraphInfo
    session: Any
    """onnxruntime.InferenceSession"""
    provider: str
    """The provider that the session really uses first: cpu, cuda, tensorrt or openvino."""
    inputs: tuple[Tensor, ...]
    """Includes the optional inputs `tau` and `profile`, where the graph has them."""
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """All that the file says about itself, of which `info` is read."""

    @property
    def largest(self) -> tuple[int, int] | None:
        """Height and width of the largest picture that it takes; None if that is for the memory to say."""
        return None

    @property
    def size(self) -> int:
        """Bytes of the file, and of the weights that lie beside it."""
        beside = json.loads(self.metadata.get(Key.WEIGHTS, "{}")).get("bytes", 0)
        return self.path.stat().st_size + int(beside)

    @property
    def on_gpu(self) -> bool:
        return self.provider in _GPU

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        """Compute the outputs `names` from arrays; may be called from several threads at once.

        On a GPU the arrays are bound to the run, so that ONNX Runtime copies each of them once, straight
        between the array and the device. Raises what ONNX Runtime raises.
        """
        if not self.on_gpu or len(feed) > 1:  # inputs that have a default can't be bound
            return list(self.session.run(names, feed))
        binding = self.session.io_binding()
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        for name in names:
            binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())


class OutOfMemoryError(InputError):
    """The graph took more memory than there is."""


def failure(runtime: Runtime, error: Exception, height: int, width: int) -> InputError:
    """What a run that failed on pictures of this size is to the caller."""
    kind = OutOfMemoryError if ran_out(error) else InputError
    return kind(f"{runtime.path} failed on a {width}x{height} picture: {first_line(error)}.")


def first_line(error: Exception) -> str:
    """ONNX Runtime explains itself over many lines, of which the first says what happened."""
    return str(error).strip().partition("\n")[0].removesuffix(".")


def failed(error: Exception) -> bool:
    """Whether a run failed, by what ONNX Runtime or TensorRT raised; anything else is a fault of ours.

    ONNX Runtime's exceptions share no base class but `Exception`, and names of their classes come and go.
    """
    theirs = type(error).__module__.startswith("onnxruntime.")
    return theirs or type(error) is RuntimeError or isinstance(error, InputError | MemoryError)


def ran_out(error: Exception) -> bool:
    """Whether this is what ONNX Runtime, CUDA or Python raise when an allocation fails."""
    said = str(error).lower().replace(" ", "").replace("_", "")
    signs = ("failedtoallocate", "badalloc", "outofmemory", "memoryallocation", "allocfailed")
    return isinstance(error, MemoryError) or any(sign in said for sign in signs)
