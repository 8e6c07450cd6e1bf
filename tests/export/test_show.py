"""What a file says about its inside must be what is inside."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx_segmenters import card, plain_segmenter, statistics
from small_network import small_network

import export.show
from adapt.errors import InputError
from export.cli.commands import main
from export.fold.curves import shift_curves
from export.fold.fold import Extras, Strength, fold
from export.fold.tables import lookup_table
from export.precision.conversion import to_half
from export.show import _centres, draw, folded_shift, measure
from serve.inference.opening import open_runtime

BOUND = 0.05
"""On the score error, in logits."""


def folded(tau: float = 0.5, runtime: bool = False, seed: int = 0) -> onnx.ModelProto:
    strength = Strength(statistics(3, seed), "random", tau, runtime, BOUND)
    return fold(plain_segmenter(3), card(3), strength)


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(("tau", "runtime"), [(0.05, False), (0.5, False), (2.0, False), (0.5, True)])
def test_the_shift_read_back_is_the_one_that_was_folded(tau, runtime):
    model = folded(tau, runtime)
    table = lookup_table(statistics(3), 0.2 if runtime else tau, BOUND)
    read = folded_shift(model)
    np.testing.assert_allclose(read.knots, table.start + table.knots * table.width, rtol=1e-4, atol=1e-3)
    apart = table.shift - read.shift
    constant = apart.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(apart, np.broadcast_to(constant, apart.shape), atol=1e-4)
    centres = _centres(read, shift_curves(statistics(3)))
    np.testing.assert_allclose(centres, constant[:, 0, 0], atol=BOUND / tau)


def test_without_correction_there_is_nothing_to_read():
    assert folded_shift(fold(plain_segmenter(3), card(3), None)) is None
    assert folded_shift(folded(tau=0.0)) is None


@pytest.mark.parametrize("runtime", [False, True])
def test_altered_constants_are_refused(runtime):
    model = folded(runtime=runtime)
    tensor = next(t for t in model.graph.initializer if t.name == "blda/shift_knots")
    tensor.name = "gone"
    with pytest.raises(InputError, match="constants were altered"):
        folded_shift(model)


def test_the_command_describes_and_draws(tmp_path):
    file, picture = tmp_path / "model.onnx", tmp_path / "shifts.png"
    half = to_half(small_network())
    model = fold(half, card(3), Strength(statistics(3), "random"), Extras(scores=True))
    onnx.save(model, file)
    code, said = call("show", file, "-o", picture, "--size", "64x96")
    assert code == 0, said
    assert "precision  fp16: compute operators 100 % fp16" in said and "opset      18" in said
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    assert f"Conv {convolutions}" in said and f"{len(model.graph.node)} in all" in said
    assert "ms for 64x96 on this machine's cpu" in said
    drawn = cv2.imread(str(picture))
    assert drawn is not None and drawn.std() > 5
    before = picture.read_bytes()
    code, said = call("show", file, "-o", picture)
    assert code == 2 and "--force" in said and picture.read_bytes() == before


def test_every_shift_is_drawn_in_the_colour_of_its_class(tmp_path, monkeypatch):
    drawn: list[tuple[str, np.ndarray]] = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.plot",
        lambda axes, x, y, *style, **options: drawn.append((tuple(options["color"]), np.asarray(y))),
    )
    draw(folded(), "file", tmp_path / "x.png")
    assert len(drawn) == 3 * 3 * 2  # an exact line and folded dots per class and channel
    colours = [tuple(np.array(colour) / 255) for colour in card(3).palette]
    assert [colour for colour, _ in drawn[::2]] == colours * 3


def test_latency_is_measured_at_the_size_of_the_graph(tmp_path, monkeypatch):
    monkeypatch.setattr(export.show, "RUNS", 2)
    file = tmp_path / "model.onnx"
    onnx.save(fold(plain_segmenter(3), card(3, (64, 96)), None), file)
    latency = measure(open_runtime(file))
    assert latency.size == (64, 96) and 0 < latency.seconds < 5 and latency.provider == "cpu"
    with pytest.raises(InputError, match=r"--size is 64x64, but .* takes 64x96 only"):
        measure(open_runtime(file), (64, 64))


@pytest.mark.parametrize("command", [("show",), ("tensorrt", "-o", "x.engine"), ("triton", "-o", "x")])
def test_a_file_that_claims_to_be_ours_but_was_altered_is_refused(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    model = folded()
    model.graph.output[0].name = "logits"
    onnx.save(model, tmp_path / "model.onnx")
    code, said = call(command[0], tmp_path / "model.onnx", *command[1:])
    assert code == 2 and "it was altered after the export" in said
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "x.jpg"), "must end in .png"),
        (("-o", "x.png"), "has no correction folded in"),
        (("--size", "32x64"), "takes sides of 64 pixels and more"),
        (("--size", "large"), "is no size such as 512x1024"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, arguments, message):
    file = tmp_path / "model.onnx"
    onnx.save(fold(plain_segmenter(3), card(3), None), file)
    arguments = tuple(str(tmp_path / a) if a.startswith("x.") else a for a in arguments)
    code, said = call("show", file, *arguments)
    assert code == 2 and message in said, said
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
