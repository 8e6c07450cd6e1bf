"""Files and folders: whole or not at all, and swept once nobody will finish them."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kill_moments import killed

from serve.errors import InputError
from serve.media import whole
from serve.media.partial import BOOT, HOST, PATIENCE, sweep
from serve.media.whole import creating, replacing, scratch, unfinished

OURS = f".run.{HOST}-{BOOT}-01234567.partial"
ELSEWHERE = ".run.elsewhere-76543210-01234567.partial"


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def left(folder: Path, name: str = OURS, age: float = 0) -> Path:
    """What a killed process leaves."""
    path = folder / name
    (path / "report").mkdir(parents=True)
    then = time.time() - age
    for each in (path / "report", path):
        os.utime(each, (then, then))
    return path


# ---- kills -----------------------------------------------------------------------------------------------

WORK = """
from serve.media.whole import creating, replacing
def work(folder):
    for text in ("old", "new"):
        with replacing(folder / "file") as file:
            file.write_text(text)
        with creating(folder / "made", replace=True) as made:
            (made / "a").write_text(text)
            (made / "b").write_text(text)
        with creating(folder / "cache", shared=True) as cache:
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
@pytest.mark.parametrize(
    "name",
    [
        OURS,
        f"{OURS}.mp4",
        f".run.{HOST}-76543210-01234567.partial.json",  # before the machine was started anew
        f".run.another-container-{BOOT}-01234567.partial",
        f".run.{HOST}-01234567.blda-tmp",  # of older versions
        ".run.4711.partial.mp4",
        ".run.1-2.partial",
    ],
)
def test_what_a_dead_process_of_this_machine_left_goes_at_once(tmp_path: Path, name: str, age: float) -> None:
    left(tmp_path, name, age)
    sweep(tmp_path)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("name", [ELSEWHERE, f"{ELSEWHERE}.mp4", ".run.elsewhere-01234567.blda-tmp"])
def test_what_is_of_another_machine_goes_once_it_rests(tmp_path: Path, name: str) -> None:
    """Its lock may not be seen here."""
    fresh, old = left(tmp_path / "a", name), left(tmp_path / "b", name, PATIENCE + 100)
    busy = left(tmp_path / "c", name, PATIENCE + 100)
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


@pytest.mark.parametrize(
    "name", [".hidden", ".run.123.tmp", ".run.partial", "run.blda-tmp", ".run.notes.partial", OURS[1:]]
)
def test_what_others_call_theirs_stays(tmp_path: Path, name: str) -> None:
    path = left(tmp_path, name, 10 * PATIENCE)
    sweep(tmp_path)
    assert path.exists()


SWEEPER = """
import sys, threading, time
from pathlib import Path
from serve.media.partial import sweep
from serve.media.whole import creating
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
    with creating(path, shared=True) as folder:
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


def test_an_error_inside_a_folder_in_the_making_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as full, creating(tmp_path / "run") as folder:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "report" / "a.png"))
    assert full.value.filename == str(tmp_path / "run") and hidden(tmp_path) == []


def test_a_long_name_leaves_room_for_what_is_beside_it(tmp_path: Path) -> None:
    target = tmp_path / f"{'ä' * 120}.json"
    with replacing(target) as file:
        file.write_text("whole")
    assert target.read_text() == "whole"


def test_a_file_for_good_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch) -> None:
    happened: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: happened.append("fsync"))
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda *paths: happened.append("replace") or replace(*paths))
    with replacing(tmp_path / "file"), unfinished(tmp_path / "other"):
        pass
    assert happened == ["fsync", "replace"] * 2


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
    monkeypatch.setattr(whole.tempfile, "gettempdir", lambda: str(tmp_path))
    left(tmp_path, f".scratch.{HOST}-{BOOT}-01234567.partial")
    with scratch() as folder:
        (folder / "big").write_text("")
        assert hidden(tmp_path) == [folder.name]
        assert folder.stat().st_mode & 0o777 == 0o700  # what is read there may be private
    assert hidden(tmp_path) == []
