"""The commands as people type them: what is written, what is said, and how they fail."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from serve_graphs import PALETTE, TAU, halves, write_clip, write_graph

from serve.cli.commands import main

HEAVY = ("torch", "cv2", "onnxruntime", "gradio", "av", "numpy", "onnx", "adapt", "export")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.onnx", extras=True)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, size in {"a.png": (72, 96), "b.jpg": (100, 81), "c.png": (20, 30)}.items():
        Image.fromarray(halves(*size)).save(folder / name)
    return folder


def serve(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def expect_refusal(result: Result, *words: str) -> None:
    """One sentence and exit code 2."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


def test_image_writes_labels_and_overlay_of_a_folder(graph: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = serve("image", graph, pictures, "-o", out)
    assert result.exit_code == 0, result.output
    wanted = {f"labels/{stem}.png" for stem in "abc"} | {f"overlay/{stem}.jpg" for stem in "abc"}
    assert _files(out) == wanted
    labels = np.asarray(Image.open(out / "labels/a.png"))
    np.testing.assert_array_equal(labels, halves().argmax(2))
    assert Image.open(out / "labels/c.png").size == (30, 20)
    assert f"Wrote labels and overlay of 3 picture(s) to {out}" in result.stdout
    assert f"Ran {graph} on cpu: " in result.stdout and "ms per picture" in result.stdout


def test_image_writes_only_what_is_chosen(graph: Path, pictures: Path, tmp_path: Path) -> None:
    result = serve("image", graph, pictures / "a.png", "-o", tmp_path / "out", "--colors")
    assert result.exit_code == 0, result.output
    assert _files(tmp_path / "out") == {"colors/a.png"}
    colors = np.asarray(Image.open(tmp_path / "out/colors/a.png"))
    np.testing.assert_array_equal(colors, np.asarray(PALETTE, np.uint8)[halves().argmax(2)])


def test_image_takes_patterns_and_opacity(graph: Path, pictures: Path, tmp_path: Path) -> None:
    result = serve("image", graph, pictures / "*.png", "-o", tmp_path / "o", "--overlay", "--opacity", 1)
    assert result.exit_code == 0, result.output
    assert _files(tmp_path / "o") == {"overlay/a.jpg", "overlay/c.jpg"}
    overlay = np.asarray(Image.open(tmp_path / "o/overlay/a.jpg")).astype(int)
    assert np.abs(overlay[10:60, 5:40] - PALETTE[0]).max() < 12


def test_a_bad_picture_among_good_ones_is_named_and_the_others_are_done(
    graph: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "bad.png").write_bytes((pictures / "a.png").read_bytes()[:60])
    (pictures / "z.psd").touch()
    result = serve("image", graph, pictures, "-o", tmp_path / "out", "--labels")
    assert result.exit_code == 1
    assert "of other kinds: " in result.stderr and "z.psd" in result.stderr
    assert _files(tmp_path / "out") == {"labels/a.png", "labels/b.png", "labels/c.png"}
    assert f"Left out: {pictures / 'bad.png'} is truncated" in result.stderr
    assert "1 of 4 pictures left out" in result.stderr


def test_files_of_several_pictures_are_named(graph: Path, tmp_path: Path) -> None:
    pages = [Image.fromarray(halves())] * 4
    for name in ("a.gif", "b.tif", "c.png"):
        pages[0].save(
            tmp_path / name, save_all=True, append_images=pages[1 : len(pages) if name < "c" else 1]
        )
    result = serve("image", graph, tmp_path, "-o", tmp_path / "out", "--labels")
    assert result.exit_code == 0, result.output
    assert "Of files that hold several pictures, the first was segmented: " in result.stdout
    assert "b.tif (4)" in result.stdout and "c.png" not in result.stdout


def test_a_single_bad_picture(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    result = serve("image", graph, tmp_path / "bad.png", "-o", tmp_path / "out")
    expect_refusal(result, "bad.png is not a picture")
    assert not (tmp_path / "out").exists()


def test_image_overwrites_only_with_force(graph: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "labels").mkdir(parents=True)
    (out / "labels/b.png").write_text("mine")
    expect_refusal(serve("image", graph, pictures, "-o", out), "labels/b.png exists", "--force")
    assert _files(out) == {"labels/b.png"} and (out / "labels/b.png").read_text() == "mine"
    assert serve("image", graph, pictures, "-o", out, "--force").exit_code == 0
    assert Image.open(out / "labels/b.png").size == (81, 100)


def test_image_into_a_file_is_refused(graph: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    expect_refusal(serve("image", graph, pictures, "-o", tmp_path / "out"), "is a file")


def test_empty_and_missing_inputs(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for given in (tmp_path / "empty", tmp_path / "missing.png", tmp_path / "*.jpg"):
        expect_refusal(serve("image", graph, given, "-o", tmp_path / "out"), str(given), "holds no picture")
    expect_refusal(
        serve("video", graph, tmp_path / "missing.mp4", "-o", tmp_path / "o.mp4"), "holds no video"
    )


@pytest.mark.parametrize("command", ["image", "video"])
def test_tau_is_checked_before_any_work(graph: Path, tmp_path: Path, command: str) -> None:
    sliding = write_graph(tmp_path / "sliding.onnx", runtime_tau=True)
    Image.fromarray(halves()).save(tmp_path / "a.png")
    source = tmp_path / "a.png" if command == "image" else write_clip(tmp_path / "a.mkv")
    target = tmp_path / ("out" if command == "image" else "out.mp4")
    for tau in (-0.1, 2.5, "nan"):
        expect_refusal(serve(command, sliding, source, "-o", target, "--tau", tau), "between 0 and 2")
    expect_refusal(serve(command, graph, source, "-o", target, "--tau", 0.5), "folded in", "--runtime-tau")
    assert not target.exists()
    assert serve(command, sliding, source, "-o", target, "--tau", 2).exit_code == 0


def test_runtime_tau_reaches_the_graph(tmp_path: Path) -> None:
    sliding = write_graph(tmp_path / "sliding.onnx", runtime_tau=True)
    Image.fromarray(halves()).save(tmp_path / "a.png")
    for tau, expected in ((0, {0, 1}), (2, {2})):
        out = tmp_path / f"out{tau}"
        serve("image", sliding, tmp_path / "a.png", "-o", out, "--labels", "--tau", tau)
        assert set(np.unique(np.asarray(Image.open(out / "labels/a.png")))) == expected


@pytest.mark.parametrize("command", ["image", "video", "info"])
def test_files_that_are_no_graph(tmp_path: Path, command: str) -> None:
    (tmp_path / "text.onnx").write_text("hello\n" * 50)
    Image.fromarray(halves()).save(tmp_path / "a.png")
    source = tmp_path / "a.png" if command == "image" else write_clip(tmp_path / "a.mkv")
    rest = [] if command == "info" else [source, "-o", tmp_path / "out.mp4"]
    expect_refusal(
        serve(command, tmp_path / "text.onnx", *rest), "text.onnx", "can't be opened as an ONNX graph"
    )
    expect_refusal(serve(command, tmp_path / "missing.onnx", *rest), "missing.onnx is not a file")
    stranger = write_graph(tmp_path / "stranger.onnx", metadata={})
    expect_refusal(serve(command, stranger, *rest), "no blda metadata")
    assert not (tmp_path / "out.mp4").exists()


def test_video_writes_an_mp4_and_says_so(graph: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", sound="aac")
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
    assert _files(tmp_path) == {"in.mp4", "out.mp4"}


def test_outputs_where_nothing_can_be_written(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Image.fromarray(halves()).save(tmp_path / "a.png")
    expect_refusal(
        serve("image", graph, tmp_path / "a.png", "-o", tmp_path / "file" / "out"), "file is a file"
    )
    source = write_clip(tmp_path / "in.mp4")
    expect_refusal(serve("video", graph, source, "-o", tmp_path / "file" / "out.mp4"), "file is a file")


def test_a_folder_without_permission(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(halves()).save(tmp_path / "a.png")
    write_clip(tmp_path / "a.mp4")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    if os.geteuid() == 0:  # who may write anywhere
        allowed = os.access

        def access(path: str | Path, mode: int) -> bool:
            return allowed(path, mode) and not (Path(path) == closed and mode & os.W_OK)

        monkeypatch.setattr(os, "access", access)
    for command, name in (("image", "a.png"), ("video", "a.mp4")):
        for out in (closed, closed / "out"):
            result = serve(command, graph, tmp_path / name, "-o", out)
            expect_refusal(result, f"{closed} can't be written to")
    assert not any(closed.iterdir())


def test_a_truncated_video_is_kept_up_to_there_and_said(graph: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", times=range(40))
    source.write_bytes(source.read_bytes()[:-300])
    result = serve("video", graph, source, "-o", tmp_path / "out.mp4")
    assert result.exit_code == 1 and re.search(r"Damaged: .*the last 1\.6 s are missing", result.stdout)
    assert _files(tmp_path) == {"in.mp4", "out.mp4"}


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


def _on_full_disk(kilobytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `serve` where no file may grow beyond this size: writes fail with an error, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1000, kilobytes * 1000))

    command = [sys.executable, "-B", "-m", "serve", *map(str, arguments)]  # -B: no bytecode files, cut or not
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)


@pytest.mark.parametrize("kilobytes", [0, 1, 6])
def test_full_disk_under_a_video(graph: Path, tmp_path: Path, kilobytes: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    source = write_clip(tmp_path / "in.mp4", picture=noise, times=range(40))
    done = _on_full_disk(kilobytes, "video", graph, source, "-o", tmp_path / "out.mp4", "--crf", 10)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"Error: {tmp_path / 'out.mp4'}: File too large" in done.stderr
    assert _files(tmp_path) == {"in.mp4"}


def test_full_disk_under_pictures(graph: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    done = _on_full_disk(6, "image", graph, tmp_path / "a.png", "-o", tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "overlay/a.jpg: File too large" in done.stderr
    assert _files(tmp_path) == {"a.png", "out/labels/a.png"}


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="sends a POSIX signal")
def test_ctrl_c_leaves_no_output(graph: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", picture=halves(720, 1280), times=range(80))
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "serve", "video", graph, source, "-o", out / "out.mp4"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(out.iterdir()) and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1 and "Aborted" in said and "Traceback" not in said
    assert list(out.iterdir()) == []


def test_console_script_and_umbrella(graph: Path) -> None:
    folder = Path(sys.executable).parent
    for command in ([folder / "serve"], [folder / "blda", "serve"]):
        if shutil.which(command[0]) is None:
            pytest.skip("the console scripts are not installed here")
        done = subprocess.run([*command, "info", graph], capture_output=True, text=True)
        assert done.returncode == 0 and "strongest channel" in done.stdout
