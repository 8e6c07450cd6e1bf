"""Folders that cannot be written, full disks and Ctrl-C: one sentence, and nothing half-written."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serve_commands import expect_refusal, files_in, serve
from serve_graphs import halves, write_clip


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
    assert files_in(tmp_path) == {"in.mp4"}


def test_full_disk_under_pictures(graph: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    done = _on_full_disk(6, "image", graph, tmp_path / "a.png", "-o", tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "overlay/a.jpg: File too large" in done.stderr
    assert files_in(tmp_path) == {"a.png", "out/labels/a.png"}


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
