"""A network is known by what it computes, and statistics are folded into the network that they are of."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper
from onnx_segmenters import card, plain_segmenter, statistics
from safetensors import safe_open
from safetensors.torch import save_file
from small_network import small_network, smooth_pictures, write_pictures

from export.cli.commands import main
from export.fold.fingerprint import fingerprint
from export.fold.fold import Strength, fold
from export.fold.folded import lineage, unfold
from export.precision.conversion import to_half
from export.sources.statistics_file import read_statistics
from serve.card import Key


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every value and node has another name, and notes are added."""
    other = copy(model)
    graph = other.graph
    for node in graph.node:
        node.name, node.doc_string = f"n{node.name}", "a note"
        node.input[:] = [f"v{name}" if name else "" for name in node.input]
        node.output[:] = [f"v{name}" for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = f"v{value.name}"
    other.metadata_props.add(key="author", value="somebody")
    other.producer_name = "another"
    return other


def with_a_spare_weight_and_identities(model: onnx.ModelProto) -> onnx.ModelProto:
    other = copy(model)
    other.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "spare"))
    name = other.graph.output[0].name
    last = next(node for node in other.graph.node if name in node.output)
    last.output[0] = "inner"
    other.graph.node.append(helper.make_node("Identity", ["inner"], [name]))
    return other


def with_constants_as_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    other = copy(model)
    weights = list(other.graph.initializer)
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in weights]
    nodes += list(copy(other).graph.node)
    del other.graph.initializer[:], other.graph.node[:]
    other.graph.node.extend(nodes)
    return other


@pytest.mark.parametrize(
    "alike",
    [
        copy,
        renamed,
        with_a_spare_weight_and_identities,
        with_constants_as_nodes,
        lambda m: unfold(fold(m, card(3), None)),
        lambda m: unfold(fold(m, card(3), Strength(statistics(3), "x"))),
        onnx.shape_inference.infer_shapes,
    ],
)
def test_the_same_network_written_otherwise_is_the_same(alike):
    assert fingerprint(alike(small_network())) == fingerprint(small_network())


def other_weight(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[1]
    value = numpy_helper.to_array(tensor).copy()
    value.flat[0] = np.nextafter(value.flat[0], np.float32(9))
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def other_input_order(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Concat")
    node.input[:] = reversed(node.input)


def other_attribute(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.name == "norm")
    node.attribute.append(helper.make_attribute("epsilon", 0.1))


def other_operator(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "Relu").op_type = "Tanh"


def other_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims[:] = [1, *model.graph.initializer[1].dims]


def other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 19


def in_half_precision(model: onnx.ModelProto) -> None:
    model.CopyFrom(to_half(model))


@pytest.mark.parametrize(
    "change",
    [
        other_weight,
        other_input_order,
        other_attribute,
        other_operator,
        other_shape,
        other_opset,
        in_half_precision,
    ],
)
def test_another_network_is_another(change):
    model = small_network()
    change(model)
    assert fingerprint(model) != fingerprint(small_network())


def test_what_a_branch_computes_counts():
    def with_branch(kind: str) -> onnx.ModelProto:
        shape = ["n"]
        branches = [
            helper.make_graph(
                [helper.make_node(op, ["x"], [out])],
                out,
                [],
                [helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, shape)],
            )
            for op, out in ((kind, "a"), ("Neg", "b"))
        ]
        ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
        node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
        condition = numpy_helper.from_array(np.array(True), "c")
        return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [condition]))

    assert fingerprint(with_branch("Abs")) == fingerprint(with_branch("Abs"))
    assert fingerprint(with_branch("Abs")) != fingerprint(with_branch("Exp"))


# ---- statistics -----------------------------------------------------------------------------------------

NORMALISED = ("--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """model.onnx and other.onnx, of other weights; stats.safetensors of the first; pictures of a target."""
    folder = tmp_path_factory.mktemp("place")
    write_pictures(folder / "target", smooth_pictures(3))
    onnx.save(small_network(), folder / "model.onnx")
    onnx.save(small_network(seed=1), folder / "other.onnx")
    stats = folder / "stats.safetensors"
    result = call("calibrate", folder / "model.onnx", "--target", folder / "target", *NORMALISED, "-o", stats)
    assert result.exit_code == 0, result.output
    return folder


def fold_into(place: Path, model: Path, out: Path, *options: object, stats: Path | None = None) -> Result:
    stats = stats or place / "stats.safetensors"
    return call("onnx", model, "--stats", stats, "--data", place / "target", "-o", out, *options)


def test_statistics_know_their_model(place):
    assert read_statistics(place / "stats.safetensors")[1].network == fingerprint(small_network())


def test_statistics_of_another_model_are_refused_unless_vouched_for(place, tmp_path):
    out = tmp_path / "out.onnx"
    refused = fold_into(place, place / "other.onnx", out)
    assert refused.exit_code == 2 and "--other-model" in refused.output and not out.exists()
    assert "not gathered with the network of" in refused.output
    allowed = fold_into(place, place / "other.onnx", out, "--other-model")
    assert allowed.exit_code == 0, allowed.output
    assert call("verify", out, "--data", place / "target").exit_code == 0  # it was vouched for, once
    again = call("onnx", out, "--tau", 0.3, "--data", place / "target", "-o", tmp_path / "again.onnx")
    assert again.exit_code == 0, again.output


def test_a_file_and_what_was_made_of_it_are_one_network(place, tmp_path):
    """The corrected file, and the half-precision one, take the statistics of what they were made from."""
    whole, half, out = tmp_path / "whole.onnx", tmp_path / "half.onnx", tmp_path / "out.onnx"
    for made, *options in ((whole,), (half, "--precision", "fp16")):
        assert fold_into(place, place / "model.onnx", made, *options).exit_code == 0
        result = fold_into(place, made, out, "--force", "--tau", 0.3)
        assert result.exit_code == 0, result.output
    assert lineage(onnx.load(half)).sha256 != lineage(onnx.load(whole)).sha256
    assert lineage(onnx.load(whole)).sha256 in lineage(onnx.load(half)).made_from


def test_a_network_altered_since_the_export_takes_no_statistics_along(place, tmp_path):
    file = tmp_path / "file.onnx"
    assert fold_into(place, place / "model.onnx", file).exit_code == 0
    model = onnx.load(file)
    tensor = next(t for t in model.graph.initializer if t.name == "mix")
    tensor.CopyFrom(numpy_helper.from_array(1.5 * numpy_helper.to_array(tensor), "mix"))
    onnx.save(model, file)
    checked = call("verify", file, "--data", place / "target")
    assert checked.exit_code == 1 and "not the one that was exported" in checked.output
    refused = call("onnx", file, "--data", place / "target", "-o", tmp_path / "out.onnx")
    assert refused.exit_code == 2 and "not gathered with the network" in refused.output


def test_statistics_and_files_of_older_versions_are_taken_with_a_word(place, tmp_path):
    stats, file = tmp_path / "old.safetensors", tmp_path / "file.onnx"
    with safe_open(place / "stats.safetensors", "pt") as new:
        tensors = {name: new.get_tensor(name) for name in new.keys()}  # noqa: SIM118
        record = json.loads(new.metadata()["blda.calibration"])
    del record["network"]
    save_file(tensors, stats, {"blda.calibration": json.dumps(record)})
    result = fold_into(place, place / "model.onnx", file, stats=stats)
    assert result.exit_code == 0 and "can't be told" in result.output, result.output
    model = onnx.load(file)
    model.metadata_props.remove(next(p for p in model.metadata_props if p.key == Key.NETWORK))
    onnx.save(model, file)
    for result in (
        call("verify", file, "--data", place / "target"),
        call("onnx", file, "--data", place / "target", "-o", tmp_path / "again.onnx"),
    ):
        assert result.exit_code == 0 and "can't be told" in result.output, result.output


@pytest.mark.parametrize("command", ["onnx", "eval"])
def test_a_word_for_nothing_is_refused(place, tmp_path, command):
    onnx.save(fold(plain_segmenter(3), card(3), None), tmp_path / "model.onnx")
    options = ("--without-correction", "-o", tmp_path / "out.onnx")
    if command == "eval":
        options = ("--data", place / "target")
    result = call(command, tmp_path / "model.onnx", "--other-model", *options)
    assert result.exit_code == 2 and "--other-model" in result.output
