"""The end of the process: at once, and nothing is left."""

import os
import signal
import subprocess
import sys
import time

import pytest
from browser import until
from demo_server import demo, listening, log, submit, upload
from serve_graphs import write_clip, write_graph
from slow_demo import AT_ONCE, ask_for_video


@pytest.mark.parametrize(
    ("number", "busy"),
    [
        (signal.SIGTERM, True),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_it_at_once(tmp_path, slow_graph, number, busy):
    with demo(tmp_path / "server", slow_graph) as running:
        events = []
        if busy:
            clip = upload(running, write_clip(tmp_path / "drive.mp4"))
            events = [
                ask_for_video(running, "slow.onnx", clip) for _ in range(3)
            ]  # one at work, two that wait
            events += [submit(running, "segment_image", "slow.onnx", None, None, 0.5, [])]
            until(lambda: "drive.mp4" in log(running), "work")
            assert any(path.is_file() for path in running.temporary.rglob("*"))
        with listening(running, "segment_video", events[0] if busy else "none"):
            begin = time.monotonic()
            running.process.send_signal(number)
            assert running.process.wait(20) == 0
            assert time.monotonic() - begin < 8  # two here, if the machine has time for it
        assert list(running.temporary.iterdir()) == []
        assert not [path for path in running.home.rglob("*") if path.is_file()]
        assert "Traceback" not in log(running)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_leave_anything_behind(tmp_path, first):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "upload.png").touch()
    program = (
        "import sys, time; from serve.demo.start import _ending\n"
        "with _ending(sys.argv[1]): print('ready', flush=True); time.sleep(120)"
    )
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as working:
        assert working.stdout is not None and working.stdout.readline() == "ready\n"
        for number in (first, signal.SIGINT, signal.SIGTERM):
            working.send_signal(number)
        _, said = working.communicate(timeout=60)
    assert (working.returncode, said) == (0, "")
    assert not folder.exists()


@pytest.mark.slow
def test_a_second_signal_does_not_leave_anything_of_the_page_behind(tmp_path):
    with demo(tmp_path / "server", write_graph(tmp_path / "quick.onnx")) as running:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            running.process.send_signal(number)
        assert running.process.wait(20) == 0
        assert list(running.temporary.iterdir()) == []


def test_a_signal_before_the_page_is_up(tmp_path):
    (tmp_path / "tmp").mkdir()
    graph = write_graph(tmp_path / "quick.onnx")
    command = [
        sys.executable,
        "-m",
        "serve",
        "demo",
        str(graph),
        "--port",
        "9",
    ]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    environment.pop("GRADIO_TEMP_DIR", None)
    starting = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    until(lambda: list((tmp_path / "tmp").glob(".blda-demo.*")), "folder", 60)
    starting.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    starting.wait(20)
    assert time.monotonic() - begin < AT_ONCE
    assert not list((tmp_path / "tmp").glob(".blda-demo.*"))
