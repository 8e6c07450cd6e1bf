"""A second batch over the same videos: what it says of those that are finished, and what is passed over."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from serve_graphs import write_clip, write_graph

from serve.cli.commands import main


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A whole clip, and one with a hole in the middle."""
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(folder / "whole.mp4")
    damaged = write_clip(folder / "damaged.ts", times=range(60))
    data = bytearray(damaged.read_bytes())
    begin = len(data) // 2 // 188 * 188
    data[begin : begin + 188 * 6] = bytes(188 * 6)
    damaged.write_bytes(data)
    return folder


def serve(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["video", *map(str, arguments)])


def report(out: Path) -> Any:
    return json.loads((out / "report.json").read_text())


def test_what_was_damaged_stays_damaged(tmp_path: Path, clips: Path) -> None:
    graph, out = write_graph(tmp_path / "model.onnx"), tmp_path / "out"
    first = serve(graph, clips, "-o", out)
    assert first.exit_code == 1 and "1 damaged" in first.stdout
    said = [file["video"] for file in report(out)["files"]]
    second = serve(graph, clips, "-o", out)
    assert second.exit_code == 1 and "2 skipped and 1 damaged" in second.stdout
    assert [file["status"] for file in report(out)["files"]] == ["skipped", "skipped"]
    again = [file["video"] for file in report(out)["files"]]
    assert [each["damage"] for each in again] == [each["damage"] for each in said]
    assert [each["frames"] for each in again] == [each["frames"] for each in said]
    assert "Ran " not in second.stdout  # nothing ran


def test_an_output_of_a_version_that_said_nothing_of_it_is_finished_all_the_same(
    tmp_path: Path, clips: Path
) -> None:
    graph, out = write_graph(tmp_path / "model.onnx"), tmp_path / "out"
    serve(graph, clips / "whole.mp4", "-o", out)
    side = out / "whole.mp4.json"
    said = json.loads(side.read_text())
    for former in ({}, {"video": "well"}, {"video": {**said["video"], "new": 1}}):
        side.write_text(json.dumps({**{key: said[key] for key in said if key != "video"}, **former}))
        second = serve(graph, clips / "whole.mp4", "-o", out)
        assert second.exit_code == 0 and "1 skipped" in second.stdout
        assert report(out)["files"][0]["video"] is None


def test_what_is_passed_over_is_in_the_report(tmp_path: Path, clips: Path) -> None:
    graph, out = write_graph(tmp_path / "model.onnx"), tmp_path / "out"
    (clips / "notes.txt").write_text("")
    (clips / "frame.png").write_bytes(b"")
    (clips / "more").mkdir()
    result = serve(graph, clips, "-o", out)
    left = [Path(name).name for name in report(out)["left_out"]]
    assert left == ["more", "notes.txt", "frame.png"]
    assert "Left out 1 file of other kinds and 1 folder: more/, notes.txt" in result.stderr
