"""The commands as people type them: videos, what a file is, help, and the ways to start them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image
from serve_commands import expect_refusal, files_in, serve
from serve_graphs import TAU, halves, write_clip

from serve.media import progress

HEAVY = ("torch", "cv2", "onnxruntime", "gradio", "av", "numpy", "onnx", "adapt", "export")


def test_video_writes_an_mp4_and_says_so(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_clip(tmp_path / "in.mp4", sound="aac")
    monkeypatch.setattr(progress, "watched", lambda: True)
    result = serve("video", graph, source, "-o", tmp_path / "out.mp4", "--output", "colors", "--crf", 10)
    assert result.exit_code == 0, result.output
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.streams.video[0].frames == 12
    assert f"Wrote {tmp_path / 'out.mp4'}: 12 frames, 1 audio track(s)" in result.stdout
    assert f"Ran {graph} on cpu: " in result.stdout and "frames/s" in result.stdout
    assert "12/12" in result.stderr  # progress


def test_video_outputs_that_are_refused(graph: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4")
    before = source.read_bytes()
    expect_refusal(serve("video", graph, source, "-o", tmp_path / "out.avi"), "does not end in .mp4")
    expect_refusal(serve("video", graph, source, "-o", source, "--force"), "is the input itself")
    (tmp_path / "out.mp4").write_text("mine")
    expect_refusal(serve("video", graph, source, "-o", tmp_path / "out.mp4"), "out.mp4 exists", "--force")
    assert (tmp_path / "out.mp4").read_text() == "mine" and source.read_bytes() == before
    assert serve("video", graph, source, "-o", tmp_path / "out.mp4", "--force").exit_code == 0
    assert files_in(tmp_path) == {"in.mp4", "out.mp4"}


def test_a_truncated_video_is_kept_up_to_there_and_said(graph: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", times=range(40))
    source.write_bytes(source.read_bytes()[:-300])
    result = serve("video", graph, source, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 1 and re.search(r"Damaged: .*the last 1\.6 s are missing", result.stdout)
    assert files_in(tmp_path) == {"in.mp4", "out.mp4"}


def test_info_for_people_and_for_programs(graph: Path) -> None:
    text = serve("info", graph).stdout
    for word in (
        "strongest channel",
        "red, green, blue",
        "tau = 0.25",
        "want of statistics: green",
        "runs on    cpu",
    ):
        assert word in text
    facts = json.loads(serve("info", graph, "--json").stdout)
    assert facts["card"]["classes"] == ["red", "green", "blue"] and facts["correction"]["tau"] == TAU
    assert facts["verification"] == {"labels_equal": 0.9999}
    assert facts["inputs"] == [{"name": "image", "dtype": "uint8", "shape": ["N", "H", "W", 3]}]
    assert facts["bytes"] == graph.stat().st_size


def _python(program: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["image", "--help"], ["video", "--help"], ["info", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from serve.cli.commands import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = _python(program)
    assert done.stdout.startswith("Usage:") and done.stdout.endswith("LOADED []\n"), done.stdout + done.stderr


def test_serving_never_loads_the_other_rooms(graph: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4")
    Image.fromarray(halves()).save(tmp_path / "a.png")
    runs = [
        ["image", str(graph), str(tmp_path / "a.png"), "-o", str(tmp_path / "out")],
        ["video", str(graph), str(source), "-o", str(tmp_path / "out.mp4")],
        ["info", str(graph)],
    ]
    foreign = ("torch", "onnx", "transformers", "adapt", "export", "matplotlib")
    program = (
        "import sys; from serve.cli.commands import main\n"
        f"for run in {runs!r}: main(run, standalone_mode=False)\n"
        f"print('LOADED', [m for m in {foreign!r} if m in sys.modules])"
    )
    assert _python(program).stdout.endswith("LOADED []\n")


def test_python_m_serve(graph: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "serve", "info", graph], capture_output=True, text=True)
    assert done.returncode == 0 and "strongest channel" in done.stdout


def test_console_script_and_umbrella(graph: Path) -> None:
    folder = Path(sys.executable).parent
    for command in ([folder / "serve"], [folder / "blda", "serve"]):
        if shutil.which(command[0]) is None:
            pytest.skip("the console scripts are not installed here")
        done = subprocess.run([*command, "info", graph], capture_output=True, text=True)
        assert done.returncode == 0 and "strongest channel" in done.stdout
