"""SIGTERM and Ctrl-C end a recording at once and keep it."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from live_sources import Take, camera
from recordings import names, recording, times, until

from serve.video import sink as video_sink
from serve.video.segment import segment_video


def boxes(path: Path) -> list[bytes]:
    """The kinds of an mp4's outermost parts."""
    data, kinds, position = path.read_bytes(), [], 0
    while position < len(data):
        kinds.append(data[position + 4 : position + 8])
        position += int.from_bytes(data[position : position + 4]) or len(data)
    return kinds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_recording_and_keeps_it(graph, tmp_path, streams, number) -> None:
    out = tmp_path / "out" / "live.mp4"
    with (
        camera(Take(streams["long"], 60)) as source,
        recording(graph, source, "-o", out, "--shares") as running,
    ):
        assert until(out.exists), "it has its name while it grows"
        running.send_signal(number)
        said, complaint = running.communicate(timeout=60)
    assert running.returncode == 0, complaint
    shown = times(out)
    assert f"Wrote {out}: {len(shown)} frames" in said and shown[-1] > 0.3
    assert boxes(out)[-1] == b"moov" and b"moof" not in boxes(out)  # an ordinary mp4
    assert names(out.parent) == {"live.mp4", "live.shares.csv"}
    assert len((out.parent / "live.shares.csv").read_text().splitlines()) == len(shown) + 1


def test_the_first_process_of_a_container_obeys_sigterm(graph, tmp_path, streams) -> None:
    alone = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces for processes here")
    out = tmp_path / "live.mp4"
    with (
        camera(Take(streams["long"], 60)) as source,
        recording(graph, source, "-o", out, before=alone) as running,
    ):
        assert until(out.exists)
        (inside,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        own = next(
            line for line in Path(f"/proc/{inside}/status").read_text().splitlines() if "NSpid" in line
        )
        assert own.split()[-1] == "1"
        os.kill(int(inside), signal.SIGTERM)
        said, complaint = running.communicate(timeout=60)
    assert running.returncode == 0, complaint
    assert f"Wrote {out}: {len(times(out))} frames" in said


def test_sigterm_ends_other_commands_as_ctrl_c_does(graph, tmp_path, streams) -> None:
    (tmp_path / "in.ts").write_bytes(streams["long"])
    results = []
    for number in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / f"{number}.mp4"
        with recording(graph, tmp_path / "in.ts", "-o", out, "--preset", "veryslow") as running:
            assert until(lambda: any(path.stat().st_size for path in tmp_path.glob(".*.partial.mp4")))
            running.send_signal(number)
            said, complaint = running.communicate(timeout=60)
        results.append((running.returncode, said, complaint.splitlines()[-1]))
        assert names(tmp_path) == {"in.ts"}
    assert results[0] == results[1] == (1, "", "Aborted!")


def test_ctrl_c_keeps_what_a_camera_sent(tmp_path, segmenter, streams, monkeypatch) -> None:
    original = video_sink.VideoWriter.write_frame
    calls = []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, *args)

    monkeypatch.setattr(video_sink.VideoWriter, "write_frame", interrupted)
    with camera(Take(streams["first"], 0.5, silent=60)) as source:
        report = segment_video(segmenter, source, tmp_path / "out.mp4")
    assert report.interrupted
    assert len(times(tmp_path / "out.mp4")) == report.frames == 5  # the one in hand is finished


def test_a_silent_camera_does_not_delay_the_end(graph, tmp_path, streams) -> None:
    """Docker waits for ten seconds; a read of a silent stream takes fifteen."""
    out = tmp_path / "live.mp4"
    with (
        camera(Take(streams["first"], 1, silent=120)) as source,
        recording(graph, source, "-o", out) as running,
    ):
        assert until(out.exists)
        time.sleep(1.5)  # all is said, and the reader waits for more
        begin = time.monotonic()
        running.send_signal(signal.SIGTERM)
        said, complaint = running.communicate(timeout=60)
    assert running.returncode == 0 and time.monotonic() - begin < 10, complaint
    assert f"Wrote {out}: {len(times(out))} frames" in said


def test_an_interruption_ends_a_batch_after_the_recording(graph, tmp_path, streams) -> None:
    (tmp_path / "later.ts").write_bytes(streams["first"])
    out = tmp_path / "out"
    with camera(Take(streams["long"], 60)) as source:
        listed = tmp_path / "list.txt"
        listed.write_text(f"{source}\n")
        with recording(graph, source, source.replace("127.0.0.1", "localhost"), "-o", out) as running:
            assert until(lambda: bool(list(out.glob("127*.mp4"))))
            running.send_signal(signal.SIGTERM)
            _, complaint = running.communicate(timeout=60)
    assert running.returncode == 1 and complaint.endswith("Aborted!\n")
    files = json.loads((out / "report.json").read_text())["files"]
    assert [file["status"] for file in files] == ["done", "not reached"]
    assert files[0]["video"]["interrupted"] and len(times(Path(files[0]["output"]))) > 0


def test_a_signal_ends_the_waiting_at_once(graph, tmp_path, streams) -> None:
    out = tmp_path / "live.mp4"
    with (
        camera(Take(streams["first"], 0.5)) as source,
        recording(graph, source, "-o", out, "--reconnect", "1000") as running,
    ):
        for line in running.stderr:
            if "trying for 1000 s" in line:
                break
        time.sleep(1.6)  # it has tried twice, and now it waits for two seconds, or four
        begin = time.monotonic()
        running.send_signal(signal.SIGTERM)
        said, complaint = running.communicate(timeout=60)
    assert running.returncode == 0 and time.monotonic() - begin < 10, complaint
    assert f"Wrote {out}: {len(times(out))} frames" in said
