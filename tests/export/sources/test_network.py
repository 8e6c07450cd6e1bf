"""Every network of ours as a logits graph: the same logits, any size, only operators that runtimes have."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from transformers import ResNetBackbone, ResNetConfig, SegformerConfig, SegformerModel

from adapt.errors import InputError
from adapt.model.decoders import DaformerDecoder, SegformerDecoder
from adapt.model.encoders import BackboneEncoder, SegformerEncoder
from adapt.model.segmenter import Segmenter
from export.sources.network import check_operators, logits_graph


def mit_segformer() -> Segmenter:
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 2]
    )
    encoder = SegformerEncoder(SegformerModel(config))
    return Segmenter(encoder, SegformerDecoder(encoder.channels, encoder.strides, 8), 8, 5)


def resnet_daformer() -> Segmenter:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, layer_type="basic", out_features=stages
    )
    encoder = BackboneEncoder(ResNetBackbone(config))
    return Segmenter(encoder, DaformerDecoder(encoder.channels, encoder.strides, 8), 8, 5)


@pytest.fixture(scope="module", params=[mit_segformer, resnet_daformer])
def exported(request) -> tuple[Segmenter, onnx.ModelProto]:
    torch.manual_seed(0)
    segmenter = request.param().eval()
    return segmenter, logits_graph(segmenter)


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 96, 160)])
def test_logits_are_those_of_torch_at_any_size(exported, shape):
    segmenter, model = exported
    pixels = torch.randn(shape[0], 3, *shape[1:])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = segmenter(pixels).numpy()
    np.testing.assert_allclose(session.run(None, {"pixels": pixels.numpy()})[0], expected, atol=1e-4)


def test_operators_are_native_everywhere(exported):
    segmenter, model = exported
    onnx.checker.check_model(model, full_check=True)
    assert [o.version for o in model.opset_import if o.domain == ""] == [18]
    kinds = [node.op_type for node in model.graph.node]
    norms = sum(isinstance(module, torch.nn.LayerNorm) for module in segmenter.modules())
    assert kinds.count("LayerNormalization") == norms  # one operator each: half precision needs that
    assert not model.metadata_props and not any(node.metadata_props for node in model.graph.node)


@pytest.mark.parametrize(("kind", "attributes"), [("NonZero", {}), ("Resize", {"antialias": 1})])
def test_an_operator_that_runtimes_lack_is_named(kind, attributes):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
    node = helper.make_node(kind, ["x"], ["y"], **attributes)
    model = helper.make_model(helper.make_graph([node], "g", value[:1], value[1:]))
    with pytest.raises(InputError, match=kind):
        check_operators(model)
