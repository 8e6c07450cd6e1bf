"""Tiles: they cover a picture once, and the seams don't show."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from seeing_graphs import scene, write_network
from serve_graphs import write_graph

from serve import Segmenter
from serve.cli.commands import main
from serve.errors import InputError
from serve.inference import sizes
from serve.inference.opening import open_runtime
from serve.inference.tiling import OVERLAP, spans, tiles


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
