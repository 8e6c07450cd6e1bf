"""Cameras and streams: recorded until they end or are told to, under a name of their own."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner
from live_sources import Take, camera, write_stream
from recordings import names, times

from serve.cli.commands import main
from serve.media.whole import NameTakenError
from serve.video.segment import note, segment_video


def test_live_sound_is_kept_and_in_time(tmp_path, segmenter, streams) -> None:
    for codec in ("aac", "ac3", "mp2"):
        data = write_stream(tmp_path / "in.ts", 75, sound=codec)
        with camera(Take(data, 1)) as source:
            report = segment_video(segmenter, source, tmp_path / "out.mp4", reconnect=0)
        heard = times(tmp_path / "out.mp4", "audio")
        assert report.audio_streams == 1
        assert heard[0] < 0.1 and abs(heard[-1] - times(tmp_path / "out.mp4")[-1]) < 0.3


def test_a_camera_is_recorded_until_it_hangs_up(tmp_path, segmenter, streams) -> None:
    with camera(Take(streams["first"], 0.5)) as source:
        report = segment_video(segmenter, source, tmp_path / "out.mp4", output="colors", reconnect=0)
    assert len(times(tmp_path / "out.mp4")) == report.frames
    assert report.frames + report.dropped >= 48  # libav may lack the last ones when the line is cut
    assert note(report).endswith("the stream broke off: the other side hung up")


def test_a_recording_does_not_take_the_name_of_another(tmp_path, segmenter, streams, capsys) -> None:
    out = tmp_path / "live.mp4"
    began: list[Path] = []

    def meanwhile() -> None:
        if not began:  # with its first frame, it is too early for its name
            out.write_text("somebody else's")
        began.append(out)

    sentence = f"{out} was made by somebody else meanwhile, so this one is kept as {tmp_path / 'live-2.mp4'}."
    signed: list[object] = []
    with camera(Take(streams["first"], 1)) as source, pytest.raises(NameTakenError) as caught:
        segment_video(
            segmenter,
            source,
            out,
            overwrite=False,
            reconnect=0,
            shares="csv",
            on_frame=meanwhile,
            before_naming=lambda *made: signed.append(made),
        )
    assert caught.value.message == sentence and not signed
    assert sentence in capsys.readouterr().err  # at once, as it may go on for long
    assert out.read_text() == "somebody else's" and len(times(tmp_path / "live-2.mp4")) == len(began)
    assert names(tmp_path) == {"live.mp4", "live-2.mp4", "live.shares.csv"}


def test_a_failure_leaves_what_was_recorded(tmp_path, segmenter, streams) -> None:
    def fail() -> None:
        if (tmp_path / "live.mp4").exists():
            raise OSError(28, "No space left on device")

    with camera(Take(streams["first"], 2)) as source, pytest.raises(OSError, match="No space left"):
        segment_video(segmenter, source, tmp_path / "live.mp4", reconnect=0, on_frame=fail)
    assert times(tmp_path / "live.mp4")


def test_a_camera_that_is_not_there_leaves_nothing(tmp_path, graph) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    arguments = ["video", graph, f"tcp://127.0.0.1:{port}", "-o", tmp_path / "out.mp4"]
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exit_code == 2 and "check the address" in result.stderr
    assert names(tmp_path) == set()
