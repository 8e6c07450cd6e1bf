"""Where the logits are is found behind every usual ending, and the balanced file says what its own would."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from calibrated_models import call, images_of
from foreign_segmenters import write_pictures, write_segmenter
from onnx import TensorProto, helper, numpy_helper

from export.balancing.seen import shown
from export.foreign.endings import find_logits
from export.foreign.graph import UnknownError
from serve import Segmenter

FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8
NHWC, NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
HALF = ({"to": TensorProto.FLOAT16}, {"to": FLOAT})
UP = np.array([1, 1, 4, 4], np.float32)

ENDINGS = {
    "nothing": ([], 4),
    "softmax": ([("Softmax", {"axis": 1})], 4),
    "log-softmax": ([("LogSoftmax", {"axis": 1})], 4),
    "sigmoid per class": ([("Sigmoid", {})], 4),
    "softmax between transposes, as old torch writes it": (
        [("Transpose", {"perm": NHWC}), ("Softmax", {"axis": 3}), ("Transpose", {"perm": NCHW})],
        4,
    ),
    "softmax, then channels last": ([("Softmax", {"axis": 1}), ("Transpose", {"perm": NHWC})], 4),
    "softmax and casts": ([("Softmax", {"axis": 1}), *(("Cast", c) for c in HALF), ("Identity", {})], 4),
    "labels": ([("ArgMax", {"axis": 1, "keepdims": 0})], 3),
    "labels of a softmax": ([("Softmax", {"axis": 1}), ("ArgMax", {"axis": 1, "keepdims": 0})], 3),
    "labels of a sigmoid": ([("Sigmoid", {}), ("ArgMax", {"axis": 1})], 4),
    "small labels without a batch": (
        [("ArgMax", {"axis": 1}), ("Cast", {"to": UINT8}), ("Squeeze", {"axes": [0, 1]})],
        2,
    ),
    "the best of TopK": ([("TopK", {"axis": 1, "k": 1})], 4),
    "the best of TopK of a softmax": ([("Softmax", {"axis": 1}), ("TopK", {"axis": 1, "k": 1})], 4),
    "logits without a batch": ([("Squeeze", {"axes": [0]})], 3),
    "a softmax without a batch": ([("Softmax", {"axis": 1}), ("Squeeze", {"axes": [0]})], 3),
    "labels of upsampled logits": ([("Resize", {}), ("ArgMax", {"axis": 1, "keepdims": 0})], 3),
}


def end_with(path: Path, steps: list[tuple[str, dict]], rank: int) -> Path:
    """The classifier, whose logits are value2, with further nodes."""
    model = onnx.load(write_segmenter(path, inside=1))
    graph, kind = model.graph, FLOAT
    name = graph.output[0].name
    for number, (operator, attributes) in enumerate(steps):
        constants, outputs = [], [f"end{number}"]
        given = dict(attributes)
        if operator == "Squeeze":
            constants = [("axes", np.array(given.pop("axes")))]
        if operator == "TopK":
            constants, outputs = [("k", np.array([given.pop("k")]))], [f"best{number}", f"end{number}"]
        if operator == "Resize":
            constants, given = [("roi", np.zeros(0, np.float32)), ("scales", UP)], {"mode": "linear"}
        for label, value in constants:
            graph.initializer.append(numpy_helper.from_array(value, f"{label}{number}"))
        inputs = [name, *(f"{label}{number}" for label, _ in constants)]
        graph.node.append(helper.make_node(operator, inputs, outputs, **given))
        kind = {"ArgMax": INT64, "TopK": INT64}.get(operator, given.get("to", kind))
        name = outputs[-1]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, kind, [f"d{i}" for i in range(rank)]))
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("footage"), count=3)


@pytest.fixture(scope="module")
def plain(footage, tmp_path_factory) -> list[np.ndarray]:
    """Labels of the classifier balanced at strength 1."""
    return balanced(end_with(tmp_path_factory.mktemp("plain") / "model.onnx", [], 4), footage)


def balanced(model: Path, footage: Path, *options: object) -> list[np.ndarray]:
    out = model.with_name("out.onnx")
    result = call(
        "balance", model, "--target", footage / "images", "--tau", 1, "-o", out, "--force", *options
    )
    assert result.exit_code == 0, result.output
    return [Segmenter(out)(image).labels for image in images_of(footage)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_logits_are_found_behind(ending, tmp_path):
    steps, rank = ENDINGS[ending]
    path = end_with(tmp_path / "model.onnx", steps, rank)
    found = find_logits(onnx.load(path), None, path)
    upsampled, transposed = steps[:1] == [("Resize", {})], steps[:1] == [("Transpose", {"perm": NHWC})]
    assert found.name == ("end0" if upsampled or transposed else "value2")
    assert len(found.behind) == len(steps) - (upsampled or transposed)
    assert not found.resizes_probabilities
    assert find_logits(onnx.load(path), found.name, path).name == found.name


@pytest.mark.parametrize(
    "ending",
    [
        "sigmoid per class",
        "softmax between transposes, as old torch writes it",
        "small labels without a batch",
    ],
)
def test_whatever_the_ending_the_balanced_labels_are_the_same(ending, footage, plain, tmp_path):
    model = end_with(tmp_path / "model.onnx", *ENDINGS[ending])
    for labels, expected in zip(balanced(model, footage), plain, strict=True):
        np.testing.assert_array_equal(labels, expected)


def test_without_strength_labels_are_those_of_the_file_itself(footage, tmp_path):
    model = end_with(tmp_path / "model.onnx", *ENDINGS["labels of upsampled logits"])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    out = tmp_path / "out.onnx"
    result = call("balance", model, "--target", footage / "images", "--tau", 0, "-o", out)
    assert result.exit_code == 0, result.output
    for image in images_of(footage):
        own = session.run(None, {"picture": (image / 255).astype(np.float32).transpose(2, 0, 1)[None]})[0]
        np.testing.assert_array_equal(Segmenter(out)(image).labels, own[0])


def test_several_outputs_of_one_logits_are_no_question(tmp_path):
    path = end_with(tmp_path / "model.onnx", ENDINGS["softmax"][0], 4)
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("ReduceMax", ["end0"], ["confidence"], axes=[1]))
    model.graph.node.append(helper.make_node("ArgMax", ["end0"], ["labels"], axis=1))
    for name, kind in (("confidence", FLOAT), ("labels", INT64), ("value2", FLOAT)):
        model.graph.output.append(helper.make_tensor_value_info(name, kind, ["a", "b", "c", "d"]))
    assert find_logits(model, None, path).name == "value2"


def test_upsampled_probabilities_are_said(footage, tmp_path):
    model = end_with(tmp_path / "model.onnx", [("Softmax", {"axis": 1}), ("Resize", {})], 4)
    out = tmp_path / "out.onnx"
    result = call("balance", model, "--target", footage / "images", "-o", out)
    assert result.exit_code == 0, result.output
    assert "value2, NCHW, at stride 4 (before Softmax, Resize), upsampled before the softmax" in result.output
    said = float(result.output.split("that alone makes ")[1].split(" %")[0])
    plain = tmp_path / "plain.onnx"
    assert call("balance", model, "--target", footage / "images", "--tau", 0, "-o", plain).exit_code == 0
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    apart = []
    pictures = images_of(footage)
    for image in (pictures[number] for number in shown(len(pictures))):
        own = session.run(None, {"picture": (image / 255).astype(np.float32).transpose(2, 0, 1)[None]})[0]
        apart.append(Segmenter(plain)(image).labels != own[0].argmax(0))
    assert 0 < 100 * np.mean(apart) == pytest.approx(said, rel=0.06)


def test_a_single_map_beside_is_no_question(tmp_path):
    """Depth, as of a model of several tasks, has no classes."""
    path = end_with(tmp_path / "model.onnx", [], 4)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 4, 1, 1), np.float32), "weights"))
    model.graph.node.append(helper.make_node("Conv", ["value2", "weights"], ["depth"]))
    model.graph.output.append(helper.make_tensor_value_info("depth", FLOAT, ["n", 1, "h", "w"]))
    assert find_logits(model, None, path).name == "value2"
    model.graph.output[-1].type.tensor_type.shape.dim[1].dim_value = 4
    with pytest.raises(UnknownError, match="several outputs that may be logits"):
        find_logits(model, None, path)


def test_labels_that_were_made_over_are_said(footage, tmp_path):
    path = end_with(tmp_path / "model.onnx", [("ArgMax", {"axis": 1})], 4)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array(1), "one"))
    model.graph.node.append(helper.make_node("Add", ["end0", "one"], ["from_one"]))
    model.graph.output[0].name = "from_one"
    onnx.save(model, path)
    said = call("balance", path, "--target", footage / "images", "-o", tmp_path / "out.onnx")
    assert said.exit_code == 0, said.output
    words = "(before ArgMax, Add); labels are the numbers of its logits, from 0, not what Add makes of them"
    assert words in said.output


def test_a_network_that_goes_on_behind_an_argmax_keeps_its_own_logits(tmp_path):
    """A code book: what is looked up by the ArgMax is convolved again."""
    path = end_with(tmp_path / "model.onnx", [("ArgMax", {"axis": 1, "keepdims": 0})], 3)
    model, rng = onnx.load(path), np.random.default_rng(0)
    weights = {"codes": rng.normal(0, 1, (4, 6)), "head": rng.normal(0, 1, (5, 6, 1, 1))}
    model.graph.initializer.extend(
        numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()
    )
    model.graph.node.append(helper.make_node("Gather", ["codes", "end0"], ["looked_up"]))
    model.graph.node.append(helper.make_node("Transpose", ["looked_up"], ["code"], perm=NCHW))
    model.graph.node.append(helper.make_node("Conv", ["code", "head"], ["logits"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("logits", FLOAT, ["n", 5, "h", "w"]))
    assert find_logits(model, None, path).name == "logits"
