"""Files whose times jump, wrap around, or begin below zero: the video goes on, picture and sound together."""

import re
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from clips import make_video
from moving_clips import RATE, join, number_of, write_moving
from serve_graphs import write_graph

from serve import Segmenter
from serve.batch.cluster import segments
from serve.media.video.packets import from_key_frame
from serve.media.video.reader import Frame, VideoReader
from serve.media.video.source import Selection
from serve.media.video.times import RunningTime
from serve.video.segment import segment_video

STEP = Fraction(1, RATE)
WRAP = Fraction(2**33, 90000)
HOURS = Fraction(5 * 3600)
TICK = Fraction(1, 900)  # what times may differ by: a tick of a millisecond clock, and a bit


class Read:
    """All that a reader gives."""

    def __init__(self, path: Path, **selection: Any) -> None:
        with VideoReader(path, Selection(**selection)) as reader:
            self.expected = reader.frames
            items = list(reader.items())
            frames = [item for item in items if isinstance(item, Frame)]
            self.numbers = [number_of(frame.pixels) for frame in frames]
            self.times = [frame.pts * reader.time_base for frame in frames]
            self.sound = [item.dts * item.time_base for item in items if not isinstance(item, Frame)]
            self.frames, self.damage, self.remarks = reader.frames, reader.damage, reader.remarks

    def lags(self, parts: int) -> list[Fraction]:
        """From a part's first frame to its sound, for each of so many parts of equal length."""
        pictures, sounds = len(self.times) // parts, len(self.sound) // parts
        return [self.sound[n * sounds] - self.times[n * pictures] for n in range(parts)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three seconds each: on several clocks, in several formats."""
    folder = tmp_path_factory.mktemp("clips")
    begins = {"plain": 0, "late": HOURS, "wrap": WRAP - Fraction(3, 2)}
    made = {name: write_moving(folder / f"{name}.ts", begin=begin) for name, begin in begins.items()}
    return made | {suffix: write_moving(folder / f"plain{suffix}") for suffix in (".mkv", ".mpg")}


@pytest.mark.parametrize(
    "parts",
    [
        ["plain", "plain"],
        ["plain", "late"],  # hours ahead
        ["late", "plain"],  # hours back, which libav takes for a wrap
        ["wrap"],
        ["plain", "wrap"],  # a wrap in the middle
        ["wrap", "plain"],
        ["plain", "plain", "late", "plain"],
        [".mkv", ".mkv"],
        [".mpg", ".mpg"],
    ],
    ids="+".join,
)
def test_joined_clips_play_one_after_the_other(tmp_path: Path, clips, parts: list[str]) -> None:
    source = join(tmp_path / f"in{clips[parts[0]].suffix}", *(clips[part] for part in parts))
    found = Read(source)
    assert found.numbers == list(range(72)) * len(parts)
    steps = [later - earlier for earlier, later in pairwise(found.times)]
    assert all(abs(step - STEP) < TICK for i, step in enumerate(steps) if (i + 1) % 72)
    # At a joint, the sound of the clip before is let to its end.
    assert all(STEP - TICK < steps[i] < 3 * STEP for i in range(71, len(steps), 72))
    assert all(a < b for a, b in pairwise(found.sound))
    for lag, part in zip(found.lags(len(parts)), parts, strict=True):
        assert abs(lag - Read(clips[part]).lags(1)[0]) < TICK
    assert abs(found.frames - len(found.times)) < 6
    assert not found.damage
    jumps = len(parts) - 1
    assert [re.findall(r"jump at (\d+) place", said) for said in found.remarks] == [[str(jumps)]] * (
        jumps > 0
    )


def test_joined_clips_keep_their_times_and_sound_in_the_output(tmp_path: Path, clips) -> None:
    source = join(tmp_path / "in.ts", clips["plain"], clips["late"])
    segmenter = Segmenter(write_graph(tmp_path / "m.onnx"), threads=1)
    report = segment_video(segmenter, source, tmp_path / "out.mp4")
    assert report.frames == 144 and "jump at 1 place" in report.remarks[0]
    given = Read(source)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
    assert [t - times[0] for t in times] == [t - given.times[0] for t in given.times]
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = [p.pts * p.time_base for p in container.demux(audio=0) if p.pts is not None]
    assert len(sound) == len(given.sound)
    lag = sound[0] - times[0] - (given.sound[0] - given.times[0])
    assert abs(lag) < TICK
    assert all(
        abs(a - b - lag + given.times[0] - times[0]) < TICK for a, b in zip(sound, given.sound, strict=True)
    )


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
@pytest.mark.parametrize(
    ("start", "end", "every"), [("1.3", "1.9", 1), ("2.9", "3.3", 1), ("4.02", None, 1), ("0.5", "5.5", 7)]
)
def test_a_part_of_joined_clips(tmp_path: Path, clips, suffix: str, start: str, end, every: int) -> None:
    clip = clips["plain" if suffix == ".ts" else suffix]
    source = join(tmp_path / f"in{suffix}", clip, clip)
    part: dict[str, Any] = {"start": Fraction(start), "end": None if end is None else Fraction(end)}
    whole, found = Read(source), Read(source, **part, every=every)
    kept = [i for i, time in enumerate(whole.times) if Selection(**part).holds(time)][::every]
    assert found.numbers == [whole.numbers[i] for i in kept]
    for place, time in zip(kept, found.times, strict=True):
        assert abs(time + part["start"] - whole.times[place]) < TICK
    assert not found.damage
    ear = [t for t in whole.sound if Selection(**part).holds(t)]
    assert len(found.sound) == len(ear) and abs(found.sound[0] + part["start"] - ear[0]) < TICK


def test_segments_of_joined_clips_add_up(tmp_path: Path, clips) -> None:
    source = join(tmp_path / "in.ts", clips["plain"], clips["plain"])
    parts = segments(source, Selection(), Fraction(2))
    assert len(parts) > 2 and [p.end for p in parts[:-1]] == [p.start for p in parts[1:]]
    found = [number for p in parts for number in Read(source, start=p.start, end=p.end).numbers]
    assert found == list(range(72)) * 2


def test_a_short_gap_stays_and_a_long_one_is_closed_where_clocks_are_set_anew(tmp_path: Path) -> None:
    for gap, expected in ((Fraction(20), Fraction(20)), (Fraction(120), Fraction(0))):
        found = Read(write_moving(tmp_path / "in.ts", 48, skip={24: gap}))
        assert found.numbers == list(range(48))
        step = found.times[24] - found.times[23]
        assert expected < step < expected + 3 * STEP


def test_frames_out_of_order_at_a_frame_per_second_are_no_jump(tmp_path: Path) -> None:
    """Matroska gives the first ones no place in the order of decoding, and they lie seconds apart."""
    with VideoReader(make_video(tmp_path / "slow.mkv", count=20, rate=1)) as reader:
        times = [frame.pts * reader.time_base for frame in reader.items()]
        assert times == list(range(20)) and not reader.remarks


def test_a_gap_of_hours_that_matroska_recorded_stays(tmp_path: Path) -> None:
    found = Read(write_moving(tmp_path / "in.mkv", 48, skip={24: HOURS}))
    assert abs(found.times[24] - found.times[23] - HOURS - STEP) < TICK and not found.remarks


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("begin", ["-2", "-0.125", "-20"])
def test_matroska_that_begins_below_zero(tmp_path: Path, begin: str, b_frames: int, sound: bool) -> None:
    source = write_moving(tmp_path / "in.mkv", begin=Fraction(begin), b_frames=b_frames, sound=sound)
    found = Read(source)
    assert found.numbers == list(range(72))
    assert all(abs(time - n * STEP - found.times[0]) < 2 * TICK for n, time in enumerate(found.times))
    assert abs(found.times[0]) < Fraction(1, 20)
    assert found.frames is None or abs(found.frames - 72) < 3
    if sound and begin != "-20":
        assert abs(found.lags(1)[0] + Fraction(1024, 48000)) < Fraction(1, 100)
        assert all(Fraction(1, 50) < b - a < Fraction(1, 40) for a, b in pairwise(found.sound))
    if begin != "-20":  # where no frame at all has a time, none can be looked for
        late = Read(source, start=Fraction(3, 2))
        assert late.numbers == list(range(36, 72)) or late.numbers == list(range(35, 72))


@pytest.mark.parametrize("begin", [Fraction(-1), Fraction(7)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_clock_that_starts_elsewhere(tmp_path: Path, suffix: str, begin: Fraction) -> None:
    """As players do: MP4 leaves out what its edit list says comes before the start."""
    found = Read(write_moving(tmp_path / f"in{suffix}", begin=begin))
    cut = 24 if suffix == ".mp4" and begin < 0 else 0
    assert found.numbers == list(range(cut, 72))
    assert all(abs(time - n * STEP - found.times[0]) < 2 * TICK for n, time in enumerate(found.times))
    assert not found.damage


def packet(stream: int, pts: int | None, dts: int | None = -1, *, duration: int = 1, size: int = 9) -> Any:
    return SimpleNamespace(
        stream=SimpleNamespace(index=stream),
        pts=pts,
        dts=pts if dts == -1 else dts,
        duration=duration,
        time_base=Fraction(1),
        size=size,
    )


def running(packets: Iterable[Any], *, resets: bool = True) -> tuple[list[tuple[int, Any]], int]:
    times = RunningTime(Fraction(0), step=Fraction(0), resets=resets)
    return [(p.stream.index, p.pts) for p in times.packets(packets)], times.jumps


def test_a_late_packet_of_the_part_before_stays_there() -> None:
    given = [
        packet(0, 8),
        packet(1, 8),
        packet(0, 9),
        packet(1, 0),
        packet(0, 10),
        packet(0, 0),
        packet(1, 1),
    ]
    found, jumps = running([packet(0, 0), packet(1, 0), *given])
    assert jumps == 1
    assert [t for s, t in found if s == 0] == [0, 8, 9, 10, 11]
    assert [t for s, t in found if s == 1] == [0, 8, 11, 12]


def test_the_offset_lets_no_stream_overlap() -> None:
    """The second stream reaches further than the first, and begins first in the new part."""
    given = [packet(0, 9), packet(1, 9, duration=4), packet(0, 3), packet(1, 2), packet(0, 4), packet(1, 3)]
    found, _ = running([packet(0, 0), packet(1, 0), *given])
    assert found[4:] == [(0, 14), (1, 13), (0, 15), (1, 14)]


def test_a_stream_that_is_missing_after_a_jump_holds_nothing_up() -> None:
    given = [packet(0, 9), packet(1, 9), packet(0, 0), packet(0, 1), packet(0, 2)]
    found, jumps = running([packet(0, 0), packet(1, 0), *given])
    assert jumps == 1 and [t for s, t in found if s == 0] == [0, 9, 10, 11, 12]


def test_frames_out_of_order_are_no_jump_and_packets_without_times_pass() -> None:
    order = [packet(0, 0, 0), packet(0, 3, 1), packet(0, 1, 2), packet(0, None, None), packet(0, 2, 3)]
    end = packet(0, None, None, size=0)
    assert running([*order, end]) == ([(0, 0), (0, 3), (0, 1), (0, None), (0, 2), (0, None)], 0)


@pytest.mark.parametrize(("resets", "jumps"), [(True, 1), (False, 0)])
def test_only_a_clock_that_may_be_set_anew_leaps_ahead(resets: bool, jumps: int) -> None:
    given = [packet(0, 0), packet(0, 1), packet(0, 5000), packet(0, 5001)]
    found, seen = running(given, resets=resets)
    assert seen == jumps and [t for _, t in found] == ([0, 1, 2, 3] if resets else [0, 1, 5000, 5001])


def test_a_clock_that_wraps_amid_frames_out_of_order_goes_on() -> None:
    """As the 33 bits do: the frame shown at the wrap comes before those shown just before it."""
    turn = 2**33
    given = [(turn - 3, turn - 4), (turn + 1, turn - 3), (turn - 2, turn - 2), (turn - 1, turn - 1), (0, 0)]
    after = [(5, 1), (2, 2), (3, 3)]
    found, jumps = running([packet(0, pts, dts) for pts, dts in [*given, *after]])
    assert jumps == 0
    assert [t - turn for _, t in found] == [-3, 1, -2, -1, 0, 5, 2, 3]


def test_a_frame_whose_own_time_wraps_before_that_of_decoding() -> None:
    found, _ = running([packet(0, 2**33 - 2), packet(0, 2, 2**33 - 1), packet(0, 0, 0)])
    assert [t - 2**33 for _, t in found] == [-2, 2, 0]


def test_what_lies_before_the_last_key_frame_of_a_part_is_not_decoded() -> None:
    video, sound = SimpleNamespace(index=0), SimpleNamespace(index=1)

    def given(stream: Any, pts: int, key: bool = False) -> Any:
        return SimpleNamespace(stream=stream, pts=pts, time_base=Fraction(1), is_keyframe=key)

    packets = [given(video, n, key=n % 4 == 0) for n in range(12)]
    packets.insert(3, given(sound, 2))

    def left(start: int) -> list[int]:
        return [p.pts for p in from_key_frame(packets, video, Fraction(start)) if p.stream is video]

    assert left(6) == list(range(4, 12)) and left(8) == list(range(8, 12)) and left(0) == list(range(12))
    assert left(99) == list(range(8, 12))
    assert sum(p.stream is sound for p in from_key_frame(packets, video, Fraction(6))) == 1


def test_one_stream_may_pause_while_another_goes_on() -> None:
    """As pictures of a talk do: no jump, however long."""
    pictures = [packet(0, 0), packet(0, 300)]
    sound = [packet(1, t) for t in range(0, 300, 30)]
    found, jumps = running([pictures[0], *sound, pictures[1]])
    assert jumps == 0 and found[-1] == (0, 300)
