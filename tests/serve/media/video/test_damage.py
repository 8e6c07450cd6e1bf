"""Damaged videos: what can be decoded is kept at its time, and what can't is counted and said."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from click.testing import CliRunner
from moving_clips import RATE, join, number_of, ruin, write_moving
from serve_graphs import write_graph

from serve import Segmenter
from serve.batch import cluster
from serve.batch.run import Job
from serve.cli.commands import main
from serve.errors import InputError
from serve.media.video.damage import Damage
from serve.media.video.packets import readable_packets
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection
from serve.video.segment import note, segment_video
from serve.video.settings import Settings

SUFFIXES = (".ts", ".mkv", ".mp4", ".flv", ".mpg", ".avi")

FRAMES = 120

STEP = Fraction(1, RATE)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {suffix: write_moving(folder / f"whole{suffix}", FRAMES) for suffix in SUFFIXES}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.onnx")


def read(path: Path, **selection: Any) -> tuple[list[tuple[int, Fraction]], Damage]:
    """(number, time) of the frames, and the damage."""
    with VideoReader(path, Selection(**selection)) as reader:
        frames = [item for item in reader.items() if isinstance(item, Frame)]
        return [(number_of(f.pixels), f.pts * reader.time_base) for f in frames], reader.damage


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_in_the_middle_is_passed_over_and_counted(tmp_path: Path, clips, suffix: str) -> None:
    whole, none = read(clips[suffix])
    assert [n for n, _ in whole] == list(range(FRAMES)) and not none
    found, damage = read(ruin(clips[suffix], tmp_path / f"in{suffix}"))
    lost = FRAMES - len(found)
    assert 2 < lost < FRAMES // 3
    if suffix == ".avi":  # its index may list one more than there is
        assert damage.lost in (lost, lost + 1)
    else:
        assert damage.lost == lost
    assert damage.cut_off == 0
    # The frames behind the damage, from the next key frame on, are where they were.
    assert [n for n, _ in found[-20:]] == list(range(FRAMES - 20, FRAMES))
    if suffix != ".avi":  # which has no times, but counts
        assert all(abs(a - b) < STEP / 4 for (_, a), (_, b) in zip(found[-20:], whole[-20:], strict=True))
        assert all(abs(a - b) < STEP / 4 for (_, a), (_, b) in zip(found[:40], whole[:40], strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.0005, 0.2])
@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_no_frame_is_lost_without_a_word(tmp_path: Path, clips, suffix: str, share: float, seed: int) -> None:
    damaged = ruin(clips[suffix], tmp_path / f"in{suffix}", begin=0.3 + 0.1 * seed, share=share)
    found, damage = read(damaged)
    assert damage.lost == FRAMES - len(found)


def test_the_summary_the_report_and_the_exit_code_say_it(tmp_path: Path, clips, graph: Path) -> None:
    source = ruin(clips[".mp4"], tmp_path / "in.mp4")
    whole = tmp_path / "whole.ts"
    whole.write_bytes(clips[".ts"].read_bytes())
    runner = CliRunner()
    one = runner.invoke(main, ["video", str(graph), str(source), "-o", str(tmp_path / "out.mp4")])
    found, damage = read(source)
    assert one.exit_code == 1 and f"Wrote {tmp_path / 'out.mp4'}: {len(found)} frames" in one.stdout
    assert f"Damaged: {damage.lost} frames could not be decoded" in one.stdout
    arguments = ["video", str(graph), str(source), str(whole), "-o", str(tmp_path / "out")]
    many = runner.invoke(main, arguments)
    assert many.exit_code == 1 and f"damaged: {damage.lost} frames could not" in many.stdout
    assert "2 done and 1 damaged (see the notes)" in many.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    told = {Path(each["source"]).name: each["video"]["damage"] for each in report["files"]}
    assert told["in.mp4"] == {"lost": damage.lost, "flawed": damage.flawed, "cut_off": 0.0, "unread": 0}
    assert told["whole.ts"]["lost"] == 0
    fine = runner.invoke(main, ["video", str(graph), str(whole), "-o", str(tmp_path / "fine.mp4")])
    assert fine.exit_code == 0 and "amaged" not in fine.stdout


@pytest.mark.parametrize("suffix", [".mkv", ".flv", ".mp4", ".avi", ".ts"])
def test_a_clip_cut_off_by_a_power_loss_is_kept_up_to_there(tmp_path: Path, clips, suffix: str) -> None:
    data = clips[suffix].read_bytes()
    (tmp_path / f"in{suffix}").write_bytes(data[: len(data) * 2 // 3])
    found, damage = read(tmp_path / f"in{suffix}")
    assert 60 < len(found) < 100
    assert [n for n, _ in found[:60]] == list(range(60))
    if suffix != ".ts":  # which says nowhere how long it is
        assert abs(damage.cut_off - (FRAMES - len(found)) / RATE) < 0.3
        assert "the last 1." in str(damage)


def test_a_few_frames_cut_off_an_mp4_are_counted(tmp_path: Path, clips) -> None:
    data = clips[".mp4"].read_bytes()
    (tmp_path / "in.mp4").write_bytes(data[: len(data) - len(data) // 20])
    found, damage = read(tmp_path / "in.mp4")
    assert damage.cut_off == 0 and damage.lost >= FRAMES - len(found) > 0


def test_a_file_of_which_nothing_can_be_decoded_is_refused(tmp_path: Path, clips, graph: Path) -> None:
    data = clips[".mp4"].read_bytes()
    source = ruin(clips[".mp4"], tmp_path / "in.mp4", begin=data.find(b"mdat") / len(data) + 0.001, share=1)
    source.write_bytes(source.read_bytes()[: len(data)])
    out = tmp_path / "out.mp4"
    result = CliRunner().invoke(main, ["video", str(graph), str(source), "-o", str(out)])
    assert result.exit_code == 2 and not out.exists()
    assert f"{source} has a video stream but no frame that can be decoded (damaged: 11" in result.stderr


@pytest.mark.parametrize("suffix", [".mp4", ".flv"])
def test_clips_joined_where_only_the_first_can_be_read(tmp_path: Path, clips, suffix: str) -> None:
    found, damage = read(join(tmp_path / f"in{suffix}", clips[suffix], clips[suffix]))
    assert len(found) == FRAMES and "are another clip" in str(damage)
    assert abs(damage.unread - clips[suffix].stat().st_size) < 100


def test_a_recording_that_begins_between_two_key_frames_is_not_damaged(tmp_path: Path, clips) -> None:
    data = clips[".ts"].read_bytes()
    (tmp_path / "in.ts").write_bytes(data[188 * 63 :])
    found, damage = read(tmp_path / "in.ts")
    assert [n for n, _ in found] == list(range(FRAMES - len(found), FRAMES)) and not damage


@pytest.mark.parametrize(("suffix", "counts"), [(".ts", False), (".mp4", True)])
def test_what_fails_before_the_first_frame(tmp_path: Path, clips, monkeypatch, suffix, counts) -> None:
    """Where a recording may begin anywhere, the decoder has to wait for a key frame."""
    original = VideoReader._decoded
    failures = [av.error.InvalidDataError(1, "no")] * 3

    def failing(self: VideoReader, packet: Any) -> Any:
        if failures:
            error = failures.pop()
            stand_in = SimpleNamespace(pts=packet.pts, time_base=packet.time_base, size=packet.size)
            stand_in.decode = lambda: (_ for _ in ()).throw(error)
            return original(self, stand_in)
        return original(self, packet)

    monkeypatch.setattr(VideoReader, "_decoded", failing)
    found, damage = read(clips[suffix])
    assert len(found) < FRAMES and bool(damage.lost) == counts


def test_damage_outside_of_the_part_does_not_count(tmp_path: Path, clips) -> None:
    for suffix in (".ts", ".mp4", ".mkv", ".avi"):
        source = ruin(clips[suffix], tmp_path / f"in{suffix}")
        before, early = read(source, end=Fraction(1))
        assert [n for n, _ in before] == list(range(len(before))) and not early
        after, late = read(source, start=Fraction(4))
        assert after and not late


def test_a_truncated_video_is_no_matter_where_the_part_ends_before(tmp_path: Path, clips) -> None:
    data = clips[".mkv"].read_bytes()
    (tmp_path / "in.mkv").write_bytes(data[: len(data) * 2 // 3])
    assert not read(tmp_path / "in.mkv", end=Fraction(1))[1]
    assert read(tmp_path / "in.mkv", end=Fraction(9))[1].cut_off > 1


def test_sound_goes_on_behind_the_damage(tmp_path: Path, clips, graph: Path) -> None:
    source = ruin(clips[".mkv"], tmp_path / "in.mkv")
    segment_video(Segmenter(graph, threads=1), source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = [p.pts * p.time_base for p in container.demux(audio=0) if p.pts is not None]
    assert abs(sound[-1] - FRAMES * STEP) < Fraction(1, 10)


def test_a_failing_disk_is_not_taken_for_damage() -> None:
    class Failing:
        def demux(self) -> Any:
            raise av.error.OSError(5, "Input/output error")

    with pytest.raises(av.error.FFmpegError):
        list(readable_packets(Failing()))


def test_a_reader_that_fails_for_ever_comes_to_an_end() -> None:
    signs = []

    class Failing:
        def demux(self) -> Any:
            raise av.error.InvalidDataError(1, "no")

    assert list(readable_packets(Failing(), lambda: signs.append(1))) == [] and len(signs) == 100


def test_a_disk_that_fails_midway_is_said(tmp_path: Path, clips, monkeypatch) -> None:
    def fail(*_: Any) -> Any:
        raise av.error.OSError(5, "Input/output error")

    with VideoReader(clips[".mkv"]) as reader:
        items = reader.items()
        next(items)
        monkeypatch.setattr(reader, "_take_video", fail)
        with pytest.raises(InputError, match=r"can't be read any further \(Input/output error\)"):
            list(items)


def test_segments_of_a_damaged_video_are_done_in_one_piece(
    tmp_path: Path, clips, graph: Path, monkeypatch
) -> None:
    """On a cluster: other frames can be decoded from a key frame on than from the start."""
    source = ruin(clips[".mkv"], tmp_path / "in.mkv")
    segmenter = Segmenter(graph, threads=1)
    monkeypatch.setattr(cluster, "_open", lambda _: segmenter)
    labelled = segment_video(segmenter, source, tmp_path / "part.mkv", output="labels")
    assert labelled.damage
    job = Job(source, tmp_path / "out.mp4", {"source": {}}, False)
    missing = [tmp_path / "there is none.mkv"]
    made = cluster.finish(SimpleNamespace(), job, Settings(), missing, labelled)  # type: ignore[arg-type]
    assert not isinstance(made, str) and made.damage == labelled.damage and "damaged" in note(made)
    whole = replace(labelled, damage=Damage())
    with pytest.raises(FileNotFoundError):
        cluster.finish(SimpleNamespace(), job, Settings(), missing, whole)  # type: ignore[arg-type]


def test_key_frames_of_a_damaged_video_are_found(tmp_path: Path, clips) -> None:
    for suffix in (".ts", ".mkv", ".mp4"):
        parts = cluster.segments(ruin(clips[suffix], tmp_path / f"in{suffix}"), Selection(), Fraction(1))
        assert len(parts) >= 3


def test_a_file_of_unknown_origin_is_read_in_the_formats_that_are_allowed(tmp_path: Path, clips) -> None:
    with VideoReader(clips[".mkv"], formats="mov,matroska") as reader:
        assert reader.size == (96, 128)
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{clips['.ts']}\n#EXT-X-ENDLIST\n"
    )
    with VideoReader(tmp_path / "list.m3u8") as reader:
        assert reader.size == (96, 128)
    for path in (tmp_path / "list.m3u8", clips[".ts"]):
        with pytest.raises(InputError, match="can't be opened as a video"):
            VideoReader(path, formats="mov,matroska")
    with pytest.raises(InputError, match="can't be opened"):
        VideoReader(tmp_path / "list.m3u8", Selection(start=Fraction(1)), formats="mov,mpegts")
