"""Pictures that memory does not suffice for: known before, cut into tiles that fit, and said."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper
from seeing_graphs import scene, write_network
from serve_graphs import card, write_clip, write_graph

from serve import Segmenter
from serve.card import GraphInfo, to_metadata
from serve.cli.commands import main
from serve.errors import InputError
from serve.inference import large, memory
from serve.inference.large import _even
from serve.inference.memory import Need, need_of, open_frugal
from serve.inference.opening import open_runtime
from serve.inference.runtime import failed, ran_out
from serve.inference.tiling import spans

SIZE = (700, 900)
REACH = 3  # cells of 4 pixels


@pytest.fixture(params=[False, True], ids=["labels", "scores"])
def network(request, tmp_path: Path) -> Path:
    """A network with a bounded view, without and with scores."""
    return write_network(tmp_path / "m.onnx", reach=REACH, scores=request.param)


def free_for(graph: Path, side: int, frames: int = 1) -> int:
    """Free memory in which one run takes `frames` pictures of `side` x `side` pixels at most."""
    need = open_frugal(open_runtime(graph), None, 1)[1]
    pixels = SIZE[0] * SIZE[1]
    return int((1.02 * frames * need.of(side**2) + large._AROUND * pixels) / large._SHARE)


def with_free(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    monkeypatch.setattr(large, "available", lambda: free)


# What a run needs


def test_the_need_of_a_run_continues_two_recorded_ones() -> None:
    def events(pixels: int) -> list[dict]:
        sizes = {"conv": 100 * pixels, "attention": 8 * pixels + 2 * pixels**2, "shape": 64}
        return [
            {
                "cat": "Node",
                "name": name,
                "args": {"activation_size": str(size // 4), "output_size": size - size // 4},
            }
            for name, size in sizes.items()
        ] + [{"cat": "Session", "name": "conv"}, {"cat": "Node", "name": "conv_fence", "args": {}}]

    need = need_of([*events(100), *events(400)], 100)
    for pixels in (10, 100, 10**4, 10**8):
        expected = max(100 * pixels, 8 * pixels + 2 * pixels**2)
        assert need.of(pixels) == pytest.approx(memory._MARGIN * expected, rel=1e-6)


def test_the_need_of_a_graph_of_known_size(tmp_path: Path) -> None:
    """The hungriest operator takes 3 floats a pixel and gives 3 floats a pixel, or an int64 for them."""
    need = open_frugal(open_runtime(write_graph(tmp_path / "m.onnx")), None, 1)[1]
    assert need.of(10**6) == pytest.approx(memory._MARGIN * 24e6, rel=0.01)


def test_attention_over_the_whole_picture_is_quadratic(tmp_path: Path) -> None:
    """Rows of 4x4 cells, each compared with every other: 4 bytes for every pair of 16 pixels."""
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["plain"], perm=[0, 3, 1, 2]),
        node("AveragePool", ["plain"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Reshape", ["cells", "tokens"], ["keys"]),
        node("Transpose", ["keys"], ["queries"], perm=[0, 2, 1]),
        node("MatMul", ["queries", "keys"], ["pairs"]),
        node("ReduceMax", ["pairs"], ["most"], keepdims=0),
        node("ArgMax", ["float"], ["wide"], axis=3, keepdims=0),
        node("Cast", ["wide"], ["whole"], to=TensorProto.FLOAT),
        node("Add", ["whole", "most"], ["sum"]),
        node("Cast", ["sum"], ["labels"], to=TensorProto.UINT8),
    ]
    tokens = helper.make_tensor("tokens", TensorProto.INT64, [3], [0, 3, -1])
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", "H", "W"])
    graph = helper.make_graph(nodes, "attention", [image], [labels], [tokens])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, to_metadata(GraphInfo(card())))
    onnx.save(model, tmp_path / "m.onnx")
    need = open_frugal(open_runtime(tmp_path / "m.onnx"), None, 1)[1]
    assert need.of(10**8) == pytest.approx(memory._MARGIN * 4 * (10**8 / 16) ** 2, rel=0.01)


PEAK = """
import sys
from pathlib import Path
import numpy as np
from serve.inference.memory import open_frugal
from serve.inference.opening import open_runtime

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

runtime, need = open_frugal(open_runtime(sys.argv[1], threads=1), 1, 1)
image = np.random.default_rng(0).integers(0, 256, (1, 2000, 2500, 3), np.uint8)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
before = resident("VmRSS")
runtime.run(["labels"], {"image": image})
print(resident("VmHWM") - before, resident("VmRSS") - before, need.of(2000 * 2500))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are read from /proc")
def test_the_need_is_what_a_run_takes_and_it_is_returned(tmp_path: Path, root: Path) -> None:
    network = write_network(tmp_path / "m.onnx", reach=1, scores=False)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, network], cwd=root, capture_output=True, text=True, check=True
    )
    peak, kept, need = map(float, done.stdout.split())
    assert 0.5 * need < peak < 1.1 * need, f"{peak / 1e6:.0f} MB of {need / 1e6:.0f} MB"
    assert kept < 0.2 * peak


# What there is


def _write(root: Path, files: dict[str, str]) -> list[int]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return sorted(memory._bounds(root))


MEMINFO = {
    "proc/meminfo": "MemTotal:  9000 kB\nMemFree: 10 kB\nMemAvailable:    8000 kB\nHugePages_Total:   0\n"
}


def test_memory_of_the_machine(tmp_path: Path) -> None:
    assert _write(tmp_path, MEMINFO) == [8000 * 1024]


def test_memory_of_a_container_and_of_those_around_it(tmp_path: Path) -> None:
    """The group that a process is in, and each above it, may have a limit; cached files give way."""
    groups = {
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/inner/memory.max": "5000000\n",
        "sys/fs/cgroup/outer/inner/memory.current": "3000000\n",
        "sys/fs/cgroup/outer/inner/memory.stat": "anon 1\ninactive_file 500000\nactive_file 7\n",
        "sys/fs/cgroup/outer/memory.max": "1500000\n",
        "sys/fs/cgroup/outer/memory.current": "1000000\n",
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/fs/cgroup/memory.current": "9\n",
    }
    assert _write(tmp_path, MEMINFO | groups) == [500_000, 2_500_000, 8000 * 1024]


def test_memory_of_a_container_that_sees_its_own_group_only(tmp_path: Path) -> None:
    groups = {
        "proc/self/cgroup": "12:cpu,cpuacct:/docker/abc\n5:memory:/docker/abc\n1:name=systemd:/x\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "700000",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "600000",
        "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 50000\n",
    }
    assert _write(tmp_path, MEMINFO | groups) == [150_000, 8000 * 1024]


def test_memory_where_nobody_says(tmp_path: Path) -> None:
    assert _write(tmp_path, {}) == []
    found = memory.available()
    assert found is None or found > 0


# In one piece, or in tiles


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


# Where memory runs out all the same

LIMITED = """
import resource, sys
import numpy as np
from serve import Segmenter
from serve.inference import large
from serve.inference import memory

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

    def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        if next(iter(feed.values()))[0, :, :, 0].size > self._most:
            raise self._error
        return self._session.run(names, feed)  # type: ignore[attr-defined]


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
    from export.foreign import network as foreign_network

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    pixels = np.zeros((1, 3, 8, 8), np.float32)
    for error, expected in ((KeyError("image"), KeyError), (RuntimeError("shapes"), InputError)):
        session = Broken(None, 0, error)
        with pytest.raises(expected):
            foreign_network._run(session, image, pixels, Path("m.onnx"))


def test_what_onnx_runtime_raises_is_a_failed_run(network: Path) -> None:
    session = open_runtime(network).session
    for feed in ({"image": np.zeros((1, 2, 2, 4), np.uint8)}, {"picture": np.zeros(1)}):
        try:
            session.run(["labels"], feed)
        except Exception as error:
            assert failed(error) == ("image" in feed) and not ran_out(error)
        else:
            raise AssertionError("it ran")


# On the command line


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
