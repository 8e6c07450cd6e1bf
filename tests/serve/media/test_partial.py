"""Outputs in the making: whose they are, what a kill leaves, and two processes that want the same name."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from serve_graphs import halves, write_clip, write_graph

from serve.cli.commands import main
from serve.errors import InputError
from serve.media import partial
from serve.media.files import check_outputs
from serve.media.images import write_image
from serve.media.partial import HOST, give_name, sweep, temporary_for
from serve.media.whole import NameTakenError, replacing, unfinished
from serve.video import sink as video_sink

WRITER = """
import sys, time
from pathlib import Path
from serve.media.whole import replacing
with replacing(Path(sys.argv[1]), folder=len(sys.argv) > 2) as path:
    if path.is_dir():
        (path / "inside").write_text("half")
    else:
        path.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path: Path):
    """Starts a process that writes a file for ever; all are killed in the end."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("kind", [(), ("folder",)])
def test_what_a_killed_process_left_is_swept_and_what_is_in_work_is_not(tmp_path, writer, kind) -> None:
    killed, working = writer(tmp_path / "a.mp4", *kind), writer(tmp_path / "b.mp4", *kind)
    killed.kill()
    killed.wait()
    (tmp_path / ".a.notes.partial.mp4").touch()
    (tmp_path / "a.1.partial.mp4").touch()
    assert len(names(tmp_path)) == 4
    sweep(tmp_path)
    left = {name for name in names(tmp_path) if name not in (".a.notes.partial.mp4", "a.1.partial.mp4")}
    assert len(left) == 1 and left.pop().startswith(f".b.{HOST}-") and working.poll() is None
    sweep(tmp_path / "missing")


def test_what_this_process_writes_is_not_swept(tmp_path) -> None:
    with replacing(tmp_path / "a.txt") as path:
        path.write_text("whole")
        sweep(tmp_path)
        with replacing(tmp_path / "a.txt") as other:  # of another thread
            assert other != path
            other.write_text("other")
    assert (tmp_path / "a.txt").read_text() == "whole" and names(tmp_path) == {"a.txt"}


def test_a_process_number_says_nothing(tmp_path) -> None:
    """In containers, the one that was killed has the number of the next one, which is 1."""
    (tmp_path / f".a.{os.getpid()}.partial.txt").write_text("half")
    with replacing(tmp_path / "a.txt") as path:
        path.write_text("whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
    check_outputs([tmp_path / "b.txt"], force=False)
    assert names(tmp_path) == {"a.txt"}


def test_where_there_are_no_locks_nothing_is_taken_for_left_behind(tmp_path, monkeypatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(partial.fcntl, "flock", unsupported)
    with replacing(tmp_path / "a.txt") as path:
        path.write_text("whole")
        sweep(tmp_path)
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_file_swept_before_it_was_locked_is_made_again(tmp_path, monkeypatch) -> None:
    lock = partial._lock
    seen: list[Path] = []

    def late(path: Path) -> int:
        seen.append(path)
        if len(seen) == 1:
            path.unlink()  # before it can be opened
        descriptor = lock(path)
        if len(seen) == 2:
            path.unlink()  # after
        if len(seen) == 3:
            path.unlink()
            path.touch()  # somebody else's
        return descriptor

    monkeypatch.setattr(partial, "_lock", late)
    with replacing(tmp_path / "a.txt") as path:
        path.write_text("whole")
    assert len(seen) == 4 and (tmp_path / "a.txt").read_text() == "whole"
    assert names(tmp_path) == {"a.txt", seen[2].name}


@pytest.mark.parametrize("moment", ["touch", "_lock"])
def test_an_interruption_while_it_is_made_leaves_nothing(tmp_path, monkeypatch, moment) -> None:
    owner = Path if moment == "touch" else partial
    original = getattr(owner, moment)

    def interrupted(path: Path, **options: object) -> None:
        if moment == "touch":
            original(path, **options)
        monkeypatch.setattr(owner, moment, original)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, moment, interrupted)
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.txt"):
        raise AssertionError("it was interrupted")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("folder", [False, True])
def test_a_name_that_was_taken_meanwhile_is_left_alone(tmp_path, folder) -> None:
    def fill(path: Path, text: str) -> None:
        (path / "inside" if folder else path).write_text(text)

    for expected in ("a.x", "a-2.x", "a-3.x"):
        made = []
        try:
            with unfinished(tmp_path / "a.x", overwrite=False, folder=folder) as output:
                fill(output.path, expected)
                assert output.is_taken == (expected != "a.x")
        except NameTakenError as error:
            made = [error.message]
        assert made == (
            []
            if expected == "a.x"
            else [
                f"{tmp_path / 'a.x'} was made by somebody else meanwhile, so this one is kept as "
                f"{tmp_path / expected}."
            ]
        )
    for name in ("a.x", "a-2.x", "a-3.x"):
        assert (tmp_path / name / "inside" if folder else tmp_path / name).read_text() == name
    with replacing(tmp_path / "a.x", folder=folder) as path:
        fill(path, "new")
    assert (tmp_path / "a.x" / "inside" if folder else tmp_path / "a.x").read_text() == "new"
    assert names(tmp_path) == {"a.x", "a-2.x", "a-3.x"}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("folder", [False, True])
def test_of_many_that_want_a_name_at_once_one_gets_it(tmp_path, monkeypatch, links, folder) -> None:
    if not links:

        def unsupported(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", unsupported)
    together = threading.Barrier(8)

    def claim(number: int) -> None:
        with temporary_for(tmp_path / "a.x", folder=folder) as path:
            (path / "inside" if folder else path).write_text(str(number))
            together.wait(60)
            give_name(path, tmp_path / "a.x", overwrite=False)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == {"a.x", *(f"a-{number}.x" for number in range(2, 9))}
    texts = {(p / "inside" if folder else p).read_text() for p in tmp_path.iterdir()}
    assert texts == {str(number) for number in range(8)}


def test_an_output_around_one_whose_name_was_taken_is_kept_too(tmp_path) -> None:
    (tmp_path / "b.txt").touch()
    with (
        pytest.raises(NameTakenError, match=r"kept as .*b-2\.txt"),
        replacing(tmp_path / "a.txt", overwrite=False) as outer,
        replacing(tmp_path / "b.txt", overwrite=False) as inner,
    ):
        outer.write_text("outer")
        inner.write_text("inner")
    assert names(tmp_path) == {"a.txt", "b.txt", "b-2.txt"}


def test_a_named_output_grows_and_survives_a_failure(tmp_path) -> None:
    with pytest.raises(InputError), unfinished(tmp_path / "a.txt") as output, output.path.open("w") as file:
        output.name()
        output.name()
        file.write("more")
        raise InputError("it went wrong")
    assert (tmp_path / "a.txt").read_text() == "more" and names(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("force", [False, True])
def test_videos_do_not_take_the_name_of_another(tmp_path, monkeypatch, force) -> None:
    graph, clip, out = write_graph(tmp_path / "m.onnx"), write_clip(tmp_path / "in.mp4"), tmp_path / "o"
    original = video_sink.VideoWriter.write_frame

    def meanwhile(self, *given: object) -> None:
        (out / "in.mp4").write_text("somebody else's")
        original(self, *given)

    monkeypatch.setattr(video_sink.VideoWriter, "write_frame", meanwhile)
    options = ["--force"] if force else []
    for target in (out / "in.mp4", out):  # one file; a batch
        out.mkdir()
        result = CliRunner().invoke(main, ["video", str(graph), str(clip), "-o", str(target), *options])
        made = {p.name for p in out.glob("*.mp4")}
        if force:
            assert result.exit_code == 0 and made == {"in.mp4"}
            assert (out / "in.mp4").stat().st_size > 100
        else:
            assert result.exit_code == (2 if target.suffix else 1)
            assert f"kept as {out / 'in-2.mp4'}" in result.output.replace("\n", "")
            assert made == {"in.mp4", "in-2.mp4"} and not (out / "in.mp4.json").exists()
            assert (out / "in.mp4").read_text() == "somebody else's"
        for path in out.iterdir():
            path.unlink()
        out.rmdir()


def test_pictures_do_not_take_the_name_of_another(tmp_path, monkeypatch) -> None:
    from serve.images import batch as pictures

    graph, out = write_graph(tmp_path / "m.onnx"), tmp_path / "out"
    write_image(tmp_path / "a.png", halves())
    original = pictures.read_image

    def meanwhile(path: Path):
        (out / "labels").mkdir(parents=True, exist_ok=True)
        (out / "labels/a.png").write_text("somebody else's")
        return original(path)

    monkeypatch.setattr(pictures, "read_image", meanwhile)
    arguments = ["image", str(graph), str(tmp_path / "a.png"), "-o", str(out), "--labels"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and "a-2.png" in result.output
    assert (out / "labels/a.png").read_text() == "somebody else's"
    assert names(out / "labels") == {"a.png", "a-2.png"}
    assert CliRunner().invoke(main, [*arguments, "--force"]).exit_code == 0
    assert (out / "labels/a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["video", "image"])
def test_a_command_sweeps_where_it_writes(tmp_path, writer, command) -> None:
    graph, clip = write_graph(tmp_path / "m.onnx"), write_clip(tmp_path / "in.mp4")
    write_image(tmp_path / "in.png", halves())
    out = tmp_path / "out"
    folder = out if command == "video" else out / "labels"
    for killed in [writer(folder / name) for name in ("x.mp4", "x.shares.csv", "in.mp4")]:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    arguments = {
        "video": ["video", graph, clip, "-o", out / "x.mp4"],
        "image": ["image", graph, tmp_path / "in.png", "-o", out, "--labels"],
    }[command]
    assert len(names(folder)) == 3
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exit_code == 0, result.output
    assert names(folder) == {"x.mp4" if command == "video" else "in.png"}


def test_two_processes_with_one_output_keep_both(tmp_path) -> None:
    graph, clip = write_graph(tmp_path / "m.onnx"), write_clip(tmp_path / "in.mp4", times=range(60))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "serve", "video", graph, clip, "-o", out / "x.mp4", "--threads", "1"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=120)[1].decode() for process in running]
    codes = sorted(process.returncode for process in running)
    assert codes == [0, 2], said  # the later one was told, or refused at once
    assert names(out) in ({"x.mp4"}, {"x.mp4", "x-2.mp4"})
    assert "kept as" in "".join(said) or "exists; choose another" in "".join(said)
