"""A file that upsamples probabilities is followed: without a correction, labels are those of its own user."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from calibrated_models import call, images_of
from foreign_segmenters import write_pictures, write_segmenter
from onnx import TensorProto, helper, numpy_helper
from onnx_segmenters import run

from adapt.errors import InputError
from export.fold.fold import fold
from export.fold.folded import graph_info
from export.foreign.adapters import logits_graph_of
from export.foreign.convention import Told
from export.foreign.network import Network, open_network
from serve import Segmenter
from serve.card import Card, Upsampling

NHWC, NCHW = {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]}
HALF = {"to": TensorProto.FLOAT16}
SOFTMAX, SIGMOID, RESIZE = ("Softmax", {"axis": 1}), ("Sigmoid", {}), ("Resize", {"mode": "linear"})
Steps = list[tuple[str, dict[str, Any]]]


def resize(coordinates: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "Resize", {"mode": "linear", "coordinate_transformation_mode": coordinates, **more}


def end_with(path: Path, steps: Steps, sides: tuple[int, int] | None = None, **settings: Any) -> Path:
    """The classifier with further nodes; resized by 4 along each side, or to `sides`."""
    model = onnx.load(write_segmenter(path, inside=1, **settings))
    graph = model.graph
    name, kind = graph.output[0].name, TensorProto.FLOAT
    for number, (operator, attributes) in enumerate(steps):
        given, inputs, output = dict(attributes), [name], f"end{number}"
        if operator in ("Resize", "Upsample"):
            scales = given.pop("scales", [1, 1, 4, 4])
            constants = {"roi": np.zeros(0, np.float32), "scales": np.array(scales, np.float32)}
            if operator == "Upsample":
                del constants["roi"]
            if sides is not None:
                constants |= {"scales": np.zeros(0, np.float32), "sizes": np.array([1, 4, *sides])}
            for label, value in constants.items():
                graph.initializer.append(numpy_helper.from_array(value, f"{label}{number}"))
            inputs += [f"{label}{number}" for label in constants]
        if operator == "Mul":
            graph.initializer.append(numpy_helper.from_array(given.pop("factor"), f"factor{number}"))
            inputs += [f"factor{number}"]
        graph.node.append(helper.make_node(operator, inputs, [output], **given))
        kind = given.get("to", TensorProto.INT64 if operator == "ArgMax" else kind)
        name = output
    del graph.output[:]
    rank = 3 if steps[-1][1].get("keepdims") == 0 else 4
    graph.output.append(helper.make_tensor_value_info(name, kind, [f"d{i}" for i in range(rank)]))
    onnx.save(model, path)
    return path


def own_labels(path: Path, image: np.ndarray) -> np.ndarray:
    """What the file's user takes: the best of its output, or its output."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {"picture": (image / 255).astype(np.float32).transpose(2, 0, 1)[None]})[0]
    if found.ndim == 3:
        return found[0]
    return found[0].argmax(0 if found.shape[1] == 4 else 2)


def deployed(network: Network, image: np.ndarray) -> np.ndarray:
    """Labels of the graph that is folded without a correction."""
    taken, outlet = network.intake, network.outlet
    strides = (outlet.stride, outlet.output_stride, taken.size)
    how = outlet.upsampling if outlet.output_stride > 1 else Upsampling()
    names, palette = tuple("abcd"[: outlet.classes]), ((0, 0, 0),) * outlet.classes
    card = Card(names, palette, 255, taken.mean, taken.std, *strides, upsampling=how)
    return run(fold(logits_graph_of(network), card, None), image[None])["labels"][0]


FOLLOWED: dict[str, tuple[Steps, dict[str, Any], Upsampling]] = {
    f"{rising[0]}, {coordinates}, opset {opset}": (
        [rising, resize(coordinates)],
        {"opset": opset},
        Upsampling("probabilities", rising[0].lower(), found),
    )
    for rising in (SOFTMAX, SIGMOID)
    for opset in (13, 18)
    for coordinates, found in (
        ("half_pixel", "half_pixel"),
        ("pytorch_half_pixel", "half_pixel"),
        ("align_corners", "align_corners"),
        ("asymmetric", "asymmetric"),
    )
} | {
    "labels": ([SOFTMAX, RESIZE, ("ArgMax", {"axis": 1, "keepdims": 0})], {}, Upsampling("probabilities")),
    "in half precision": (
        [SOFTMAX, ("Cast", HALF), RESIZE, ("Cast", {"to": TensorProto.FLOAT})],
        {},
        Upsampling("probabilities"),
    ),
    "resized channels last": (
        [SOFTMAX, ("Transpose", NHWC), resize("half_pixel", scales=[1, 4, 4, 1])],
        {},
        Upsampling("probabilities"),
    ),
    "made channels last": (
        [("Transpose", NHWC), ("Softmax", {"axis": 3}), ("Transpose", NCHW), RESIZE],
        {},
        Upsampling("probabilities"),
    ),
    "times 255 in between": (
        [SOFTMAX, ("Mul", {"factor": np.array(255, np.float32)}), RESIZE],
        {},
        Upsampling("probabilities"),
    ),
    "the logarithm of a softmax, which are logits": ([SOFTMAX, ("Log", {}), RESIZE], {}, Upsampling()),
    "an old Upsample": (
        [SIGMOID, ("Upsample", {"mode": "linear"})],
        {"opset": 9},
        Upsampling("probabilities", "sigmoid", "asymmetric"),
    ),
    "logarithms, which are logits": ([("LogSoftmax", {"axis": 1}), RESIZE], {}, Upsampling()),
    "logarithms, corners aligned": (
        [("LogSoftmax", {"axis": 1}), resize("align_corners")],
        {},
        Upsampling("scores", "softmax", "align_corners"),
    ),
}


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("footage"), count=3)


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_the_file_upsamples_is_upsampled_as_it_does(name, footage, tmp_path):
    steps, settings, upsampling = FOLLOWED[name]
    path = end_with(tmp_path / "model.onnx", steps, **settings)
    network = open_network(path, Told(), None)
    assert network.outlet.upsampling == upsampling and not network.outlet.unlike
    image = images_of(footage)[0]
    own = own_labels(path, image)
    assert (deployed(network, image) == own).mean() > (0.995 if "half prec" in name else 0.999)
    other = open_network(path, Told(upsample="scores"), None)
    assert other.outlet.upsampling.of == "scores"
    if upsampling.of == "probabilities":
        assert (deployed(other, image) != own).mean() > 0.005, "upsampled scores say something else"


def test_logarithms_of_a_sigmoid_are_upsampled_as_scores_and_that_is_said(footage, tmp_path):
    path = end_with(tmp_path / "model.onnx", [SIGMOID, ("Log", {}), RESIZE])
    outlet = open_network(path, Told(), None).outlet
    assert outlet.upsampling.of == "scores" and outlet.unlike == "logarithms of a sigmoid"
    with pytest.raises(InputError, match="itself resizes logarithms of a sigmoid"):
        open_network(path, Told(upsample="probabilities"), None)


SIZE = (65, 97)


@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners"])
@pytest.mark.parametrize("rising", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_at_a_stride_that_is_not_whole_too(layout, rising, coordinates, footage, tmp_path):
    """16 of 65: the file resizes its probabilities to the picture's size."""
    steps: Steps = [rising, resize(coordinates)]
    if layout == "NHWC":
        steps = [(rising[0], {"axis": 3} if rising is SOFTMAX else {}), ("Transpose", NCHW), *steps[1:]]
    path = end_with(tmp_path / "model.onnx", steps, SIZE, size=SIZE, out_layout=layout)
    network = open_network(path, Told(), None)
    assert network.outlet.resized == SIZE and network.outlet.upsampling.of == "probabilities"
    image = np.tile(images_of(footage)[0], (2, 2, 1))[: SIZE[0], : SIZE[1]]
    assert (deployed(network, image) == own_labels(path, image)).mean() > 0.999


def test_65_of_513_with_corners_aligned(tmp_path):
    """As DeepLab's users have it: softmax at 65x65, upsampled to 513x513 by torch with align_corners."""
    rng = np.random.default_rng(0)
    weight = torch.tensor(rng.normal(size=(5, 3, 9, 9)) / 4, dtype=torch.float32)

    class DeepLab(torch.nn.Module):
        def forward(self, x):
            logits = torch.nn.functional.conv2d(x, weight, stride=8, padding=4)
            return torch.nn.functional.interpolate(
                logits.softmax(1), size=(513, 513), mode="bilinear", align_corners=True
            )

    path, model = tmp_path / "deeplab.onnx", DeepLab().eval()
    torch.onnx.export(model, (torch.zeros(1, 3, 513, 513),), path, dynamo=True, verbose=False)
    network = open_network(path, Told(mean=(0.5,) * 3, std=(0.5,) * 3), None)
    outlet = network.outlet
    assert outlet.resized == (513, 513) and outlet.upsampling.coordinates == "align_corners"
    image = rng.integers(0, 256, (513, 513, 3), dtype=np.uint8)
    with torch.no_grad():
        own = model((torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5)[0].argmax(0).numpy()
    logits = network.logits(image[None])[0]
    assert (logits.argmax(0) == own).mean() > 0.9999
    told = Told(mean=(0.5,) * 3, std=(0.5,) * 3, upsample="scores")
    assert (open_network(path, told, None).logits(image[None])[0].argmax(0) != own).mean() > 0.005


def test_a_corrected_file_of_such_a_stride_is_made_by_both_ways(footage, tmp_path):
    """By one command or in parts, where the statistics say what was upsampled."""
    path = end_with(tmp_path / "model.onnx", [SOFTMAX, resize("align_corners")], SIZE, size=SIZE)
    out, stats, parts = (tmp_path / name for name in ("out.onnx", "stats.safetensors", "parts.onnx"))
    target = ("--target", footage / "images", "--classes", footage / "classes.yaml")
    said = call("balance", path, *target, "--tau", 1, "-o", out)
    assert said.exit_code == 0 and "passed: against" in said.output, said.output
    assert "65x97 as probabilities from a stride not whole, as the file does it" in said.output
    assert call("calibrate", path, *target, "-o", stats).exit_code == 0
    folded = call("onnx", path, "--stats", stats, "--tau", 1, "--data", footage / "images", "-o", parts)
    assert folded.exit_code == 0, folded.output
    image = images_of(footage)[0]
    np.testing.assert_array_equal(Segmenter(out)(image).labels, Segmenter(parts)(image).labels)
    refused = call("onnx", path, "--stats", stats, "--upsample", "scores", "-o", tmp_path / "no.onnx")
    assert refused.exit_code == 2 and "calibrate with --upsample scores" in refused.output


def test_the_person_chooses_for_a_file_that_does_not_say(footage, tmp_path):
    """One that ends in logits, whose user takes the softmax and torch's interpolate; at several strengths."""
    path = end_with(tmp_path / "model.onnx", [("Identity", {})])
    out, stats = tmp_path / "out.onnx", tmp_path / "stats.safetensors"
    target = ("--target", footage / "images", "--classes", footage / "classes.yaml")
    said = call("balance", path, *target, "--upsample", "probabilities", "--tau", 0, "-o", out)
    assert said.exit_code == 0 and "upsampled as probabilities (half_pixel)" in said.output, said.output
    image = images_of(footage)[0]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = session.run(None, {"picture": (image / 255).astype(np.float32).transpose(2, 0, 1)[None]})[0]
    small = torch.from_numpy(logits).softmax(1)
    own = torch.nn.functional.interpolate(small, size=image.shape[:2], mode="bilinear").argmax(1)[0].numpy()
    assert (Segmenter(out)(image).labels == own).mean() > 0.999
    assert call("calibrate", path, *target, "--upsample", "probabilities", "-o", stats).exit_code == 0
    for options, of in (((), "probabilities"), (("--upsample", "scores"), "scores")):
        made = call("onnx", path, "--stats", stats, *options, "-o", out, "--force")
        assert made.exit_code == 0 and "passed: against" in made.output, made.output
        assert f"upsampled: {of}" in made.output
        assert graph_info(onnx.load(out), "").card.upsampling.of == of
    scored = call("eval", path, "--stats", stats, "--data", footage)
    assert scored.exit_code == 0, scored.output


def test_the_map_of_queries_is_upsampled_itself(tmp_path, footage):
    """As transformers' post-processing does it: sums of shares and masks, no softmax of their logarithms."""
    import foreign_alterations

    path = write_segmenter(tmp_path / "queries.onnx", inside=1)
    model = onnx.load(path)
    foreign_alterations.queries(model, path)
    network = open_network(path, Told(upsample="probabilities"), None)
    assert network.outlet.upsampling == Upsampling("probabilities", "exp", "half_pixel")
    image = images_of(footage)[0]
    small = torch.from_numpy(np.exp(network.logits(image[None]).astype(np.float64)))
    own = torch.nn.functional.interpolate(small, size=image.shape[:2], mode="bilinear").argmax(1)[0].numpy()
    assert (deployed(network, image) == own).mean() > 0.999


UNLIKE = {
    "by a Resize of mode cubic, half_pixel": ([SOFTMAX, ("Resize", {"mode": "cubic"})], None),
    "by a Resize of mode nearest, asymmetric": (
        [SOFTMAX, ("Resize", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"})],
        None,
    ),
    "to another size than the picture's": ([SOFTMAX, resize("half_pixel", scales=[1, 1, 2, 2])], None),
    "in several steps": (
        [SOFTMAX, resize("half_pixel", scales=[1, 1, 2, 2]), resize("half_pixel", scales=[1, 1, 2, 2])],
        None,
    ),
}


@pytest.mark.parametrize("words", UNLIKE)
def test_what_can_t_be_had_is_said_and_refused(words, footage, tmp_path):
    steps, sides = UNLIKE[words]
    path = end_with(tmp_path / "model.onnx", steps, sides)
    network = open_network(path, Told(), None)
    assert network.outlet.upsampling.of == "scores" and words in network.outlet.unlike
    with pytest.raises(InputError, match=f"itself resizes {words}.*; leave it out"):
        open_network(path, Told(upsample="probabilities"), None)
    out, stats = tmp_path / "out.onnx", tmp_path / "stats.safetensors"
    said = call("balance", path, "--target", footage / "images", "--tau", 0, "-o", out)
    assert said.exit_code == 0 and f"where the file does it after {words}" in said.output, said.output
    assert "labels others" not in said.output, "what it is that changes is not known"
    assert call("calibrate", path, "--target", footage / "images", "-o", stats).exit_code == 0
    refused = call("onnx", path, "--stats", stats, "--upsample", "probabilities", "-o", out, "--force")
    assert refused.exit_code == 2 and f"itself resizes {words}" in refused.output


def test_logits_as_large_as_the_pictures_leave_nothing_to_upsample(tmp_path):
    path = write_segmenter(tmp_path / "model.onnx", inside=1, upsample=True)
    with pytest.raises(InputError, match=r"nothing to upsample: the logits of .* are as large"):
        open_network(path, Told(upsample="probabilities"), None)
