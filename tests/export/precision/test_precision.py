"""Half and integer precision: in the file for real, gated per class, and refused where they cost too much."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from onnx_segmenters import card, pictures, plain_segmenter, run, same_bytes, statistics
from small_network import pixels_of, small_network, smooth_pictures, write_pictures

from adapt.errors import InputError
from export.cli.commands import main
from export.fold.fold import Extras, Strength, fold
from export.fold.folded import graph_info, unfold
from export.precision import gates
from export.precision.conversion import depthwise, ends, precision_of, quantise, to_half
from export.precision.gates import agreement, reduce
from export.precision.kinds import PRECISIONS, Gate
from export.sources.pictures import calibration_pictures

STRENGTH = Strength(statistics(3), "random", 0.5)


def logits(model: onnx.ModelProto, picture: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": pixels_of(picture)})[0]


def input_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX type of the first input of every node, by name of the node."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input)}
    return {node.name: types.get(node.input[0], 0) for node in inferred.node}


def test_half_precision_is_in_the_file_with_islands_around_the_norm():
    bare = small_network()
    half = to_half(bare)
    onnx.checker.check_model(half, full_check=True)
    found = precision_of(half)
    assert found.name == "fp16" and found.operators == {"fp16": 1.0} and found.weights["fp16"] > 0.9
    types = input_types(half)
    assert types["norm"] == TensorProto.FLOAT and types["mixing"] == TensorProto.FLOAT16
    kinds = {node.name: node.op_type for node in half.graph.node}
    assert all(types[name] == TensorProto.FLOAT for name, kind in kinds.items() if kind == "Softmax")
    ends_of = [half.graph.input[0], half.graph.output[0]]
    assert [v.type.tensor_type.elem_type for v in ends_of] == [TensorProto.FLOAT] * 2
    assert half.ByteSize() < bare.ByteSize()
    picture = smooth_pictures(1)[0]
    np.testing.assert_allclose(logits(half, picture), logits(bare, picture), atol=0.05)
    assert (logits(half, picture) != logits(bare, picture)).any()


def test_integers_are_in_the_file_and_symmetric(tmp_path):
    bare, taken = small_network(), card(3)
    files = write_pictures(tmp_path / "target", smooth_pictures(4))
    islands = ends(bare)
    assert islands == ["patches", "classifier"]
    whole = quantise(bare, taken, files, islands)
    onnx.checker.check_model(whole, full_check=True)
    found = precision_of(whole)
    assert found.name == "int8" and found.operators["int8"] == pytest.approx(4 / 6)
    points = {node.input[2] for node in whole.graph.node if node.op_type == "QuantizeLinear"}
    zeros = [onnx.numpy_helper.to_array(t) for t in whole.graph.initializer if t.name in points]
    assert points and len(zeros) == len(points) and not any(np.any(zero) for zero in zeros)
    picture = smooth_pictures(1, seed=5)[0]
    assert np.abs(logits(whole, picture) - logits(bare, picture)).mean() < 0.2
    narrow = quantise(bare, taken, files, [*islands, *depthwise(bare)])
    assert precision_of(narrow).operators["int8"] == pytest.approx(3 / 6)


@pytest.mark.parametrize("convert", [lambda bare: to_half(bare, [n.name for n in bare.graph.node])])
def test_a_precision_that_took_no_effect_is_an_error(convert):
    with pytest.raises(
        InputError, match="fp16 did not take effect, the graph would be fp32: compute operators 100"
    ):
        convert(small_network())


def test_the_fold_stays_float32_and_folds_again(tmp_path):
    half = to_half(small_network())
    model = fold(half, card(3), STRENGTH, Extras(scores=True))
    ours = [t for t in model.graph.initializer if t.name.startswith("blda/")]
    assert {t.data_type for t in ours} <= {TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64}
    assert precision_of(model) == precision_of(half)
    assert same_bytes(unfold(model), half)
    again = fold(model, card(3), Strength(statistics(3), "random", 1.0), Extras())
    assert precision_of(again).operators == {"fp16": 1.0}
    assert run(again, pictures(1, 65, 70))["labels"].shape == (1, 65, 70)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_reducing_keeps_the_labels_and_records_what_it_cost(precision, tmp_path):
    model = fold(small_network(), card(3), STRENGTH)
    files = write_pictures(tmp_path / "target", smooth_pictures(4))
    reduced, result = reduce(model, STRENGTH, Extras(), precision, smooth_pictures(2), "fields", files)
    record = json.loads({p.key: p.value for p in reduced.metadata_props}["blda.precision"])
    assert record["name"] == precision and record["agreement"]["overall"] == result.overall
    assert result.overall > 0.95 and set(result.classes) <= set(card(3).classes)
    assert agreement(model, reduced, smooth_pictures(2), "fields") == result
    assert graph_info(reduced, "").correction == graph_info(model, "").correction


def test_agreement_counts_per_class():
    model = fold(plain_segmenter(3), card(3), None)
    flipped = onnx.ModelProto()
    flipped.CopyFrom(model)
    bias = next(t for t in flipped.graph.initializer if t.name == "blda_original/tau")
    lowered = onnx.numpy_helper.to_array(bias) - np.float32([0, 1e3, 0])
    bias.CopyFrom(onnx.numpy_helper.from_array(lowered, bias.name))
    frames = list(pictures(2, 64, 64))
    result = agreement(model, flipped, frames, "noise")
    share = np.mean([run(model, frame[None])["labels"] == 1 for frame in frames])
    assert result.classes["class1"] == 0.0 and result.classes["class0"] == 1.0
    assert result.overall == pytest.approx(1 - share)
    assert not result.passes(Gate(0, 0.01)) and result.passes(Gate(0, 0))


def test_what_changes_too_much_is_refused_after_a_second_try(tmp_path, monkeypatch):
    monkeypatch.setitem(PRECISIONS, "fp16", PRECISIONS["fp16"]._replace(gate=Gate(1.01, 1.0)))
    tried = []
    monkeypatch.setattr(gates, "to_half", lambda bare, islands: tried.append(islands) or to_half(bare))
    model = fold(small_network(), card(3), STRENGTH)
    with pytest.raises(
        InputError, match=r"would change too much: .*% of labels equal to float32, least by class"
    ):
        reduce(model, STRENGTH, Extras(), "fp16", smooth_pictures(1), "fields")
    assert tried == [[], ["depthwise"]]


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


def test_the_command_writes_checked_files_and_says_their_precision(tmp_path):
    source, data = tmp_path / "model.onnx", tmp_path / "pictures"
    onnx.save(fold(small_network(), card(3), STRENGTH), source)
    write_pictures(data, smooth_pictures(3))
    half = tmp_path / "half.onnx"
    code, said = call("onnx", source, "-o", half, "--precision", "fp16", "--data", data, "--tau", 0.5)
    assert code == 0, said
    assert "precision: fp16: compute operators 100 % fp16" in said and "passed" in said
    whole = tmp_path / "whole.onnx"
    code, said = call("onnx", source, "-o", whole, "--precision", "int8", "--calibrate", data, "--data", data)
    assert code == 0, said
    assert "precision: int8" in said and "least by class" in said
    again = tmp_path / "again.onnx"
    code, said = call("onnx", half, "-o", again, "--data", data)
    assert code == 0 and precision_of(onnx.load(again)).name == "fp16", said
    for wanted, message in (
        ("fp32", "fp32 cannot be had"),
        ("fp16", "needs a float32 network, but this one is fp16"),
    ):
        code, said = call("onnx", half, "-o", tmp_path / "no.onnx", "--precision", wanted, "--data", data)
        assert code == 2 and message in said and not (tmp_path / "no.onnx").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "int8"), "belong together"),
        (("--calibrate", "here"), "belong together"),
        (("--precision", "int8", "--calibrate", "nowhere"), "--calibrate: There is no folder nowhere"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    onnx.save(fold(small_network(), card(3), STRENGTH), tmp_path / "model.onnx")
    code, said = call("onnx", tmp_path / "model.onnx", "-o", tmp_path / "out.onnx", *options)
    assert code == 2 and message in said and not (tmp_path / "out.onnx").exists()


def test_verify_compares_a_reduced_file_with_a_float_one_by_its_gates(tmp_path):
    wide, half, data = tmp_path / "wide.onnx", tmp_path / "half.onnx", tmp_path / "pictures"
    write_pictures(data, smooth_pictures(3))
    onnx.save(fold(small_network(), card(3), STRENGTH), wide)
    onnx.save(fold(to_half(small_network()), card(3), STRENGTH), half)
    onnx.save(fold(to_half(small_network(seed=1)), card(3), STRENGTH), tmp_path / "other.onnx")
    code, said = call("verify", half, "--against", wide, "--data", data)
    assert code == 0 and "labels equal to float32" in said and "passed" in said, said
    code, said = call("verify", tmp_path / "other.onnx", "--against", wide, "--data", data)
    assert code == 1 and "labels equal to float32" in said, said
    code, said = call("verify", half, "--data", data)
    assert code == 0 and "labels equal" not in said, said


def test_calibration_pictures_are_spread_evenly(tmp_path):
    for index in range(200):
        (tmp_path / f"{index:03}.png").touch()
    chosen = [int(path.stem) for path in calibration_pictures(tmp_path)]
    assert len(chosen) == 64 and chosen[0] == 0 and chosen[-1] == 199


def test_arithmetic_on_sizes_stays_float32(tmp_path):
    """A ViT's positions come from sizes: float16 could not count them, and TensorRT would refuse it."""
    ramp = [
        helper.make_node("Shape", ["y"], ["sizes"], name="sizes"),
        helper.make_node("Cast", ["sizes"], ["counts"], name="counts", to=TensorProto.FLOAT),
        helper.make_node("ReduceProd", ["counts"], ["pixels"], name="pixels", keepdims=0),
        helper.make_node("Div", ["pixels", "pixels"], ["one"], name="one"),
        helper.make_node("Mul", ["y", "one"], ["z"], name="scale"),
    ]
    network = plain_segmenter(3)
    network.graph.node.extend(ramp)
    network.graph.output[0].name = "z"
    half = to_half(network)
    by_name = {node.name: node for node in half.graph.node}
    assert {"pixels", "one"} <= set(by_name)
    session = onnxruntime.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).normal(size=(1, 3, 640, 640)).astype(np.float32)  # 76,800 logits
    (got,) = session.run(None, {session.get_inputs()[0].name: pixels})
    plain = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    (want,) = plain.run(None, {"x": pixels})
    np.testing.assert_allclose(got, want, atol=0.05)
