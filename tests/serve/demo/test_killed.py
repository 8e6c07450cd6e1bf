"""What kill -9 leaves of a demo, the next one removes: visitors' pictures do not stay on the disk."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from browser import until
from serve_graphs import write_graph


def test_the_next_demo_removes_the_folder_of_a_killed_one(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [
        sys.executable,
        "-m",
        "serve",
        "demo",
        str(write_graph(tmp_path / "quick.onnx")),
        "--port",
        "9",
    ]
    environment = {k: v for k, v in os.environ.items() if k != "GRADIO_TEMP_DIR"} | {"TMPDIR": str(temporary)}

    def folders() -> list[Path]:
        return sorted(temporary.glob(".blda-demo.*"))

    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as first:
        (left,) = until(folders, "folder", 60)
        first.kill()
    (left / "upload.png").write_bytes(b"a visitor's")
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as second:
        try:
            until(lambda: folders() and left not in folders(), "folder of its own", 60)
            assert folders()[0].stat().st_mode & 0o777 == 0o700
        finally:
            second.send_signal(signal.SIGTERM)
    assert folders() == []
