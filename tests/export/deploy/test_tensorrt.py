"""Engines: every decoder, precision and choice of outputs builds; what can't be built is refused first.

TensorRT for RTX parses and builds without a GPU, so this needs none. Running an engine does: here a stand-in
on the CPU takes the GPU's place behind the same calls.
"""

import ctypes
import dataclasses
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from engines import PROFILE, RTX, WITH_TENSORRT, converted, needs_tensorrt
from onnx import TensorProto, helper
from onnx_segmenters import OUTPUT_STRIDE, STRIDE, card, pictures, plain_segmenter, run, statistics
from small_network import small_network
from transformers import SegformerConfig, SegformerModel

import export.verification.check
import serve.inference.engine
from adapt.errors import InputError
from adapt.model.decoders import DaformerDecoder, SegformerDecoder
from adapt.model.encoders import SegformerEncoder
from adapt.model.segmenter import Segmenter
from export.cli.commands import main
from export.deploy.tensorrt import Profile, build_engine, profile_for
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info
from export.sources.network import logits_graph
from serve.card import to_metadata
from serve.inference.engine import EngineRuntime, EngineSession, read_sidecar
from serve.inference.opening import open_runtime
from serve.inference.runtime import Tensor


@pytest.fixture(scope="module", params=[SegformerDecoder, DaformerDecoder])
def decoder_graph(request) -> onnx.ModelProto:
    """The logits graph of a small network with each decoder that is shipped."""
    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=2,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        num_attention_heads=[1, 2],
        sr_ratios=[4, 1],
        strides=[4, 2],
        patch_sizes=[7, 3],
        mlp_ratios=[2, 2],
    )
    encoder = SegformerEncoder(SegformerModel(config))
    decoder = request.param(encoder.channels, encoder.strides, 8)
    return logits_graph(Segmenter(encoder, decoder, 8, 3).eval())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
class TestEveryGraphOfOurs:
    pytestmark = needs_tensorrt

    def test_builds_with_and_without_all_that_is_optional(self, decoder_graph, precision, tmp_path):
        taken = card(3)
        network = converted(decoder_graph, precision, tmp_path, taken)
        for runtime, extras in ((False, Extras()), (True, Extras(scores=True, uncorrected_labels=True))):
            model = fold(network, taken, Strength(statistics(3), "random", 0.5, runtime), extras)
            engine = tmp_path / f"{runtime}.engine"
            built = build_engine(model, engine, PROFILE, RTX)
            assert built.operators[precision] >= 0.5 * sum(built.operators.values())
            assert ("fp16" in built.operators) == (precision == "fp16")
            assert engine.stat().st_size == built.size > 10_000
            sidecar = json.loads(engine.with_name(engine.name + ".json").read_text())
            assert sidecar["inputs"] == (["image", "tau"] if runtime else ["image"])
            assert sidecar["outputs"] == [value.name for value in model.graph.output]
            assert read_sidecar(engine).info == graph_info(model, "")


@pytest.mark.parametrize(("classes", "corrected"), [(2, True), (150, False)])
class TestOtherNumbersOfClasses:
    pytestmark = needs_tensorrt

    def test_build_at_a_fixed_size(self, classes, corrected, tmp_path):
        strength = Strength(statistics(classes), "random", 0.2) if corrected else None
        model = fold(plain_segmenter(classes), card(classes, (65, 97)), strength)
        profile = profile_for(card(classes, (65, 97)), None, None, None)
        assert profile == Profile((1, 65, 97), (1, 65, 97), (1, 65, 97))
        assert build_engine(model, tmp_path / "x.engine", profile, RTX).operators["fp32"] >= 1


# ---- profiles and refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shapes", "expected"),
    [
        (None, (None, None, None), Profile((1, 64, 64), (1, 512, 1024), (1, 1088, 1920))),
        (None, (None, None, (4, 256, 320)), Profile((1, 64, 64), (4, 256, 320), (4, 256, 320))),
        (None, ((1, 600, 64), None, None), Profile((1, 600, 64), (1, 600, 1024), (1, 1088, 1920))),
        (None, (None, (2, 512, 512), None), Profile((1, 64, 64), (2, 512, 512), (2, 1088, 1920))),
        ((240, 320), (None, None, (8, 240, 320)), Profile((1, 240, 320), (8, 240, 320), (8, 240, 320))),
    ],
)
def test_a_profile_is_completed_by_the_card(size, shapes, expected):
    assert profile_for(card(3, size), *shapes) == expected


@pytest.mark.parametrize(
    ("size", "shapes", "message"),
    [
        (
            None,
            ((1, 64, 64), (1, 128, 128), (1, 96, 512)),
            "must not fall .* 1x64x64 over 1x128x128 to 1x96x512",
        ),
        (None, ((1, 32, 64), None, None), "both sides need 64 pixels or more"),
        ((240, 320), (None, None, (1, 256, 320)), "takes 240x320 only"),
    ],
)
def test_a_profile_that_can_not_be_is_refused(size, shapes, message):
    with pytest.raises(InputError, match=message):
        profile_for(card(3, size), *shapes)


class TestWhatTensorRTLacks:
    pytestmark = needs_tensorrt

    @pytest.mark.parametrize(
        ("kind", "attributes", "message"),
        [
            ("Det", {}, "operators that TensorRT lacks: Det;"),
            ("Upsample", {"mode": "bicubic"}, "TensorRT can't use the graph as it is: "),
        ],
    )
    def test_is_named_before_building(self, kind, attributes, message, tmp_path, monkeypatch):
        model = fold(plain_segmenter(3), card(3), None)
        inputs = ["blda/channels_first"] + ["blda/labels_scales"] * (kind == "Upsample")
        model.graph.node.insert(2, helper.make_node(kind, inputs, ["aside"], name="odd one", **attributes))
        with pytest.raises(InputError, match=message):
            build_engine(model, tmp_path / "x.engine", PROFILE, RTX)
        assert list(tmp_path.iterdir()) == []


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


@pytest.fixture
def exported(tmp_path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(fold(small_network(), card(3), Strength(statistics(3), "random", 0.5, True)), path)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "x.plan"), "must end in .engine"),
        (("-o", "x.engine", "--max", "1x64"), "is no batch such as 1x512x1024"),
        (("-o", "x.engine", "--rtx", "--timing-cache", "t"), "--timing-cache is of no use with --rtx"),
    ],
)
def test_bad_options_are_named(exported, options, message):
    code, said = call("tensorrt", exported, *options)
    assert code == 2 and message in said
    assert [path.name for path in exported.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("options", "advice"), [((), "or build for RTX cards with --rtx"), (("--rtx",), "blda[trt]")]
)
def test_a_missing_library_is_named_with_advice(exported, options, advice, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    monkeypatch.setitem(__import__("sys").modules, "tensorrt_rtx", None)
    code, said = call("tensorrt", exported, "-o", exported.with_suffix(".engine"), *options)
    assert code == 2 and "is not installed" in said and advice in said
    assert [path.name for path in exported.parent.iterdir()] == ["model.onnx"]


@pytest.mark.trt
@pytest.mark.skipif(not WITH_TENSORRT, reason="needs tensorrt-rtx: pip install 'blda[trt]'")
def test_the_command_builds_and_the_server_says_what_is_wrong(exported):
    engine = exported.with_name("model.engine")
    code, said = call("tensorrt", exported, "-o", engine, "--rtx", "--max", "2x128x192", "--workspace", 256)
    assert code == 0, said
    assert "in fp32" in said and "from 1x64x64 over 2x128x192 to 2x128x192" in said
    code, said = call("tensorrt", exported, "-o", engine, "--rtx")
    assert code == 2 and "--force" in said

    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="needs an NVIDIA GPU"):
            open_runtime(engine)
    side = engine.with_name("model.engine.json")
    sidecar = side.read_text()
    for text, message in (
        (sidecar.replace('"least"', '"lost"'), "was altered"),
        (sidecar.replace("class1", "class0").replace('\\"palette\\"', '\\"pal\\"'), "was altered"),
        ("[]", "was altered"),
    ):
        side.write_text(text)
        with pytest.raises(InputError, match=message):
            open_runtime(engine)
    side.write_text(sidecar)
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(InputError, match="is not the engine that"):
        open_runtime(engine)
    side.unlink()
    with pytest.raises(InputError, match=r"model\.engine\.json does not exist"):
        open_runtime(engine)


# ---- running, with the CPU in the GPU's place -------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("metadata", "least"), [("right", (64, 64)), ("right", (96, 128)), ("another strength", (64, 64))]
)
def test_verify_checks_an_engine_against_its_graph(engine, metadata, least, tmp_path, monkeypatch):
    """The engine's file, its card and its way into the check are real; the GPU is not.

    Pictures are not made smaller than the smallest of the profile.
    """
    engine = dataclasses.replace(engine, least=(1, *least))
    graph, file = tmp_path / "model.onnx", tmp_path / "model.engine"
    onnx.save(engine.session.model, graph)
    file.write_bytes(b"an engine")
    info = graph_info(engine.session.model, "")
    if metadata != "right":
        info = dataclasses.replace(
            info, correction=dataclasses.replace(info.correction, runtime_tau=False, tau=2)
        )
    sidecar = {
        "library": "tensorrt 10.16",
        "sha256": hashlib.sha256(b"an engine").hexdigest(),
        "profile": {"least": [1, *least], "best": [1, 96, 128], "most": [2, 128, 128]},
        "outputs": ["labels", "scores"],
        "metadata": to_metadata(info),
    }
    side = tmp_path / "model.engine.json"
    side.write_text(json.dumps(sidecar))
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
