"""Engines: every decoder, precision and choice of outputs builds; what can't be built is refused first.

TensorRT for RTX parses and builds without a GPU, so this needs none.
"""

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from engines import PROFILE, RTX, WITH_TENSORRT, call, converted, needs_tensorrt
from onnx import helper
from onnx_segmenters import card, plain_segmenter, statistics
from small_network import small_network
from transformers import SegformerConfig, SegformerModel

from adapt.balance.correction import excluding
from adapt.errors import InputError
from adapt.model.decoders import DaformerDecoder, SegformerDecoder
from adapt.model.encoders import SegformerEncoder
from adapt.model.segmenter import Segmenter
from export.deploy.tensorrt import Profile, build_engine, profile_for
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info
from export.sources.network import logits_graph
from serve.card import Upsampling
from serve.inference.engine import read_sidecar
from serve.inference.opening import open_runtime


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


@pytest.mark.parametrize("uncorrected", ["softmax", "sigmoid", "exp"])
class TestUpsampledProbabilities:
    pytestmark = needs_tensorrt

    def test_build_with_a_class_left_out_and_a_strength_of_0(self, uncorrected, tmp_path):
        stats = excluding(statistics(4), torch.arange(4) == 1)
        coordinates = {"softmax": "half_pixel", "sigmoid": "align_corners", "exp": "asymmetric"}[uncorrected]
        taken = replace(card(4), upsampling=Upsampling("probabilities", uncorrected, coordinates))
        for strength in (None, Strength(stats, "random", 0.5, runtime=True)):
            model = fold(plain_segmenter(4), taken, strength, Extras(scores=True))
            engine = tmp_path / f"{strength is None}.engine"
            assert build_engine(model, engine, PROFILE, RTX).size > 10_000
            assert read_sidecar(engine).info.card.upsampling == taken.upsampling


@pytest.mark.parametrize(("classes", "corrected"), [(2, True), (150, False)])
class TestOtherNumbersOfClasses:
    pytestmark = needs_tensorrt

    def test_build_at_a_fixed_size(self, classes, corrected, tmp_path):
        strength = Strength(statistics(classes), "random", 0.2) if corrected else None
        model = fold(plain_segmenter(classes), card(classes, (65, 97)), strength)
        profile = profile_for(card(classes, (65, 97)), None, None, None)
        assert profile == Profile((1, 65, 97), (1, 65, 97), (1, 65, 97))
        assert build_engine(model, tmp_path / "x.engine", profile, RTX).operators["fp32"] >= 1


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
