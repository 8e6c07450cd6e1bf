"""Tiles: they cover a picture once, and the seams don't show."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from serve_graphs import card, write_graph

from serve import Segmenter
from serve.card import GraphInfo, to_metadata
from serve.cli.commands import main
from serve.errors import InputError
from serve.inference import sizes
from serve.inference.opening import open_runtime
from serve.inference.tiling import OVERLAP, spans, tiles


def write_network(
    path: Path, *, reach: int, scores: bool, size: tuple[int, int] | None = None, unit: int = 4
) -> Path:
    """A graph as exports are: pad to the stride, score by a filter that sees `reach` cells, upsample."""
    height, width = size or ("H", "W")
    side = 2 * reach + 1
    rng = np.random.default_rng(7)
    weights = rng.normal(0, 1, (3, 3, side, side)).astype(np.float32)
    constants = {
        "weights": weights,
        "scales": np.array([1, 1, unit, unit], np.float32),
        "unit": np.array([unit], np.int64),
        "less": np.array([unit - 1], np.int64),
        "zeros": np.zeros(6, np.int64),
        "two": np.array([2], np.int64),
        "four": np.array([4], np.int64),
        "corner": np.zeros(2, np.int64),
        "axes": np.array([2, 3], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["plain"], perm=[0, 3, 1, 2]),
        node("Shape", ["plain"], ["shape"]),
        node("Slice", ["shape", "two", "four"], ["size"]),
        node("Add", ["size", "less"], ["up"]),
        node("Div", ["up", "unit"], ["cells"]),
        node("Mul", ["cells", "unit"], ["whole"]),
        node("Sub", ["whole", "size"], ["missing"]),
        node("Concat", ["zeros", "missing"], ["pads"], axis=0),
        node("Pad", ["plain", "pads"], ["padded"]),
        node("AveragePool", ["padded"], ["small"], kernel_shape=[unit, unit], strides=[unit, unit]),
        node("Conv", ["small", "weights"], ["scores"], pads=[reach] * 4),
        node("Resize", ["scores", "", "scales"], ["large"], mode="linear"),
        node("Slice", ["large", "corner", "size", "axes"], ["cropped"]),
        node("ArgMax", ["cropped"], ["wide"], axis=1, keepdims=0),
        node("Cast", ["wide"], ["labels"], to=TensorProto.UINT8),
    ]
    outputs = [helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", height, width])]
    if scores:
        outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3, "h", "w"]))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, 3])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "network", [image], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, to_metadata(GraphInfo(card(size))))
    onnx.save(model, path)
    return path


def scene(height: int, width: int) -> np.ndarray:
    """Smooth random colours, uint8 [H, W, 3]."""
    coarse = np.random.default_rng(5).integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@given(st.integers(1, 700), st.integers(1, 8), st.sampled_from([1, 4, 8]))
def test_spans_cover_an_axis_once(length: int, units: int, align: int) -> None:
    tile = align * (units + 4)
    found = spans(length, tile, align)
    assert found[0].start == 0 and found[-1].stop == length
    assert all(span.start % align == 0 and 0 < span.stop - span.start <= tile for span in found)
    kept = [pixel for span in found for pixel in range(*span.kept)]
    assert kept == list(range(length))
    for span, after in pairwise(found):
        shared = span.stop - after.start
        assert span.before == after.after == shared > 0
        assert shared >= int(tile * OVERLAP) - align
    total = np.zeros(-(-length // align))
    for span in found:
        ramp = span.ramp(align)
        assert (ramp > 0).all() and ramp.max() <= 1
        total[span.start // align : span.start // align + len(ramp)] += ramp
    assert (total > 0).all()


def test_no_tile_for_a_picture_that_fits() -> None:
    assert [t.rows[:2] + t.columns[:2] for t in tiles(60, 64, (64, 64), 4)] == [(0, 60, 0, 64)]


@pytest.mark.parametrize("size", [(150, 201), (128, 300), (64, 129), (131, 40), (30, 70)])
@pytest.mark.parametrize("scores", [True, False])
def test_tiles_of_a_local_network_equal_the_whole(
    tmp_path: Path, size: tuple[int, int], scores: bool
) -> None:
    """A network that looks at single score cells knows all it needs in every tile."""
    graph = write_network(tmp_path / "m.onnx", reach=0, scores=scores)
    picture = scene(*size)
    whole = Segmenter(graph)(picture, extras=True)
    tiled = Segmenter(graph, tile=68)(picture, extras=True)
    if scores:
        np.testing.assert_allclose(tiled.scores, whole.scores, rtol=1e-4, atol=1e-3)
        assert (tiled.labels != whole.labels).mean() < 1e-3  # ties broken by rounding
    else:  # at a tile's border, upsampling lacks the neighbour's score
        np.testing.assert_array_equal(tiled.labels, whole.labels)
    assert tiled.labels.dtype == whole.labels.dtype and tiled.labels.shape == size


def test_seams_of_a_network_with_context_do_not_show(tmp_path: Path) -> None:
    """Near tile borders such a network errs; blended, labels change no more at a seam than elsewhere."""
    picture = scene(300, 420)
    graphs = [write_network(tmp_path / f"{n}.onnx", reach=6, scores=n == 1) for n in (0, 1)]
    whole = Segmenter(graphs[1])(picture).labels
    cut, blended = (Segmenter(graph, tile=96)(picture).labels for graph in graphs)
    steps = {name: _steps(labels, whole) for name, labels in {"cut": cut, "blended": blended}.items()}
    assert steps["cut"] > 0.02, "this network would show its seams"
    assert steps["blended"] < steps["cut"] / 3
    assert (blended != whole).mean() < 0.9 * (cut != whole).mean(), "in what is disputed, both have a say"


def _steps(labels: np.ndarray, whole: np.ndarray) -> float:
    """Share of pixels at seams (tiles of 96 in 420 columns) whose label changes there in tiles only."""
    seams = [span.kept[0] for span in spans(420, 96, 4)[1:]]
    return float(
        np.mean(
            [((labels[:, x] != labels[:, x - 1]) & (whole[:, x] == whole[:, x - 1])).mean() for x in seams]
        )
    )


def test_a_fixed_size_graph_sees_full_resolution(tmp_path: Path) -> None:
    """Resized to 64x64 a checkerboard is one grey; in tiles every square is found."""
    squares = np.kron(np.indices((80, 80)).sum(0) % 2, np.ones((4, 4), np.uint8)).astype(np.uint8)
    picture = np.zeros((320, 320, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 200 * squares, 200 * (1 - squares)
    graph = write_graph(tmp_path / "m.onnx", size=(64, 64))
    assert (Segmenter(graph)(picture).labels == 1 - squares).mean() < 0.9
    np.testing.assert_array_equal(Segmenter(graph, tile="auto")(picture).labels, 1 - squares)


@pytest.mark.parametrize("size", [(64, 200), (30, 200), (200, 30), (65, 65), (20, 20)])
def test_fixed_size_tiles_of_any_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    free = Segmenter(write_network(tmp_path / "free.onnx", reach=0, scores=True))
    fixed = write_network(tmp_path / "fixed.onnx", reach=0, scores=True, size=(64, 64))
    picture = scene(*size)
    tiled = Segmenter(fixed, tile="auto")(np.stack([picture, picture]), extras=True)
    assert tiled.labels.shape == (2, *size)
    if max(size) > 64:
        inside = np.s_[0, : size[0] // 4 * 4 - 4, : size[1] // 4 * 4 - 4]  # zeros are padded beside the rest
        assert (tiled.labels[inside] != free(picture).labels[inside[1:]]).mean() < 1e-3


def test_uncorrected_labels_are_tiled_too(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "m.onnx", extras=True)
    picture = np.random.default_rng(0).integers(0, 256, (160, 232, 3), np.uint8)
    whole, tiled = (Segmenter(graph, tile=tile)(picture, extras=True) for tile in (None, 68))
    np.testing.assert_array_equal(tiled.uncorrected_labels, whole.uncorrected_labels)
    np.testing.assert_allclose(tiled.scores, whole.scores, rtol=1e-5)


def test_labels_of_scores_are_the_graph_s_own(tmp_path: Path) -> None:
    for size in (None, (128, 64)):
        segmenter = Segmenter(write_network(tmp_path / "m.onnx", reach=1, scores=True, size=size))
        for shape in ((101, 150), (64, 64), (300, 70)):
            result = segmenter(scene(*shape), extras=True)
            assert result.scores is not None
            again = segmenter.labels_of_scores(result.scores, *shape)
            assert (again != result.labels).mean() < 1e-4 and again.dtype == result.labels.dtype


@pytest.mark.parametrize("strip", [1, 1000, 10_000])
def test_labels_in_strips_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch, strip: int) -> None:
    scores = np.random.default_rng(0).normal(size=(5, 23, 17)).astype(np.float32)
    expected = sizes.best_labels(scores, 4)
    monkeypatch.setattr(sizes, "_STRIP", strip)
    np.testing.assert_array_equal(sizes.best_labels(scores, 4), expected)
    assert sizes.best_labels(np.zeros((300, 2, 2), np.float32), 4).dtype == np.uint16


@pytest.mark.parametrize(
    ("size", "tile", "words"),
    [
        (None, "auto", "takes pictures of any size"),
        (None, 64, "must be 68 or more"),
        ((64, 96), 64, "give auto"),
    ],
)
def test_tiles_that_a_graph_can_not_take(tmp_path: Path, size, tile, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Segmenter(write_graph(tmp_path / "m.onnx", size=size), tile=tile)


def test_tiles_on_the_command_line(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "m.onnx", size=(64, 64))
    picture = np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    arguments = ["image", str(graph), str(tmp_path / "a.png"), "--labels", "-o", str(tmp_path / "o")]
    assert CliRunner().invoke(main, [*arguments, "--tile", "auto"]).exit_code == 0
    written = cv2.imread(str(tmp_path / "o/labels/a.png"), cv2.IMREAD_UNCHANGED)
    shifted = picture.astype(int) + np.array([0, 0, 100])
    np.testing.assert_array_equal(written, shifted.argmax(2))
    refused = CliRunner().invoke(main, [*arguments, "--tile", "few"])
    assert refused.exit_code == 2 and "few" in refused.stderr


def test_bound_runs_equal_plain_ones(tmp_path: Path) -> None:
    """IO binding, which is for GPUs, tried on the one device there is everywhere."""
    plain = open_runtime(write_graph(tmp_path / "m.onnx", extras=True, runtime_tau=True))
    bound = dataclasses.replace(plain, provider="cuda")
    assert bound.on_gpu and not plain.on_gpu
    image, names = scene(70, 90)[None], ["labels", "scores"]
    for feed in ({"image": image}, {"image": image, "tau": np.asarray(1.5, np.float32)}):
        for one, other in zip(plain.run(names, feed), bound.run(names, feed), strict=True):
            np.testing.assert_array_equal(one, other)
