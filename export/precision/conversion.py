"""Half and integer precision for the network of a graph; the correction and both ends stay float32.

Conversion happens on the logits graph, before the fold: the fold's normalisation, exponentials, logarithm,
upsampling and argmax are then in float32 by construction, and folding again keeps the network's precision.

* fp16: weights and arithmetic in float16, with float32 islands around what sums squares or exponentials
  (ISLANDS): a LayerNormalization in half precision is what breaks transformers.
* int8: static quantisation in QDQ form (Jacob et al. 2018): QuantizeLinear and DequantizeLinear before every
  convolution and matrix product, per output channel for weights. Ranges come from pictures of the domain that
  the graph will see. Symmetric, because TensorRT takes no zero points.

A file's precision is what its graph says, never what was asked for: `precision_of` reads it back.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from adapt.data.datasets import read_picture
from adapt.data.images import resize_image
from adapt.errors import InputError
from export.fold.nodes import PREFIX
from export.precision.converters import named, quiet, tidied, without_detours
from serve.card import Card
from serve.media.images import Image
from serve.media.whole import scratch

ISLANDS = (
    *("LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization"),
    *("Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Sqrt", "Reciprocal"),
    *("ReduceMean", "ReduceSum", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "Range", "CumSum"),
)
"""Operators that stay float32 in an fp16 graph."""
COMPUTE = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operators that do the arithmetic, whose precision is the graph's."""
LEAST_OPERATORS, LEAST_WEIGHTS = 0.5, 0.25
"""Shares from which on a precision has taken effect; islands keep the rest."""
_DTYPES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.INT8: "int8"}


@dataclass(frozen=True)
class Precision:
    """The precision really in a graph's network; what the fold added is float32 and not counted."""

    operators: dict[str, float]
    """Share of compute operators (COMPUTE) by the type they multiply in: fp32, fp16, int8."""
    weights: dict[str, float]
    """Share of the stored weights, in numbers, by type."""

    @property
    def name(self) -> str:
        """The type of most compute operators."""
        return max(self.operators, key=self.operators.__getitem__, default="fp32")

    def words(self) -> str:
        """For a person: `fp16: 100 % of compute operators fp16; weights 99.9 % fp16, 0.1 % fp32`."""
        return f"{self.name}: compute operators {_shares(self.operators)}; weights {_shares(self.weights)}"


def to_half(logits_graph: onnx.ModelProto, islands: Sequence[str] = ()) -> onnx.ModelProto:
    """The logits graph in float16 with float32 islands; its input and output stay float32.

    Args:
        islands: names of further nodes that stay float32.

    Raises:
        InputError: the conversion did not take effect.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    network = named(logits_graph)
    with quiet():
        half = convert_float_to_float16(
            network,
            keep_io_types=True,
            op_block_list=list(ISLANDS),
            node_block_list=[*islands, *_of_sizes(network)],
        )
    return _checked(tidied(without_detours(half)), "fp16")


def quantise(
    logits_graph: onnx.ModelProto, card: Card, pictures: Sequence[Path], islands: Sequence[str] = ()
) -> onnx.ModelProto:
    """The logits graph with int8 convolutions and matrix products; its input and output stay float32.

    Only what enters an operator is quantised, which is what TensorRT fuses, and what a residual sum adds up
    stays exact.

    Args:
        pictures: files from the domain that the graph will see.
        islands: names of nodes that stay float32.

    Raises:
        InputError: the quantisation did not take effect.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    name = logits_graph.graph.input[0].name

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        """Feeds the pictures one by one, as the fold's preprocessing would."""

        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            picture = next(self.left, None)
            return None if picture is None else {name: normalised(read_picture(picture), card)}

    options = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,  # TensorRT wants biases in float
        "OpTypesToExcludeOutputQuantization": list(COMPUTE),
    }
    with scratch() as folder, quiet():
        written = folder / "int8.onnx"
        quantize_static(
            named(logits_graph),
            written,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(COMPUTE),
            nodes_to_exclude=list(islands),
            extra_options=options,
        )
        return _checked(tidied(onnx.load(written)), "int8")


def normalised(image: Image, card: Card) -> NDArray[np.float32]:
    """A picture uint8 [H, W, 3] as the network takes it: [1, 3, H', W'], padded with zeros to the stride."""
    if card.size is not None:
        image = resize_image(image, card.size)
    height, width = image.shape[:2]
    pixels = (image / 255.0 - np.array(card.mean)) / np.array(card.std)
    pads = ((0, -height % card.stride), (0, -width % card.stride), (0, 0))
    return np.pad(pixels, pads).transpose(2, 0, 1)[None].astype(np.float32)


def precision_of(model: onnx.ModelProto) -> Precision:
    """Read the precision of the network inside a logits graph or a folded graph."""
    graph = model.graph
    types = _value_types(model)
    made_by = {name: node for node in graph.node for name in node.output}

    def multiplies_in(node: onnx.NodeProto) -> str:
        sources = [made_by.get(name) for name in node.input[:2]]
        if all(source is not None and source.op_type == "DequantizeLinear" for source in sources):
            stored = {types.get(source.input[0], 0) for source in sources if source is not None}
            return "int8" if stored <= {TensorProto.INT8, TensorProto.UINT8} else "other"
        return _DTYPES.get(types.get(node.input[0], 0), "other")

    network = [node for node in graph.node if not node.name.startswith(PREFIX)]
    operators = Counter(multiplies_in(node) for node in network if node.op_type in COMPUTE)
    used = {name for node in network for name in node.input}
    weights: Counter[str] = Counter()
    for tensor in graph.initializer:
        if tensor.name in used and tensor.data_type in _DTYPES:
            weights[_DTYPES[tensor.data_type]] += int(np.prod(tensor.dims))
    return Precision(_normalised_counts(operators), _normalised_counts(weights))


def ends(logits_graph: onnx.ModelProto) -> list[str]:
    """Names of the first and the last compute operator, which lose most in integers."""
    names = [node.name for node in named(logits_graph).graph.node if node.op_type in COMPUTE]
    return [*names[:1], *names[-1:]]


def depthwise(logits_graph: onnx.ModelProto) -> list[str]:
    """Names of the depthwise convolutions: few weights, little arithmetic, no averaging of errors."""
    constants = {tensor.name: tensor.dims for tensor in logits_graph.graph.initializer}
    return [
        node.name
        for node in named(logits_graph).graph.node
        if node.op_type == "Conv"
        and any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
        and list(constants.get(node.input[1], [0, 0]))[1] == 1
    ]


def _of_sizes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that compute with sizes alone, not with pixels.

    Positions of a ViT's patches are made of them. They cost nothing, float16 cannot count far, and TensorRT
    has no float16 among its shape tensors.
    """
    pixels = {value.name for value in model.graph.input}
    names = []
    for node in model.graph.node:  # in topological order
        if node.op_type not in ("Shape", "Size") and pixels.intersection(node.input):
            pixels.update(node.output)
        else:
            names.append(node.name)
    return names


def _checked(model: onnx.ModelProto, wanted: str) -> onnx.ModelProto:
    """Refuse a conversion that did not take effect."""
    found = precision_of(model)
    if found.operators.get(wanted, 0) < LEAST_OPERATORS or found.weights.get(wanted, 0) < LEAST_WEIGHTS:
        raise InputError(
            f"--precision {wanted} did not take effect, the graph would be {found.words()}; "
            "export it as fp32."
        )
    return model


def _value_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX element type of every value that shape inference knows."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    return types | {t.name: t.data_type for t in inferred.initializer}


def _normalised_counts(counts: Counter[str]) -> dict[str, float]:
    total = sum(counts.values())
    return {kind: count / total for kind, count in counts.most_common()}


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{share:.3g} % {kind}" for kind, share in ((k, 100 * s) for k, s in shares.items()))
