"""Frames of videos: processes that sample the same one, and a kill amid it."""

import subprocess
import sys
from pathlib import Path

from clips import make_video
from kill_moments import killed

from adapt.data.datasets import open_target


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


SAMPLER = """
import sys, time
from pathlib import Path
from adapt.data.datasets import open_target
video, cache = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
for number in range(int(sys.argv[3])):
    sys.stdin.readline()
    images = open_target([video], cache / str(number), frames=12)
    print(len([images[i] for i in range(len(images))]), flush=True)
"""


def test_two_processes_that_sample_one_video_share_its_frames(tmp_path: Path) -> None:
    """Started together, several times."""
    video, rounds = make_video(tmp_path / "clip.mp4"), 6
    command = [sys.executable, "-c", SAMPLER, str(video), str(tmp_path / "cache"), str(rounds)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
        for number in range(rounds):
            for process in processes:
                process.stdin.write("go\n")
                process.stdin.flush()
            assert [process.stdout.readline() for process in processes] == ["12\n"] * 2
            assert len(list((tmp_path / "cache" / str(number)).iterdir())) == 1  # and nothing hidden
    finally:
        for process in processes:
            process.kill()
            process.communicate()


SAMPLE = """
from pathlib import Path
from adapt.data.datasets import open_target
def work(folder):
    open_target([Path({video!r})], folder / "cache", frames=4)
"""


def test_a_killed_sampler_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    video = make_video(tmp_path / "clip.mp4")
    folders = killed(SAMPLE.format(video=str(video)), tmp_path / "kills", range(1, 12))
    assert len(folders) > 4
    for folder in folders:
        assert {len(list(whole.iterdir())) for whole in (folder / "cache").glob("[!.]*")} <= {4}
        assert len(open_target([video], folder / "cache", frames=4)) == 4
        assert hidden(folder) == []
