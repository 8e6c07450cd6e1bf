"""Engines that run, with the CPU in the GPU's place: a stand-in behind the calls of TensorRT and CUDA."""

import ctypes
import dataclasses
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from engines import PROFILE, RTX, WITH_TENSORRT, call
from onnx import TensorProto, helper
from onnx_segmenters import OUTPUT_STRIDE, STRIDE, card, pictures, plain_segmenter, run, statistics
from small_network import small_network

import export.verification.check
import serve.inference.engine
from adapt.errors import InputError
from export.deploy.tensorrt import build_engine
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info
from serve.card import to_metadata
from serve.inference.engine import EngineRuntime, EngineSession, read_sidecar
from serve.inference.runtime import Tensor


class HostMemory:
    """cuda-python's calls, on the CPU's memory."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out")  # noqa: N815
    cudaError_t = SimpleNamespace(cudaSuccess=0)  # noqa: N815

    def __init__(self) -> None:
        self.held: dict[int, object] = {}

    def cudaStreamCreate(self):  # noqa: N802
        return 0, 7

    def cudaMalloc(self, size):  # noqa: N802
        memory = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(memory)] = memory
        return 0, ctypes.addressof(memory)

    def cudaMemcpyAsync(self, to, source, size, kind, stream):  # noqa: N802
        assert stream == 7 and {"in": to, "out": source}[kind] in self.held
        ctypes.memmove(to, source, size)
        return (0,)

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        return (0,)

    def cudaFree(self, device):  # noqa: N802
        del self.held[device]
        return (0,)


class GraphAsEngine:
    """TensorRT's engine and context, computing with ONNX Runtime."""

    num_io_tensors = 4

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.values = {v.name: v for v in (*model.graph.input, *model.graph.output)}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.fed: dict[str, np.ndarray] = {}

    def create_execution_context(self):
        return self

    def get_tensor_name(self, position):
        return list(self.values)[position]

    def get_tensor_mode(self, name):
        return "input" if name in ("image", "tau") else "output"

    def get_tensor_dtype(self, name):
        return helper.tensor_dtype_to_np_dtype(self.values[name].type.tensor_type.elem_type)

    def get_tensor_shape(self, name):
        count = len(self.values[name].type.tensor_type.shape.dim)
        if name in ("image", "tau") or not self.shapes:
            return self.shapes.get(name, (-1,) * count)
        n, height, width, _ = self.shapes["image"]
        padded = (-(-side // STRIDE) * STRIDE // OUTPUT_STRIDE for side in (height, width))
        return (n, height, width) if count == 3 else (n, 3, *padded)

    def set_input_shape(self, name, shape):
        assert len(shape) == len(self.values[name].type.tensor_type.shape.dim)
        self.shapes[name] = shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        for name, shape in self.shapes.items():
            array = np.empty(shape, self.get_tensor_dtype(name))
            ctypes.memmove(array.ctypes.data, self.addresses[name], array.nbytes)
            self.fed[name] = array
        for name, array in run(self.model, **self.fed).items():
            ctypes.memmove(self.addresses[name], array.ctypes.data, array.nbytes)
        return True


@pytest.fixture
def engine(monkeypatch) -> EngineRuntime:
    memory = HostMemory()
    monkeypatch.setattr(serve.inference.engine, "_cuda", lambda: memory)
    strength = Strength(statistics(3), "random", 0.5, True)
    model = fold(small_network(), card(3), strength, Extras(scores=True))
    trt = SimpleNamespace(
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"), nptype=lambda kind: kind
    )
    session = EngineSession(trt, GraphAsEngine(model))
    session.memory, session.model = memory, model
    ends_of = session.tensors(inputs=True), session.tensors(inputs=False)
    return EngineRuntime(
        Path("x"), graph_info(model, ""), session, "tensorrt", *ends_of, (1, 64, 64), (2, 128, 128)
    )


def test_an_engine_runs_like_a_graph_and_keeps_no_memory(engine):
    image = pictures(2, 64, 96)
    for feed in ({}, {"tau": np.array(1.5, np.float32)}):
        labels, scores = engine.run(["labels", "scores"], {"image": image[:, :, ::-1], **feed})
        expected = run(engine.session.model, image[:, :, ::-1].copy(), tau=feed.get("tau", 0.5))
        np.testing.assert_array_equal(labels, expected["labels"])
        np.testing.assert_array_equal(scores, expected["scores"])
    assert engine.session.memory.held == {}
    assert [tensor.name for tensor in engine.inputs] == ["image", "tau"]
    assert engine.outputs[0] == Tensor("labels", "uint8", engine.outputs[0].shape)


def on_disk(engine, info, folder: Path, least=(64, 64)) -> tuple[Path, Path, Path]:
    """The engine's graph, a file in place of the engine, and its card."""
    graph, file, side = (folder / f"model.{suffix}" for suffix in ("onnx", "engine", "engine.json"))
    onnx.save(engine.session.model, graph)
    file.write_bytes(b"an engine")
    sidecar = {
        "library": "tensorrt 10.16",
        "sha256": hashlib.sha256(b"an engine").hexdigest(),
        "profile": {"least": [1, *least], "best": [1, 96, 128], "most": [2, 128, 128]},
        "outputs": ["labels", "scores"],
        "metadata": to_metadata(info),
    }
    side.write_text(json.dumps(sidecar))
    return graph, file, side


@pytest.mark.parametrize(
    ("metadata", "least"), [("right", (64, 64)), ("right", (96, 128)), ("another strength", (64, 64))]
)
def test_verify_checks_an_engine_against_its_graph(engine, metadata, least, tmp_path, monkeypatch):
    """The engine's file, its card and its way into the check are real; the GPU is not.

    Pictures are not made smaller than the smallest of the profile.
    """
    engine = dataclasses.replace(engine, least=(1, *least))
    info = graph_info(engine.session.model, "")
    if metadata != "right":
        info = dataclasses.replace(
            info, correction=dataclasses.replace(info.correction, runtime_tau=False, tau=2)
        )
    graph, file, _ = on_disk(engine, info, tmp_path, least)
    monkeypatch.setattr(
        export.verification.check,
        "open_engine",
        lambda path: dataclasses.replace(engine, path=path, info=info),
    )
    code, said = call("verify", file)
    assert code == 2 and "--against" in said
    code, said = call("verify", file, "--against", graph)
    assert code == (0 if metadata == "right" else 1), said
    assert read_sidecar(file).info.verification["passed"] is (metadata == "right")


def test_a_check_is_not_written_to_the_card_of_an_engine_built_meanwhile(engine, tmp_path, monkeypatch):
    info = graph_info(engine.session.model, "")
    graph, file, side = on_disk(engine, info, tmp_path)
    built = json.loads(side.read_text()) | {
        "metadata": to_metadata(dataclasses.replace(info, correction=None))
    }

    def build(path):
        side.write_text(json.dumps(built))
        return dataclasses.replace(engine, path=path, info=info)

    monkeypatch.setattr(export.verification.check, "open_engine", build)
    code, said = call("verify", file, "--against", graph)
    assert code == 2 and "was built again while it was checked" in said
    assert json.loads(side.read_text()) == built


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 63, 64), (1, 64, 129)])
def test_pictures_out_of_the_profile_are_refused_before_the_run(engine, shape):
    with pytest.raises(
        InputError, match=rf"from 1x64x64 to 2x128x128, not {'x'.join(map(str, shape))}; build"
    ):
        engine.run(["labels"], {"image": pictures(*shape)})
    assert engine.session.memory.held == {}


def test_memory_is_freed_when_a_run_fails(engine, monkeypatch):
    monkeypatch.setattr(GraphAsEngine, "execute_async_v3", lambda *_: False)
    with pytest.raises(RuntimeError, match="refused"):
        engine.run(["labels"], {"image": pictures(1, 64, 64)})
    assert engine.session.memory.held == {}


def test_types_above_256_classes_are_those_of_tensorrt():
    """TensorRT has no uint16: more than 256 classes cannot become an engine, and the refusal names why."""
    if not WITH_TENSORRT:
        pytest.skip("needs tensorrt-rtx")
    model = fold(plain_segmenter(300), card(300), None)
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.UINT16
    with pytest.raises(InputError, match=r"TensorRT can't use the graph as it is: .*Cast"):
        build_engine(model, Path("never.engine"), PROFILE, RTX)
