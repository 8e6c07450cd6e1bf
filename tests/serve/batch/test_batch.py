"""Many videos at once: what is left out the second time, what fails, what is reported."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from serve_graphs import halves, write_clip, write_graph
from tqdm import tqdm

from serve import Segmenter
from serve.batch import run as batch
from serve.batch.inputs import find_videos
from serve.batch.run import local_work, plan, run_batch
from serve.batch.sidecar import Finished
from serve.cli.commands import main
from serve.errors import InputError
from serve.media import progress
from serve.media.video.source import Selection
from serve.video.settings import Settings


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.onnx", extras=True, runtime_tau=True)


def serve(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["video", *(str(argument) for argument in arguments)], input=stdin)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def report(out: Path) -> dict[str, str]:
    content = json.loads((out / "report.json").read_text())
    assert content["counts"] == {
        status: sum(file["status"] == status for file in content["files"])
        for status in ("done", "skipped", "failed", "not reached")
    }
    return {Path(file["source"]).name: file["status"] for file in content["files"]}


def test_a_folder_becomes_a_folder(
    graph: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(progress, "watched", lambda: True)
    result = serve(graph, clips, "-o", out)
    assert result.exit_code == 0, result.output
    assert names(out) == {f"{n}.mp4{end}" for n in "abc" for end in ("", ".json")} | {"report.json"}
    assert report(out) == {"a.mp4": "done", "b.mkv": "done", "c.ts": "done"}
    lines = result.stdout.splitlines()
    assert [line.split()[1:3] for line in lines[1:4]] == [["done", "12"], ["done", "5"], ["done", "12"]]
    assert "3 done; report:" in result.stdout and f"Ran {graph} on cpu" in result.stdout
    assert "29/29" in result.stderr and "b [2/3]" in result.stderr  # progress over all frames and files


def test_time_left_is_counted_in_the_frames_that_are_still_to_do(
    graph: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c.ts claims a frame more or less; a.mp4 is done; a broken file and a camera promise nothing."""
    (clips / "bad.mp4").write_text("no video")
    assert serve(graph, clips / "a.mp4", "-o", tmp_path / "out").exit_code == 0
    bars: list[tqdm] = []

    class Counting(tqdm):
        def __init__(self, *args: object, **named: object) -> None:
            super().__init__(*args, **named)
            self.totals = [self.total]
            bars.append(self)

        def refresh(self, *args: object, **named: object) -> None:
            super().refresh(*args, **named)
            if hasattr(self, "totals"):
                self.totals.append(self.total)

    monkeypatch.setattr(progress, "watched", lambda: True)
    monkeypatch.setattr(batch, "Bar", Counting)
    settings = Settings(selection=Selection(every=2))
    segmenter = Segmenter(graph, threads=1)
    jobs = plan(segmenter, find_videos([str(clips)]), tmp_path / "out", Settings())
    jobs = [replace(job, finished=Finished(None) if job.target.stem == "a" else None) for job in jobs]
    run_batch(jobs, tmp_path / "out", local_work(segmenter, settings), settings.selection)
    (whole,) = bars
    assert whole.totals[0] in (3 + 6, 3 + 7) and whole.n == whole.totals[-1] == 3 + 6


def test_the_second_time_leaves_out_what_is_finished(graph: Path, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert serve(graph, clips, "-o", out).exit_code == 0
    made = {path: path.stat().st_mtime_ns for path in out.glob("*.mp4")}
    (out / "b.mp4").unlink()  # as if the batch had been interrupted here
    assert serve(graph, clips, "-o", out).exit_code == 0
    assert report(out) == {"a.mp4": "skipped", "b.mkv": "done", "c.ts": "skipped"}
    assert made[out / "a.mp4"] == (out / "a.mp4").stat().st_mtime_ns


@pytest.mark.parametrize("change", ["model", "settings", "source", "output"])
def test_an_output_made_from_something_else_is_not_taken_for_finished(
    graph: Path, clips: Path, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out"
    arguments: list[object] = [graph, clips, "-o", out]
    assert serve(*arguments).exit_code == 0
    before = names(out), (out / "a.mp4").read_bytes()
    if change == "model":
        arguments[0] = write_graph(tmp_path / "model.onnx", extras=True, runtime_tau=True, size=(64, 64))
    elif change == "settings":
        arguments += ["--crf", "30"]
    elif change == "source":
        write_clip(clips / "a.mp4", times=range(6))
    else:
        with (out / "a.mp4").open("ab") as file:
            file.write(b"altered")
        before = names(out), (out / "a.mp4").read_bytes()
    refused = serve(*arguments)
    assert refused.exit_code == 2 and "--force" in refused.stderr
    assert (names(out), (out / "a.mp4").read_bytes()) == before
    assert serve(*arguments, "--force").exit_code == 0
    assert set(report(out).values()) == {"done"}


@pytest.mark.parametrize("replaced", [True, False], ids=["swapped", "overwritten"])
def test_a_model_that_changes_during_a_batch_changes_nothing_of_it(
    clips: Path, tmp_path: Path, replaced: bool
) -> None:
    """Its outputs are of the model that was opened, and the next batch does not take them for another's."""
    first = write_graph(tmp_path / "model.onnx")
    second = write_graph(tmp_path / "other.onnx", size=(64, 64)).read_bytes()
    settings = Settings(output="labels")
    segmenter = Segmenter(first, threads=1)
    jobs = plan(segmenter, find_videos([str(clips / "a.mp4")]), tmp_path / "out", settings)
    if replaced:
        (tmp_path / "other.onnx").replace(first)
    else:
        first.write_bytes(second[: len(second) // 2])
        first.write_bytes(second)
    (outcome,) = run_batch(jobs, tmp_path / "out", local_work(segmenter, settings), settings.selection)
    assert outcome.status == "done"
    with av.open(str(tmp_path / "out/a.mkv")) as container:
        made = next(container.decode(video=0)).to_ndarray(format="gray")
    assert (made == halves().argmax(2)).mean() > 0.98
    with pytest.raises(InputError, match=r"a\.mkv exists"):
        plan(Segmenter(first, threads=1), find_videos([str(clips / "a.mp4")]), tmp_path / "out", settings)


def test_one_bad_file_stops_nothing(graph: Path, clips: Path, tmp_path: Path) -> None:
    whole = (clips / "b.mkv").read_bytes()
    (clips / "bad.mp4").write_bytes((clips / "a.mp4").read_bytes()[:900])
    (clips / "zero.mov").touch()
    (clips / "b.mkv").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    result = serve(graph, clips, "-o", out)
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert names(out) == {f"{n}.mp4{end}" for n in "ac" for end in ("", ".json")} | {"report.json"}
    assert report(out)["bad.mp4"] == report(out)["zero.mov"] == report(out)["b.mkv"] == "failed"
    assert "2 done and 3 failed" in result.stdout and "can't be opened as a video" in result.stdout
    content = json.loads((out / "report.json").read_text())
    errors = [file["error"] for file in content["files"] if file["status"] == "failed"]
    assert all(len(error.splitlines()) == 1 for error in errors)


def test_a_list_on_standard_input(graph: Path, clips: Path, tmp_path: Path) -> None:
    listed = f"{clips / 'a.mp4'}\n\n  {clips / 'b.mkv'}\n"
    assert serve(graph, "-", "-o", tmp_path / "out", stdin=listed).exit_code == 0
    assert report(tmp_path / "out") == {"a.mp4": "done", "b.mkv": "done"}
    nothing = serve(graph, "-", "-o", tmp_path / "out2", stdin="\n")
    assert nothing.exit_code == 2 and "standard input is empty" in nothing.stderr


def test_lossless_outputs_and_shares_in_a_batch(graph: Path, clips: Path, tmp_path: Path) -> None:
    for output, wanted in (("labels", "a.mkv"), ("frames", "a/000011.png")):
        out = tmp_path / output
        arguments = [graph, clips / "a.mp4", "-o", out, "--output", output, "--shares"]
        result = serve(*arguments)
        assert result.exit_code == 0, result.output
        assert {wanted, "a.shares.csv", "report.json"} <= names(out)
        assert "left out: audio" in result.stdout
        assert serve(*arguments).exit_code == 0 and report(out) == {"a.mp4": "skipped"}
        again = serve(*arguments[:-1], "--force")
        assert again.exit_code == 0 and report(out) == {"a.mp4": "done"}, again.output


def test_smoothing_is_reported(graph: Path, clips: Path, tmp_path: Path) -> None:
    result = serve(graph, clips / "a.mp4", "-o", tmp_path / "out", "--smooth", "0.2", "--start", "0:00.25")
    assert result.exit_code == 0 and "flicker 0.00% -> 0.00%" in result.stdout
    file = json.loads((tmp_path / "out/report.json").read_text())["files"][0]
    assert file["video"]["flicker"] == [0.0, 0.0] and file["video"]["frames"] == 9


def test_refused_before_any_work(graph: Path, clips: Path, tmp_path: Path) -> None:
    plain = write_graph(tmp_path / "plain.onnx")
    for arguments, words in [
        ([graph, clips, "-o", tmp_path / "out.mp4"], "may be several inputs; give a folder"),
        ([graph, clips / "a.mp4", clips / "b.mkv", "-o", tmp_path / "out.mp4"], "give a folder"),
        ([graph, clips / "a.mp4", "-o", tmp_path / "out.mp4", "--output", "labels"], "does not end in .mkv"),
        ([plain, clips, "-o", tmp_path / "out", "--output", "side-by-side"], "'uncorrected_labels'"),
        ([plain, clips, "-o", tmp_path / "out", "--smooth", "1"], "'scores'"),
        ([graph, clips, "-o", tmp_path / "out", "--tau", "3"], "between 0 and 2"),
        ([graph, clips, "-o", tmp_path / "out", "--end", "2", "--start", "3"], "is not after --start"),
        ([graph, clips, "-o", tmp_path / "out", "--end", "soon"], "is no time"),
        ([graph, clips, "-o", tmp_path / "out", "--tile", "auto"], "any size"),
        ([graph, clips, "-o", clips / "notes.txt"], "does not end in .mp4"),
    ]:
        result = serve(*arguments)
        assert result.exit_code == 2 and words in result.stderr, result.output
        assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.mp4").exists()


def test_a_folder_of_outputs_is_not_the_folder_of_inputs(graph: Path, clips: Path) -> None:
    before = (clips / "a.mp4").read_bytes()
    result = serve(graph, clips / "a.mp4", "-o", clips, "--force")
    assert result.exit_code == 2 and "is the input itself" in result.stderr
    assert (clips / "a.mp4").read_bytes() == before


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_batch_goes_on_where_it_stopped(graph: Path, tmp_path: Path, kill: int) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    write_clip(clips / "a.mp4")
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    write_clip(clips / "b.mp4", picture=noise, times=range(100))
    command = [sys.executable, "-m", "serve", "video", graph, clips, "-o", out]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob(".b.*.partial.mp4")) and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(kill)
    _, said = running.communicate(timeout=60)
    assert running.returncode != 0 and "Traceback" not in said
    assert (out / "a.mp4").exists() and not (out / "b.mp4").exists()
    if kill == signal.SIGINT:
        assert report(out) == {"a.mp4": "done", "b.mp4": "not reached"}
    assert serve(graph, clips, "-o", out).exit_code == 0
    assert report(out) == {"a.mp4": "skipped", "b.mp4": "done"}
    assert names(out) == {"a.mp4", "a.mp4.json", "b.mp4", "b.mp4.json", "report.json"}  # nothing left over


def test_a_full_disk_stops_the_batch_with_a_word(graph: Path, tmp_path: Path) -> None:
    import resource

    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    for name in "ab":
        write_clip(clips / f"{name}.mp4", picture=noise, times=range(40))

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    command = [sys.executable, "-B", "-m", "serve", "video", graph, clips, "-o", out, "--crf", "10"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2 and "File too large" in done.stderr and "Traceback" not in done.stderr
    assert names(out) == {"report.json"} and set(report(out).values()) == {"not reached"}


def test_a_batch_labels_like_the_segmenter(graph: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (71, 97, 3), np.uint8)
    source = write_clip(tmp_path / "in.mkv", picture=noise, codec="ffv1", pixel_format="bgr0")
    arguments = [graph, source, "-o", tmp_path / "out.mkv", "--output", "labels", "--tau", "0.1"]
    assert serve(*arguments).exit_code == 0
    with av.open(str(tmp_path / "out.mkv")) as container:
        for frame in container.decode(video=0):
            np.testing.assert_array_equal(
                frame.to_ndarray(format="gray"), Segmenter(graph)(noise, 0.1).labels
            )
