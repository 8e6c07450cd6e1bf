"""Pictures that memory does not suffice for: cut into tiles that fit, and said."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from seeing_graphs import scene, write_network
from serve_graphs import write_clip, write_graph
from tight_memory import SIZE, free_for, with_free

from serve import Segmenter
from serve.cli.commands import main
from serve.errors import InputError
from serve.inference import large, memory
from serve.inference.large import _even
from serve.inference.memory import Need, open_frugal
from serve.inference.opening import open_runtime
from serve.inference.tiling import spans


def test_what_fits_is_run_in_one_piece(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = scene(*SIZE)
    with_free(monkeypatch, None)
    expected = Segmenter(network)(picture, extras=True)
    with_free(monkeypatch, free_for(network, 800))
    segmenter = Segmenter(network)
    found = segmenter(picture, extras=True)
    assert segmenter.notice == ""
    np.testing.assert_array_equal(found.labels, expected.labels)
    if expected.scores is not None:
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_memory_is_kept_only_where_there_is_plenty(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need = open_frugal(open_runtime(network), None, 1)[1].of(SIZE[0] * SIZE[1])
    for times, callers, kept in ((5.9, 1, False), (6.1, 1, True), (6.1, 2, False), (12.1, 2, True)):
        with_free(monkeypatch, int(times * need))
        segmenter = Segmenter(network, callers=callers)
        way = segmenter._way(1, *SIZE)
        assert way.tile is None and (way.runtime is segmenter.runtime) == kept
    assert segmenter._way(2, *SIZE).runtime is not segmenter.runtime


@pytest.mark.parametrize("side", [330, 500, 780])
def test_tiles_have_the_labels_of_one_piece(
    network: Path, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    """Of a network that looks no farther than a third of the overlap."""
    picture = scene(*SIZE)
    expected = Segmenter(network)(picture).labels
    with_free(monkeypatch, free_for(network, side))
    segmenter = Segmenter(network)
    runs: list[tuple[int, ...]] = []
    run = segmenter._run
    monkeypatch.setattr(segmenter, "_run", lambda *given: runs.append(given[2].shape) or run(*given))
    np.testing.assert_array_equal(segmenter(picture).labels, expected)
    assert len(runs) > 1 and max(shape[1] * shape[2] for shape in runs) <= side**2
    assert segmenter.notice.startswith(
        "Pictures of 900x700 were segmented in overlapping tiles, because in one "
    )
    assert segmenter.notice.count(". ") == 0
    segmenter(picture[:696])
    assert "900x700 (and 1 more size) were" in segmenter.notice
    np.testing.assert_array_equal(segmenter(picture).labels, expected)


def test_a_tile_that_somebody_chose_stays(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one larger than the picture, which insists on one piece."""
    picture = scene(*SIZE)
    with_free(monkeypatch, free_for(network, 330))
    segmenter = Segmenter(network, tile=1000)
    runs: list[int] = []
    run = segmenter._run
    monkeypatch.setattr(segmenter, "_run", lambda *given: runs.append(1) or run(*given))
    segmenter(picture)
    assert runs == [1] and segmenter.notice == ""


def test_callers_at_the_same_time_share_the_memory(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, int(1.3 * free_for(network, 800)))
    notices = []
    for callers in (1, 2):
        segmenter = Segmenter(network, callers=callers)
        segmenter(scene(*SIZE))
        notices.append(segmenter.notice)
    assert not notices[0] and notices[1]


def test_as_many_frames_at_once_as_memory_allows(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.stack([scene(*SIZE), scene(*SIZE)[::-1], scene(*SIZE)[:, ::-1]])
    expected = Segmenter(network)(frames).labels
    side = int((SIZE[0] * SIZE[1]) ** 0.5)
    with_free(monkeypatch, free_for(network, side, frames=2))
    segmenter = Segmenter(network)
    runs: list[int] = []
    run = segmenter._run
    monkeypatch.setattr(segmenter, "_run", lambda *given: runs.append(len(given[2])) or run(*given))
    np.testing.assert_array_equal(segmenter(frames).labels, expected)
    assert runs == [2, 1] and segmenter.notice == ""


def test_small_pictures_and_fixed_sizes_need_no_second_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: object) -> None:
        raise AssertionError("opened for nothing")

    monkeypatch.setattr(large, "open_frugal", nobody)
    with_free(monkeypatch, 64 * 64 * large._SMALL)
    Segmenter(write_graph(tmp_path / "m.onnx"))(scene(64, 64))
    Segmenter(write_graph(tmp_path / "fixed.onnx", size=(64, 64)))(scene(640, 640))
    with pytest.raises(AssertionError, match="opened for nothing"):
        Segmenter(write_graph(tmp_path / "m.onnx"))(scene(64, 65))


def test_too_little_memory_for_any_tile(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 1_000_000)
    with pytest.raises(
        InputError, match=r"can't segment a 900x700 picture here: even in small tiles .* 0\.0 GB"
    ):
        Segmenter(network)(scene(*SIZE))


def test_a_graph_that_was_replaced_meanwhile(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, free_for(network, 330))
    segmenter = Segmenter(network)
    write_network(network, reach=1, scores=False)
    with pytest.raises(InputError, match="was replaced while it was in use; start again"):
        segmenter(scene(*SIZE))


def test_tiles_are_few_and_even() -> None:
    for length, most in ((10_000, 6000), (10_000, 4096), (2000, 1999), (901, 300), (300, 301), (70, 68)):
        side = _even(length, 68, most, 4)
        assert side <= max(most, length)
        assert len(spans(length, side, 4)) <= len(spans(length, most, 4)) + (side == 68)
    assert _even(10_000, 68, 6000, 4) < 5800 and _even(300, 68, 301, 4) == 300
    assert Need(np.array([2.0]), np.array([0.0])).of(10) == memory._MARGIN * 20


def test_the_summary_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = write_network(tmp_path / "m.onnx", reach=0, scores=False)
    with_free(monkeypatch, free_for(graph, 330))
    cv2.imwrite(str(tmp_path / "a.png"), scene(*SIZE))
    write_clip(tmp_path / "a.mp4", picture=scene(*SIZE), times=(0, 1))
    for command in ("image", "video"):
        given = tmp_path / ("a.png" if command == "image" else "a.mp4")
        arguments = [command, str(graph), str(given), "-o", str(tmp_path / command)]
        done = CliRunner().invoke(main, [*arguments, "--threads", "1"])
        assert done.exit_code == 0, done.output
        assert "\nPictures of 900x700 were segmented in overlapping tiles, because " in done.stdout
