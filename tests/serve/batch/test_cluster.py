"""Videos on a Ray cluster: what is cut, that nothing differs from one machine, and that a node may die."""

import dataclasses
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from serve_graphs import write_graph

from serve import Segmenter
from serve.batch.cluster import Opening, Recorded, finish, label_segment, run_on_cluster, segments
from serve.batch.run import Job, local_work, plan, run_batch
from serve.batch.sidecar import fingerprint
from serve.cli.commands import main
from serve.errors import InputError
from serve.media.video.source import Selection
from serve.video.settings import Settings

SECOND = Fraction(1)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.onnx", extras=True)


def write_noise(path: Path, frames: int = 60, seed: int = 0) -> Path:
    """A clip of 10 frames/s with a key frame every 8, B-frames between, and uneven times."""
    rng = np.random.default_rng(seed)
    options = {"g": "8", "bf": "2", "x264-params": "scenecut=0:open-gop=1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 80, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        for number in range(frames):
            picture = np.kron(rng.integers(0, 256, (8, 10, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = 10 * number + number % 3, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def pictures(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(f.pts * stream.time_base, f.to_ndarray().tobytes()) for f in container.decode(stream)]


def assert_same(path: Path, other: Path, exactly: bool) -> None:
    """The same frames at the same times; H.264 may round differently from run to run on a busy machine."""
    found, expected = pictures(path), pictures(other)
    assert [when for when, _ in found] == [when for when, _ in expected]
    for (_, one), (_, two) in zip(found, expected, strict=True):
        difference = np.abs(np.frombuffer(one, np.uint8).astype(int) - np.frombuffer(two, np.uint8))
        assert difference.mean() <= (0 if exactly else 2)


def opening_of(graph: Path) -> Opening:
    return Opening(graph, fingerprint(graph), "cpu", threads=1)


def job_of(graph: Path, source: Path, folder: Path, settings: Settings) -> Job:
    (job,) = plan(Segmenter(graph, threads=1), [source], folder, settings)
    return job


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_segments_are_cut_at_key_frames_and_cover_the_selection(tmp_path: Path, suffix: str) -> None:
    source = write_noise(tmp_path / f"in{suffix}")
    found = segments(source, Selection(), SECOND)
    assert len(found) == 4 and found[0].start == 0 and found[-1].end is None
    assert all(a.end == b.start for a, b in pairwise(found))
    assert all(b.start - a.start >= 1 for a, b in pairwise(found))
    assert segments(source, Selection(), 100 * SECOND) == [Selection()]
    part = segments(source, Selection(Fraction(2), Fraction(9, 2), max_size=40), SECOND)
    assert len(part) >= 2 and part[0].start == 2 and part[-1].end == Fraction(9, 2)
    assert {each.max_size for each in part} == {40}
    assert segments(source, Selection(every=2), SECOND) == [Selection(every=2)]


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
@pytest.mark.parametrize("output", ["overlay", "labels"])
def test_a_video_from_segments_is_the_same_frame_for_frame(
    graph: Path, tmp_path: Path, suffix: str, output: str
) -> None:
    source = write_noise(tmp_path / f"in{suffix}")
    settings = Settings(output=output, shares="csv", selection=Selection(Fraction(1, 2)))  # type: ignore[arg-type]
    whole, joined = (job_of(graph, source, tmp_path / name, settings) for name in ("whole", "joined"))
    local_work(Segmenter(graph, threads=1), settings)(whole, "whole", lambda: None)
    cuts = segments(source, settings.selection, SECOND)
    parts = [tmp_path / f"{number}.mkv" for number in range(len(cuts))]
    opening = opening_of(graph)
    labelled = [
        label_segment(opening, source, part, dataclasses.replace(settings, selection=cut))
        for part, cut in zip(parts, cuts, strict=True)
    ]
    assert len(parts) >= 3
    report = finish(opening, joined, settings, parts, *labelled)
    assert not isinstance(report, str) and report.frames == 55, report
    assert_same(joined.target, whole.target, exactly=output == "labels")
    tables = [job.target.with_name("in.shares.csv").read_text() for job in (whole, joined)]
    assert tables[0] == tables[1]
    assert joined.target.with_name(joined.target.name + ".json").exists()  # a batch can resume from it


def test_segments_that_do_not_add_up(graph: Path, tmp_path: Path) -> None:
    source, opening = write_noise(tmp_path / "in.mp4"), opening_of(graph)
    part = tmp_path / "0.mkv"
    labelled = label_segment(opening, source, part, Settings(selection=Selection(end=SECOND)))
    job = job_of(graph, source, tmp_path / "out", Settings())
    said = finish(opening, job, Settings(), [part], labelled)
    assert isinstance(said, str) and "do not add up" in said and not job.target.exists()
    assert (
        finish(opening, job, Settings(), [part], labelled, "the second is broken") == "the second is broken"
    )
    recorded = Recorded(Segmenter(graph), [part])
    assert recorded(np.zeros((4, 64, 80, 3), np.uint8)).labels.shape == (4, 64, 80)


def test_a_worker_refuses_another_model(graph: Path, tmp_path: Path) -> None:
    opening = dataclasses.replace(opening_of(graph), fingerprint="0")
    said = label_segment(opening, write_noise(tmp_path / "in.mp4"), tmp_path / "0.mkv", Settings())
    assert isinstance(said, str) and "another file on a worker" in said


def test_a_cluster_fills_folders(graph: Path, tmp_path: Path) -> None:
    source = write_noise(tmp_path / "in.mp4", frames=2)
    arguments = ["video", str(graph), str(source), "-o", str(tmp_path / "out.mp4"), "--ray"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "give a folder" in result.stderr


def test_two_nodes_one_of_which_dies(graph: Path, tmp_path: Path) -> None:
    """The same frames as one machine, a bad file reported, and nothing left over."""
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    from ray.cluster_utils import Cluster

    sources = [write_noise(tmp_path / f"{name}.mp4", 60, seed) for seed, name in enumerate("ab")]
    (tmp_path / "bad.mp4").write_bytes(sources[0].read_bytes()[:500])
    settings = Settings(output="labels")
    segmenter = Segmenter(graph, threads=1)
    one = tmp_path / "one"
    run_batch(
        plan(segmenter, sources, one, settings), one, local_work(segmenter, settings), settings.selection
    )

    out = tmp_path / "many"
    jobs = plan(segmenter, [*sources, tmp_path / "bad.mp4"], out, settings)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)

    def strike() -> None:
        deadline = time.monotonic() + 120
        while not list(out.glob(".*.segments/*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        cluster.remove_node(second, allow_graceful=False)

    striking = threading.Thread(target=strike)
    striking.start()
    try:
        outcomes = run_on_cluster(jobs, opening_of(graph), settings, cluster.address, SECOND)
    finally:
        striking.join()
        cluster.shutdown()
    assert [outcome.status for outcome in outcomes] == ["done", "done", "failed"], outcomes
    assert "can't be opened as a video" in outcomes[2].error
    for name in "ab":
        assert_same(out / f"{name}.mkv", one / f"{name}.mkv", exactly=True)
    assert {path.name for path in out.iterdir()} == {f"{n}.mkv{end}" for n in "ab" for end in ("", ".json")}


def test_no_cluster_at_the_address(graph: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    job = job_of(graph, write_noise(tmp_path / "in.mp4", frames=2), tmp_path / "out", Settings())
    with pytest.raises(InputError, match="no Ray cluster answers"):
        run_on_cluster([job], opening_of(graph), Settings(), "auto")
