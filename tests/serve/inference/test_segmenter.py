"""Sessions and the Segmenter, on real graphs in ONNX Runtime."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serve_graphs import CLASSES, TAU, card, halves, write_graph

from serve import Segmenter
from serve.card import GraphInfo, to_metadata
from serve.errors import InputError
from serve.inference.opening import open_runtime

RED, GREEN, BLUE = range(3)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "model.onnx")


def test_segments_a_frame(graph: Path) -> None:
    segmenter = Segmenter(graph)
    labels = segmenter(halves(72, 96)).labels
    assert labels.dtype == np.uint8 and labels.shape == (72, 96)
    assert (labels[:, :48] == RED).all() and (labels[:, 48:] == GREEN).all()
    assert segmenter.card.classes == CLASSES and segmenter.provider == "cpu"


def test_segments_a_batch_like_its_frames(graph: Path) -> None:
    segmenter = Segmenter(graph, threads=1)
    batch = np.random.default_rng(0).integers(0, 256, (3, 70, 65, 3), np.uint8)
    labels = segmenter(batch).labels
    assert labels.shape == (3, 70, 65)
    for frame, expected in zip(batch, labels, strict=True):
        np.testing.assert_array_equal(segmenter(frame).labels, expected)


@pytest.mark.parametrize("size", [(1, 1), (10, 200), (200, 10), (63, 64)])
def test_small_pictures_are_padded_and_cropped_back(tmp_path: Path, size: tuple[int, int]) -> None:
    segmenter = Segmenter(write_graph(tmp_path / "m.onnx", extras=True))
    frame = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    result = segmenter(frame, extras=True)
    np.testing.assert_array_equal(result.uncorrected_labels, frame.argmax(2))
    assert result.labels.shape == size
    seen = tuple(max(side, 64) // 4 for side in size)
    assert result.scores is not None and result.scores.shape == (3, *seen)


def test_fixed_size_graph_takes_any_picture(tmp_path: Path) -> None:
    segmenter = Segmenter(write_graph(tmp_path / "m.onnx", size=(64, 128)))
    for height, width in [(64, 128), (300, 500), (20, 30), (128, 64)]:
        labels = segmenter(halves(height, width)).labels
        assert labels.shape == (height, width)
        away = width // 16 + 1  # the border between the halves is interpolated
        assert (labels[:, : width // 2 - away] == RED).all() and (
            labels[:, width // 2 + away :] == GREEN
        ).all()


@pytest.mark.parametrize("batch", [1, 2])
def test_fixed_batch_graph_takes_any_batch(tmp_path: Path, batch: int) -> None:
    fixed = Segmenter(write_graph(tmp_path / "fixed.onnx", batch=batch))
    free = Segmenter(write_graph(tmp_path / "free.onnx"))
    frames = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(fixed(frames).labels, free(frames).labels)
    np.testing.assert_array_equal(fixed(frames[0]).labels, free(frames[0]).labels)


def test_extras_only_where_asked_for_and_present(tmp_path: Path, graph: Path) -> None:
    plain = Segmenter(graph)(halves(), extras=True)
    assert plain.scores is None and plain.uncorrected_labels is None
    segmenter = Segmenter(write_graph(tmp_path / "extras.onnx", extras=True))
    assert segmenter(halves()).scores is None
    both = segmenter(np.stack([halves(), halves()]), extras=True)
    assert both.scores is not None and both.scores.shape == (2, 3, 18, 24)
    assert both.uncorrected_labels is not None and both.uncorrected_labels.shape == (2, 72, 96)


def test_runtime_tau_changes_labels_and_defaults_to_the_folded_one(tmp_path: Path) -> None:
    segmenter = Segmenter(write_graph(tmp_path / "m.onnx", runtime_tau=True))
    np.testing.assert_array_equal(segmenter(halves()).labels, segmenter(halves(), tau=TAU).labels)
    assert set(np.unique(segmenter(halves(), tau=0).labels)) == {RED, GREEN}
    assert (segmenter(halves(), tau=2).labels == BLUE).all()


@pytest.mark.parametrize("tau", [-0.1, 2.1, float("nan"), float("inf")])
def test_tau_outside_its_range(tmp_path: Path, tau: float) -> None:
    segmenter = Segmenter(write_graph(tmp_path / "m.onnx", runtime_tau=True))
    with pytest.raises(InputError, match="between 0 and 2"):
        segmenter(halves(), tau=tau)


def test_tau_for_a_graph_that_takes_none(graph: Path) -> None:
    with pytest.raises(InputError, match=r"tau = 0.25 folded in .*--runtime-tau"):
        Segmenter(graph)(halves(), tau=0.5)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((64, 64, 3), np.float32),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((0, 64, 3), np.uint8),
    ],
)
def test_frames_of_another_kind(graph: Path, frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        Segmenter(graph)(frames)


def test_one_segmenter_in_many_threads(graph: Path) -> None:
    segmenter = Segmenter(graph)
    frames = np.random.default_rng(3).integers(0, 256, (40, 64, 80, 3), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda frame: segmenter(frame).labels, frames))
    np.testing.assert_array_equal(np.stack(results), segmenter(frames).labels)


def test_runtime_says_what_the_graph_takes_and_gives(tmp_path: Path) -> None:
    runtime = open_runtime(write_graph(tmp_path / "m.onnx", runtime_tau=True, extras=True))
    assert [(t.name, t.dtype) for t in runtime.inputs] == [("image", "uint8"), ("tau", "float")]
    assert runtime.inputs[0].shape == ("N", "H", "W", 3)
    assert {t.name for t in runtime.outputs} == {"labels", "scores", "uncorrected_labels"}


def test_a_frame_that_the_graph_fails_on_is_one_sentence(tmp_path: Path) -> None:
    lying = to_metadata(GraphInfo(card(None)))  # the card says any size, the graph takes one
    segmenter = Segmenter(write_graph(tmp_path / "m.onnx", size=(64, 64), metadata=lying))
    with pytest.raises(InputError, match=r"m\.onnx failed on a 96x72 picture: ") as caught:
        segmenter(halves(72, 96))
    assert "\n" not in caught.value.message


def _bad_files(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    whole = write_graph(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "text.onnx").write_text("not a graph\n" * 20)
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    newer = to_metadata(GraphInfo(card())) | {"blda.schema": "99"}
    return {
        "missing": (tmp_path / "missing.onnx", "is not a file"),
        "folder": (tmp_path, "is not a file"),
        "text": (tmp_path / "text.onnx", "can't be opened as an ONNX graph"),
        "empty": (tmp_path / "empty.onnx", "can't be opened as an ONNX graph|no blda metadata"),
        "cut": (tmp_path / "cut.onnx", "can't be opened as an ONNX graph"),
        "stranger": (write_graph(tmp_path / "stranger.onnx", metadata={}), "no blda metadata"),
        "newer": (write_graph(tmp_path / "newer.onnx", metadata=newer), "schema 99.*upgrade"),
    }


@pytest.mark.parametrize("which", ["missing", "folder", "text", "empty", "cut", "stranger", "newer"])
def test_files_that_are_no_graph_of_ours(tmp_path: Path, which: str) -> None:
    path, message = _bad_files(tmp_path)[which]
    with pytest.raises(InputError, match=message) as caught:
        Segmenter(path)
    assert str(path) in caught.value.message and "\n" not in caught.value.message


def test_a_graph_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_graph(tmp_path / "m.onnx").read_bytes()
    for length in range(1, len(whole), 37):
        (tmp_path / "m.onnx").write_bytes(whole[:length])
        with pytest.raises(InputError):
            Segmenter(tmp_path / "m.onnx")


def test_a_provider_that_is_not_there_is_refused_not_replaced(graph: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has CUDA")
    with pytest.raises(InputError, match=r"--provider cuda is not in this build .* cpu.*--provider auto"):
        Segmenter(graph, provider="cuda")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_there_but_does_not_start(graph: Path, monkeypatch) -> None:
    """onnxruntime-gpu lists CUDA on a machine without a GPU; the session then falls back without an error."""
    import onnxruntime

    loaded: list[str] = []
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append("cuda"))
    assert Segmenter(graph, provider="cpu").provider == "cpu" and not loaded
    assert Segmenter(graph, provider="auto").provider == "cpu" and loaded == ["cuda"]
    with pytest.raises(InputError, match=r"--provider cuda was asked for, but .* could only start cpu"):
        Segmenter(graph, provider="cuda")


def test_no_provider_at_all(graph: Path, monkeypatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [])
    with pytest.raises(InputError, match=r"--provider auto is not in this build .* which has none; install"):
        Segmenter(graph)


def test_without_onnxruntime_one_sentence_names_the_extra(graph: Path) -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"  # what Python does for a module that is not there
        f"from serve.cli.commands import main; main(['info', {str(graph)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert "blda[cpu]" in done.stderr and "Traceback" not in done.stderr
