"""Unfinished files and folders: whole or not at all, and swept once nobody will finish them."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import make_video
from kill_moments import killed

from adapt import temporary
from adapt.data.datasets import open_target
from adapt.errors import InputError
from adapt.temporary import HOST, PATIENCE, SUFFIX, caching, creating, replacing, scratch, sweep

ELSEWHERE = f".run.elsewhere-01234567{SUFFIX}"


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def left(folder: Path, name: str = f".run.{HOST}-01234567{SUFFIX}", age: float = 0) -> Path:
    """What a killed process leaves."""
    path = folder / name
    (path / "report").mkdir(parents=True)
    then = time.time() - age
    for each in (path / "report", path):
        os.utime(each, (then, then))
    return path


# ---- kills -----------------------------------------------------------------------------------------------

WORK = """
from adapt.temporary import caching, creating, replacing
def work(folder):
    for text in ("old", "new"):
        with replacing(folder / "file") as file:
            file.write_text(text)
        with creating(folder / "made", replace=True) as made:
            (made / "a").write_text(text)
            (made / "b").write_text(text)
        with caching(folder / "cache") as cache:
            (cache / "a").write_text("same")
"""


def test_a_kill_at_any_moment_leaves_what_is_whole_and_the_next_one_sweeps(tmp_path: Path) -> None:
    folders = killed(WORK, tmp_path / "kills", range(1, 60))
    assert len(folders) > 15 and any(hidden(folder) for folder in folders)
    for folder in folders:
        if (folder / "file").exists():
            assert (folder / "file").read_text() in ("old", "new")
        if (folder / "made").exists():
            texts = {path.read_text() for path in (folder / "made").iterdir()}
            assert len(list((folder / "made").iterdir())) == 2 and texts in ({"old"}, {"new"})
        if (folder / "cache").exists():
            assert (folder / "cache" / "a").read_text() == "same"
        with replacing(folder / "another") as file:
            file.write_text("")
        assert hidden(folder) == []


# ---- who is dead -----------------------------------------------------------------------------------------


def test_what_is_being_written_is_not_swept(tmp_path: Path) -> None:
    with creating(tmp_path / "run") as folder, replacing(tmp_path / "file") as file:
        sweep(tmp_path)
        assert folder.is_dir() and file.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


@pytest.mark.parametrize("age", [0, 10 * PATIENCE])
def test_what_a_dead_process_of_this_host_left_goes_at_once(tmp_path: Path, age: float) -> None:
    left(tmp_path, age=age)
    sweep(tmp_path)
    assert hidden(tmp_path) == []


def test_what_is_of_another_host_goes_once_it_rests(tmp_path: Path) -> None:
    """Its lock may not be seen here."""
    fresh, old = left(tmp_path / "a", ELSEWHERE), left(tmp_path / "b", ELSEWHERE, PATIENCE + 100)
    busy = left(tmp_path / "c", ELSEWHERE, PATIENCE + 100)
    (busy / "report" / "now.png").write_bytes(b"")
    os.utime(busy, (0, 0))
    for folder in (tmp_path / name for name in "abc"):
        sweep(folder)
    assert fresh.exists() and busy.exists() and not old.exists()


def test_on_a_disk_without_locks_it_goes_once_it_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    fresh, old = left(tmp_path / "a"), left(tmp_path / "b", age=PATIENCE + 100)
    for folder in (tmp_path / "a", tmp_path / "b"):
        with creating(folder / "run") as made:
            (made / "file").write_text("")
        assert (folder / "run" / "file").exists()
    assert fresh.exists() and not old.exists()


@pytest.mark.parametrize("name", [".hidden", ".run.123.tmp", ".run.part", "run.blda-tmp", f"run{SUFFIX}"])
def test_what_others_call_theirs_stays(tmp_path: Path, name: str) -> None:
    path = left(tmp_path, name, 10 * PATIENCE)
    sweep(tmp_path)
    assert path.exists()


SWEEPER = """
import sys, threading, time
from pathlib import Path
from adapt.temporary import creating, sweep
folder = Path(sys.argv[1])
stop = threading.Event()
def always():
    while not stop.is_set():
        sweep(folder)
        time.sleep(0.001)
thread = threading.Thread(target=always, daemon=True)
thread.start()
for number in range(150):
    with creating(folder / f"{sys.argv[2]}{number}") as made:
        (made / "file").write_text("")
stop.set()
thread.join()
"""


def test_sweepers_never_take_what_is_just_being_made(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", SWEEPER, str(tmp_path), name]) for name in "ab"]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("*/file"))) == 300 and hidden(tmp_path) == []


# ---- what is there already -------------------------------------------------------------------------------


def test_a_run_that_another_process_has_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(InputError, match="made by another process meanwhile"), creating(path) as folder:
        (folder / "mine").write_text("")
        path.mkdir()
        (path / "theirs").write_text("")
    assert [p.name for p in path.iterdir()] == ["theirs"] and hidden(tmp_path) == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with creating(tmp_path / "run") as folder:
        (folder / "mine").write_text("")
    assert (tmp_path / "run" / "mine").exists()


def test_a_cache_that_another_process_has_filled_meanwhile_is_used(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with caching(path) as folder:
        (folder / "mine").write_text("")
        path.mkdir()
        (path / "theirs").write_text("")
    assert [p.name for p in path.iterdir()] == ["theirs"] and hidden(tmp_path) == []


def test_failures_leave_the_old_one_and_name_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="No space") as full, replacing(tmp_path / "file") as file:
        raise OSError(errno.ENOSPC, "No space left on device", str(file))
    assert full.value.filename == str(tmp_path / "file")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "file"):
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError) as elsewhere, replacing(tmp_path / "file"):
        (tmp_path / "input").read_text()
    assert elsewhere.value.filename == str(tmp_path / "input")
    assert (tmp_path / "file").read_text() == "old" and hidden(tmp_path) == []


def test_files_and_folders_have_the_usual_permissions(tmp_path: Path) -> None:
    """A run is often read by other people than the one who trained it."""
    former = os.umask(0o022)
    try:
        with replacing(tmp_path / "file") as file:
            file.write_text("")
        with creating(tmp_path / "folder"):
            pass
    finally:
        os.umask(former)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")]
    assert modes == [0o644, 0o755]


def test_scratch_is_gone_afterwards_and_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary.tempfile, "gettempdir", lambda: str(tmp_path))
    left(tmp_path, f".scratch.{HOST}-01234567{SUFFIX}")
    with scratch() as folder:
        (folder / "big").write_text("")
        assert hidden(tmp_path) == [folder.name]
    assert hidden(tmp_path) == []


# ---- two processes and one video -------------------------------------------------------------------------

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
