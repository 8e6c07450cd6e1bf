"""Where memory runs out all the same: tiles shrink until they fit, and other faults keep their names."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from seeing_graphs import scene, write_network
from tight_memory import SIZE

from serve import Segmenter
from serve.errors import InputError
from serve.inference.opening import open_runtime
from serve.inference.runtime import failed, ran_out

LIMITED = """
import resource, sys
import numpy as np
from serve import Segmenter
from serve.inference import large
from serve.media import memory

mode, graph, given, out = sys.argv[1:]
if mode == "mistaken":
    large.available = lambda: 10**9
segmenter, picture = Segmenter(graph, threads=1), np.load(given)
taken = 1024 * memory._table(memory.Path("/proc/self/status"))["VmSize"]
resource.setrlimit(resource.RLIMIT_AS, (taken + 200_000_000, resource.RLIM_INFINITY))
labels = segmenter(picture).labels
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
np.save(out, labels)
print(segmenter.notice)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs limits of the address space")
@pytest.mark.parametrize(
    ("mode", "words"), [("known", "in one piece they need about "), ("mistaken", "cpu ran out")]
)
def test_within_a_real_limit(tmp_path: Path, root: Path, mode: str, words: str) -> None:
    """200 MB for a picture that takes more in one piece."""
    graph = write_network(tmp_path / "m.onnx", reach=1, scores=False)
    picture = scene(2400, 2600)
    np.save(tmp_path / "picture.npy", picture)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, mode, graph, tmp_path / "picture.npy", tmp_path / "labels.npy"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), Segmenter(graph)(picture).labels)


class Broken:
    """A session that fails on pictures above a number of pixels."""

    def __init__(self, session: object, most: int, error: Exception) -> None:
        self._session, self._most, self._error = session, most, error

    def run(self, names: list[str], feed: dict[str, np.ndarray], *options: object) -> list[np.ndarray]:
        if next(iter(feed.values()))[0, :, :, 0].size > self._most:
            raise self._error
        return self._session.run(names, feed, *options)  # type: ignore[attr-defined]


def broken(graph: Path, most: int, error: Exception, tile: int | None = None) -> Segmenter:
    segmenter = Segmenter(graph, tile=tile)
    object.__setattr__(segmenter.runtime, "session", Broken(segmenter.runtime.session, most, error))
    return segmenter


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA reports cudaErrorMemoryAllocation"),
        RuntimeError("Failed to allocate memory for requested buffer of size 1"),
        RuntimeError("CUDA failure 2: out of memory ; GPU=0"),
        RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=str,
)
def test_tiles_shrink_until_they_fit(network: Path, error: Exception) -> None:
    """As on a GPU, whose free memory nobody tells."""
    picture = scene(*SIZE)
    expected = Segmenter(network)(picture).labels
    segmenter = broken(network, 360 * 360, error)
    np.testing.assert_array_equal(segmenter(picture).labels, expected)
    assert "because cpu ran out of memory on larger pieces" in segmenter.notice
    assert segmenter._way(1, *SIZE).tile == (224, 224), "the next frame goes the same way at once"


def test_memory_that_runs_out_around_the_runs_is_said(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise MemoryError("Unable to allocate 5 MiB")

    segmenter = Segmenter(network)
    monkeypatch.setattr(segmenter, "_run", none)
    with pytest.raises(InputError, match=r"m\.onnx failed on a 900x700 picture: Unable to allocate 5 MiB\."):
        segmenter(scene(*SIZE))


def test_memory_that_does_not_suffice_for_any_tile_is_said(network: Path) -> None:
    with pytest.raises(InputError, match=r"failed on a .* picture: no memory"):
        broken(network, 10, MemoryError("no memory"))(scene(*SIZE))
    with pytest.raises(InputError, match="failed on a 900x700 picture: no memory"):
        broken(network, 10, MemoryError("no memory"), tile=1000)(scene(*SIZE))
    with pytest.raises(InputError, match="failed on a 900x700 picture"):  # the caller makes smaller batches
        broken(network, 10, MemoryError("no memory"))(np.stack([scene(*SIZE)] * 2))


@pytest.mark.parametrize(
    "error", [KeyError("image"), ValueError("x"), TypeError("x"), NotImplementedError("x")]
)
def test_faults_of_our_own_are_not_called_the_user_s(network: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        broken(network, 10, error)(scene(*SIZE))


def test_faults_of_our_own_in_opening_are_not_called_the_user_s(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export.fold.session import open_session

    def wrong(*_: object, **__: object) -> None:
        raise TypeError("unexpected argument")

    monkeypatch.setattr(onnxruntime, "InferenceSession", wrong)
    with pytest.raises(TypeError):
        Segmenter(network)
    with pytest.raises(TypeError):
        open_session(onnx.ModelProto(), "m.onnx")


def test_faults_of_our_own_are_not_called_a_foreign_model_s() -> None:
    from export.foreign.outlet import run_once

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    pixels = np.zeros((1, 3, 8, 8), np.float32)
    for error, expected in ((KeyError("image"), KeyError), (RuntimeError("shapes"), InputError)):
        session = Broken(None, 0, error)
        with pytest.raises(expected):
            run_once(session, image, pixels, Path("m.onnx"))


def test_what_onnx_runtime_raises_is_a_failed_run(network: Path) -> None:
    session = open_runtime(network).session
    for feed in ({"image": np.zeros((1, 2, 2, 4), np.uint8)}, {"picture": np.zeros(1)}):
        try:
            session.run(["labels"], feed)
        except Exception as error:
            assert failed(error) == ("image" in feed) and not ran_out(error)
        else:
            raise AssertionError("it ran")
