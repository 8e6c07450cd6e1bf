"""What is found: videos in folders, how many frames they list, and times as people write them."""

from fractions import Fraction
from pathlib import Path

import pytest

from serve.batch.inputs import find_videos, stem
from serve.cli.options import Seconds
from serve.errors import InputError
from serve.media.video.source import Selection, listed_frames


def test_listed_frames(clips: Path) -> None:
    assert listed_frames(clips / "a.mp4", Selection()) == 12
    assert listed_frames(clips / "a.mp4", Selection(start=Fraction(1, 2))) == 6
    assert listed_frames(clips / "notes.txt", Selection()) == 0
    assert listed_frames("rtsp://nowhere.invalid/", Selection()) == 0


def test_what_is_found(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_videos([str(clips)]) == [clips / "a.mp4", clips / "b.mkv", clips / "c.ts"]
    assert "of other kinds: " in (said := capsys.readouterr().err) and "notes.txt" in said
    assert find_videos([str(clips / "*.m*")]) == [clips / "a.mp4", clips / "b.mkv"]
    assert find_videos([str(clips / "notes.txt"), "rtsp://me:secret@cam:554/one"]) == [
        clips / "notes.txt",
        "rtsp://me:secret@cam:554/one",
    ]
    assert stem("rtsp://me:secret@cam:554/one/2") == "cam-554-one-2" and stem("/dev/video0") == "dev-video0"
    (tmp_path / "a.mkv").touch()
    with pytest.raises(InputError, match="would both be written as a"):
        find_videos([str(clips), str(tmp_path / "a.mkv")])
    with pytest.raises(InputError, match="holds no video"):
        find_videos([str(tmp_path / "nothing*")])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12.5", Fraction(25, 2)), ("1:02", Fraction(62)), ("1:00:00.001", Fraction(3_600_001, 1000))],
)
def test_times(text: str, seconds: Fraction) -> None:
    assert Seconds().convert(text, None, None) == seconds
