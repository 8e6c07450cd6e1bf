"""A folder of clips, and of what is no clip."""

from pathlib import Path

import pytest
from serve_graphs import halves, write_clip


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(folder / "a.mp4", sound="aac")
    write_clip(folder / "b.mkv", times=range(5))
    write_clip(folder / "c.ts", picture=halves(64, 80))
    (folder / "notes.txt").write_text("no video")
    return folder
