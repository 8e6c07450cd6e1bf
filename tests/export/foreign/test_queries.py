"""Query models: their semantic map is built in the graph, and is that of transformers; others are refused."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from calibrated_models import call, images_of
from foreign_segmenters import write_pictures, write_segmenter
from onnx import TensorProto, helper, numpy_helper
from task_files import task, write_tokenizer

from export.fold.folded import graph_info
from export.foreign.convention import Told
from export.foreign.network import open_network
from serve import Segmenter

FLOAT = TensorProto.FLOAT
NAMES = ("class_queries_logits", "masks_queries_logits")
CLASSES, QUERIES = 3, 7
UNIT = Told(mean=(0, 0, 0), std=(1, 1, 1))


def write_queries(path: Path, names: tuple[str, str] = NAMES, kind: int = FLOAT, opset: int = 18) -> Path:
    """Random queries: masks are the colour classifier's logits mixed, classes depend on the mean colour."""
    model = onnx.load(write_segmenter(path, inside=1, opset=opset))
    rng = np.random.default_rng(0)
    weights = {
        "mix": rng.normal(0, 0.5, (QUERIES, 4, 1, 1)).astype(np.float32),
        "say": 0.05 * np.repeat(rng.normal(0, 1, (1, QUERIES * (CLASSES + 1))), 4, axis=0).astype(np.float32),
        "shape": np.array([0, QUERIES, CLASSES + 1]),
        "rows": np.array([0, -1]),
    }
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in weights.items())
    last = model.graph.output[0].name
    model.graph.node.extend(
        [
            helper.make_node("Conv", [last, "mix"], ["raw_masks"]),
            helper.make_node("GlobalAveragePool", [last], ["mean"]),
            helper.make_node("Reshape", ["mean", "rows"], ["flat_mean"]),
            helper.make_node("MatMul", ["flat_mean", "say"], ["said"]),
            helper.make_node("Reshape", ["said", "shape"], ["raw_classes"]),
            helper.make_node("Cast", ["raw_classes"], [names[0]], to=kind),
            helper.make_node("Cast", ["raw_masks"], [names[1]], to=kind),
        ]
    )
    del model.graph.output[:]
    for name, shape in zip(names, (["n", QUERIES, CLASSES + 1], ["n", QUERIES, "h", "w"]), strict=True):
        model.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    onnx.save(model, path)
    return path


def semantic_map(classes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """p [C, h, w] in float64, pixel by pixel, query by query."""
    shares = np.exp(classes.astype(np.float64))
    shares = (shares / shares.sum(1, keepdims=True))[:, :-1]
    result = np.zeros((shares.shape[1], *masks.shape[1:]))
    for q in range(len(shares)):
        for c in range(shares.shape[1]):
            result[c] += shares[q, c] / (1 + np.exp(-masks[q].astype(np.float64)))
    return result


def own_outputs(model: Path, image: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pixels = (image / 255).astype(np.float32).transpose(2, 0, 1)[None]
    return [out[0] for out in session.run(None, {session.get_inputs()[0].name: pixels})]


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("footage"), count=3)


@pytest.mark.parametrize(("kind", "opset"), [(FLOAT, 18), (TensorProto.FLOAT16, 13), (FLOAT, 11)])
def test_the_map_is_the_formula_and_the_file_balances_it(kind, opset, footage, tmp_path):
    model = write_queries(tmp_path / "model.onnx", kind=kind, opset=opset)
    out = tmp_path / "out.onnx"
    said = call("balance", model, "--target", footage / "images", "--tau", 0, "-o", out)
    assert said.exit_code == 0, said.output
    assert "class_queries_logits,masks_queries_logits, NCHW, at stride 4 (logarithm of the" in said.output
    scored, corrected = tmp_path / "scored.onnx", tmp_path / "corrected.onnx"
    data = ("--data", footage / "images", "--scores")
    assert call("onnx", out, "--tau", 0, *data, "-o", scored).exit_code == 0
    assert call("onnx", out, "--tau", 1, *data, "-o", corrected).exit_code == 0
    assert len(graph_info(onnx.load(out), "").card.classes) == CLASSES
    changed = []
    for image in images_of(footage):
        expected = semantic_map(*own_outputs(model, image))
        found = Segmenter(scored)(image, extras=True).scores
        np.testing.assert_allclose(found, np.log(expected), atol=2e-3 if kind != FLOAT else 1e-4)
        assert (found.argmax(0) == expected.argmax(0)).mean() > 0.999
        changed.append((Segmenter(corrected)(image).labels != Segmenter(out)(image).labels).mean())
    assert max(changed) > 0.01


def test_other_names_are_given_by_the_person(footage, tmp_path):
    model = write_queries(tmp_path / "model.onnx", names=("a", "b"))
    network = open_network(model, UNIT, "a,b")
    assert network.outlet.classes == CLASSES and network.outlet.name == "a,b"
    image = images_of(footage)[0]
    expected = semantic_map(*own_outputs(model, image))
    np.testing.assert_allclose(network.logits(image[None])[0], np.log(expected), atol=1e-4)


@pytest.mark.parametrize(
    ("outputs", "task", "words"),
    [
        (("dets", "labels", "masks"), "", "it gives boxes, as DETR and RF-DETR do"),
        (("logits", "pred_boxes", "pred_masks"), "", "it gives boxes"),
        (("output0", "output1"), "", "as YOLO's segmenters do"),
        (("output0", "output1"), "segment", "its metadata say task=segment (Ultralytics)"),
    ],
)
def test_what_is_not_semantic_is_refused_by_name(outputs, task, words, footage, tmp_path):
    model = onnx.load(write_queries(tmp_path / "model.onnx"))
    values = [*NAMES, *NAMES][: len(outputs)]
    for name, value in zip(outputs, values, strict=True):
        model.graph.node.append(helper.make_node("Identity", [value], [name]))
    shapes = {NAMES[0]: ["n", "q", 4], NAMES[1]: ["n", "q", "h", "w"]}
    del model.graph.output[:]
    for name, value in zip(outputs, values, strict=True):
        model.graph.output.append(helper.make_tensor_value_info(name, FLOAT, shapes[value]))
    if task:
        model.metadata_props.add(key="task", value=task)
    onnx.save(model, tmp_path / "model.onnx")
    target = ("--target", footage / "images", "-o", tmp_path / "out.onnx")
    said = call("balance", tmp_path / "model.onnx", *target)
    assert said.exit_code == 2 and "is no semantic segmenter: " in said.output and words in said.output, (
        said.output
    )
    assert "[2/5]" not in said.output


def small_swin() -> object:
    from transformers import SwinConfig

    small = {"image_size": 64, "embed_dim": 8, "depths": [1] * 4, "num_heads": [1] * 4, "window_size": 4}
    return SwinConfig(**small, out_features=[f"stage{i}" for i in (1, 2, 3, 4)])


def one_former() -> tuple[torch.nn.Module, object]:
    from transformers import (
        OneFormerConfig,
        OneFormerForUniversalSegmentation,
        OneFormerImageProcessorPil,
    )

    torch.manual_seed(0)
    config = OneFormerConfig(
        backbone_config=small_swin(),
        num_labels=5,
        **{name: 32 for name in ("conv_dim", "mask_dim", "hidden_dim")},
        **{name: 16 for name in ("encoder_feedforward_dim", "dim_feedforward")},
        **{"encoder_layers": 1, "decoder_layers": 2, "query_dec_layers": 1, "num_attention_heads": 2},
        num_queries=7,
    )
    return OneFormerForUniversalSegmentation(config).eval(), OneFormerImageProcessorPil(num_text=3)


def network_of(kind: str) -> tuple[torch.nn.Module, object]:
    from transformers import (
        DetrConfig,
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
        MaskFormerImageProcessor,
    )

    torch.manual_seed(0)
    common = {"backbone_config": small_swin(), "num_labels": 5, "mask_feature_size": 32}
    if kind == "MaskFormer":
        decoder = DetrConfig(
            d_model=32,
            num_queries=7,
            **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
            **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
            **{f"{part}_ffn_dim": 16 for part in ("encoder", "decoder")},
        )
        config = MaskFormerConfig(**common, decoder_config=decoder, fpn_feature_size=32)
        return MaskFormerForInstanceSegmentation(config).eval(), MaskFormerImageProcessor()
    config = Mask2FormerConfig(
        **common,
        **{name: 32 for name in ("feature_size", "hidden_dim")},
        **{name: 16 for name in ("encoder_feedforward_dim", "dim_feedforward")},
        **{"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2, "num_queries": 7},
    )
    return Mask2FormerForUniversalSegmentation(config).eval(), Mask2FormerImageProcessor()


class Outputs(torch.nn.Module):
    """Both outputs as a tuple, which the exporter names."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor, *task: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.network(pixels, *task)
        return found.class_queries_logits, found.masks_queries_logits


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter tells how old it is, at length
@pytest.mark.parametrize("kind", ["MaskFormer", "Mask2Former"])
def test_labels_are_those_of_transformers(kind, tmp_path):
    """Mask2Former only leaves the newer exporter as what ONNX Runtime runs."""
    size = (384, 384) if kind == "Mask2Former" else (128, 160)
    footage = write_pictures(tmp_path / "footage", count=2, size=size)
    network, processor = network_of(kind)
    model, newer = tmp_path / "model.onnx", kind == "Mask2Former"
    torch.onnx.export(
        Outputs(network).eval(),
        (torch.zeros(1, 3, *size),),
        model,
        dynamo=newer,
        opset_version=18 if newer else 17,
        input_names=["pixel_values"],
        output_names=list(NAMES),
    )
    opened = open_network(model, UNIT, None)
    for image in images_of(footage):
        pixels = torch.tensor(image / 255, dtype=torch.float32).permute(2, 0, 1)[None]
        with torch.no_grad():
            outputs = network(pixels)
        sides = tuple(outputs.masks_queries_logits.shape[2:])
        if newer:  # it brings masks to 384 x 384 before, whatever their size
            outputs.masks_queries_logits = torch.nn.functional.interpolate(
                outputs.masks_queries_logits, size=(384, 384), mode="nearest"
            )
        right = processor.post_process_semantic_segmentation(
            outputs, target_sizes=[(384, 384)] if newer else None
        )
        right = right[0][2::4, 2::4] if newer else right[0]
        found = opened.logits(image[None])[0]
        assert found.shape[1:] == sides
        best = np.sort(found, axis=0)
        clear = best[-1] - best[-2] > 1e-4  # a random network hardly tells classes apart
        assert clear.mean() > 0.5 and np.array_equal(found.argmax(0)[clear], right.numpy()[clear])


def all_true(values: object) -> object:
    """What torch's exporter lacks of a check inside OneFormer."""
    from onnxscript import opset18

    return opset18.ReduceMin(opset18.Cast(values, to=TensorProto.INT32), keepdims=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_labels_of_a_one_former_are_those_of_transformers(tmp_path):
    """Of the file as torch exports it, with its tokenizer beside, and of the balanced one."""
    size = (128, 160)
    footage = write_pictures(tmp_path / "footage", count=2, size=size)
    network, processor = one_former()
    ids = torch.from_numpy(task())
    torch.onnx.export(
        Outputs(network).eval(),
        (torch.zeros(1, 3, *size), ids),
        tmp_path / "model.onnx",
        dynamo=True,
        opset_version=18,
        input_names=["pixel_values", "task_inputs"],
        output_names=list(NAMES),
        custom_translation_table={torch.ops.aten._is_all_true.default: all_true},
    )
    write_tokenizer(tmp_path)
    pictures, out = shutil.copytree(footage / "images", tmp_path / "pictures"), tmp_path / "out.onnx"
    told = ("--mean", 0, "--std", 1, "--target", pictures, "-o", out, "--force")
    for tau in (1, 0):
        said = call("balance", tmp_path / "model.onnx", *told, "--tau", tau)
        assert said.exit_code == 0 and "passed: against" in said.output, said.output
    assert call("verify", out, "--data", pictures).exit_code == 0
    opened = open_network(tmp_path / "model.onnx", UNIT, None)
    for image in images_of(footage):
        pixels = torch.tensor(image / 255, dtype=torch.float32).permute(2, 0, 1)[None]
        with torch.no_grad():
            outputs = network(pixels, ids)
        right = processor.post_process_semantic_segmentation(outputs)[0].numpy()
        found = opened.logits(image[None])[0]
        best = np.sort(found, axis=0)
        clear = best[-1] - best[-2] > 1e-4
        assert clear.mean() > 0.5 and np.array_equal(found.argmax(0)[clear], right[clear])
        whole = torch.nn.functional.interpolate(torch.from_numpy(found)[None], size=size, mode="bilinear")[0]
        margin = whole.topk(2, dim=0).values
        sure = (margin[0] - margin[1] > 1e-4).numpy()
        assert np.array_equal(Segmenter(out)(image).labels[sure], whole.argmax(0).numpy()[sure])
