"""Files that are no videos, or not whole ones, and what is said of them."""

from pathlib import Path

import av
import numpy as np
from serve_graphs import write_clip


def bad_videos(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    whole = write_clip(tmp_path / "whole.mp4", times=range(60)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])  # its index comes first
    late = write_clip(tmp_path / "late.mov", times=range(60)).read_bytes()
    (tmp_path / "cut.mov").write_bytes(late[: len(late) * 2 // 3])  # its index came last
    matroska = write_clip(tmp_path / "whole.mkv", times=range(60)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(matroska[: len(matroska) // 3])
    (tmp_path / "text.mp4").write_text("hello\n" * 1000)
    (tmp_path / "notes.txt").write_text("hello\n" * 1000)
    (tmp_path / "empty.mp4").touch()
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return {
        "cut.mp4": (tmp_path / "cut.mp4", "no frame that can be decoded .*the last .* s are missing"),
        "cut.mov": (tmp_path / "cut.mov", "can't be opened as a video"),
        "cut.mkv": (tmp_path / "cut.mkv", "no frame that can be decoded .*the last .* s are missing"),
        "text.mp4": (tmp_path / "text.mp4", "can't be opened as a video"),
        "notes.txt": (tmp_path / "notes.txt", "text file"),
        "empty.mp4": (tmp_path / "empty.mp4", "can't be opened as a video"),
        "sound.m4a": (tmp_path / "sound.m4a", "no video stream .*audio"),
        "missing.mp4": (tmp_path / "missing.mp4", "can't be opened as a video"),
    }
