"""Numbered pictures as the frames of a video, and webcams by their number."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from serve_graphs import halves, write_clip, write_graph

from serve import Segmenter
from serve.batch.inputs import find_videos, stem
from serve.cli.commands import main
from serve.errors import InputError
from serve.media.series import FrameSeries, in_order
from serve.media.video.series_reader import SeriesReader
from serve.media.video.source import Selection, listed_frames, open_container, to_address
from serve.video.segment import segment_video

SIZE = (48, 64)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("graph") / "model.onnx")


def write_pictures(folder: Path, names: list[str], size: tuple[int, int] = SIZE) -> list[Path]:
    """Grey pictures, the first of which is black, each 10 lighter than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in names]
    for number, file in enumerate(files):
        assert cv2.imwrite(str(file), np.full((*size, 3), 10 * number, np.uint8))
    return files


def read(series: FrameSeries, **selection: Any) -> list[tuple[int, Fraction]]:
    """(number of the picture as written, time) of each frame."""
    with SeriesReader(series, Selection(**selection)) as reader:
        return [(round(f.pixels.mean() / 10), f.pts * reader.time_base) for f in reader.items()]


def serve(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["video", *map(str, arguments)])


def test_numbers_are_in_their_natural_order(tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "cam", [f"view_{n}.png" for n in range(1, 13)])
    series = in_order(reversed(files), Fraction(10))
    assert series.name == "cam" and list(series.files) == files and not series.missing
    assert read(series) == [(n, Fraction(n, 10)) for n in range(12)]


@pytest.mark.parametrize(
    ("names", "places", "missing"),
    [
        (["1", "2", "5", "6"], [0, 1, 4, 5], 2),
        (["000000", "000005", "000010", "000020"], [0, 1, 2, 4], 1),
        (["f_7_a", "f_8_a", "f_10_a"], [0, 1, 3], 1),
        (["1700000000033", "1700000000066", "1700000000100"], [0, 1, 2], 0),  # times, no counts
        (["2024_1", "2024_2", "2025_1"], [0, 1, 2], 0),
        (["b", "a", "c"], [0, 1, 2], 0),
        (["only"], [0], 0),
        (["9"], [0], 0),
    ],
)
def test_the_place_of_each_picture(names: list[str], places: list[int], missing: int) -> None:
    series = in_order(Path(f"{name}.png") for name in names)
    assert list(series.places) == places and series.missing == missing


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1.png", "2.png", "1.jpg"], "1 .jpg and 2 .png pictures"),
        (["left_1.png", "left_2.png", "right_1.png"], "have the same number"),
        (["1.png", "01.png"], "have the same number"),
    ],
)
def test_what_is_no_single_series_is_refused(tmp_path: Path, names: list[str], words: str) -> None:
    write_pictures(tmp_path / "x", names)
    with pytest.raises(InputError, match=f"{words}.* give a quoted pattern"):
        find_videos([str(tmp_path / "x")])


def test_what_an_input_means(tmp_path: Path) -> None:
    frames = write_pictures(tmp_path / "frames", ["1.png", "2.png", "10.png", "a.png"])
    more = write_pictures(tmp_path / "root" / "b", ["1.jpg"]) + write_pictures(
        tmp_path / "root" / "c", ["1.jpg"]
    )
    (tmp_path / "frames" / "._1.png").write_bytes(b"what macOS leaves")
    write_pictures(tmp_path / "clips", ["cover.jpg"])
    clip = write_clip(tmp_path / "clips" / "clip.mp4")
    said: list[str] = []

    def find(*inputs: object) -> list[list[Path]]:
        found = find_videos([str(each) for each in inputs], say=said.append)
        return [list(each.files) if isinstance(each, FrameSeries) else [each] for each in found]  # type: ignore[list-item]

    assert find(tmp_path / "frames" / "*.png") == [frames]
    assert find(tmp_path / "frames") == [frames]
    assert find(tmp_path / "frames" / "%d.png") == [frames[:3]]
    assert find(tmp_path / "frames" / "%02d.png") == [frames[2:3]]
    assert find(*frames) == [frames]  # as a shell expands a pattern
    assert find(tmp_path / "root") == [more[:1], more[1:]] == find(tmp_path / "root" / "*" / "*.jpg")
    assert not said
    assert find(tmp_path / "clips", tmp_path / "frames") == [[clip], frames]
    assert said == [f"{tmp_path / 'clips'} holds videos, so its 1 picture(s) are passed over."]
    assert find(tmp_path / "clips" / "*") == [[clip]] and len(said) == 2
    assert find(tmp_path) == [frames]
    assert said[2] == f"{tmp_path} holds folders of pictures; those with videos are passed over: clips."
    for nothing in ("nothing/%d.png", "frames/%05d.jpg", "frames/*.tif", "root/d"):
        with pytest.raises(InputError, match="holds no video"):
            find_videos([str(tmp_path / nothing)])
    assert [stem(each) for each in find_videos([str(tmp_path / "root")])] == ["b", "c"]


def test_a_rate_without_pictures_is_refused(tmp_path: Path, graph: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    result = serve(graph, clip, "-o", tmp_path / "out.mp4", "--fps", 30)
    assert result.exit_code == 2 and "--fps is for numbered pictures" in result.stderr
    for rate in ("0", "-3", "fast", "1/0", "inf"):
        result = serve(graph, clip, "-o", tmp_path / "out.mp4", "--fps", rate)
        assert result.exit_code == 2 and "is no rate; give frames per second" in result.stderr


@pytest.mark.parametrize(("given", "rate"), [("30000/1001", Fraction(30000, 1001)), (None, Fraction(25))])
def test_a_folder_of_frames_becomes_a_video(tmp_path: Path, graph: Path, given, rate: Fraction) -> None:
    for number in range(8):
        path = tmp_path / "cam.1" / f"{number:06d}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), halves(*SIZE)[..., ::-1])
    rated = [] if given is None else ["--fps", given]
    result = serve(graph, tmp_path / "cam.1", "-o", tmp_path / "out.mp4", "--output", "colors", *rated)
    assert result.exit_code == 0, result.output
    assert ("25 frames per second, as --fps was not given" in result.stdout) == (given is None)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert [f.pts * stream.time_base for f in frames] == [n / rate for n in range(8)]
        assert container.duration == round(8 / rate * 1_000_000)
        picture = frames[3].to_ndarray(format="rgb24")
    assert picture[:, :28].argmax(2).max() == 0 and picture[:, 36:].argmax(2).min() == 1
    many = serve(graph, tmp_path / "cam.1", "-o", tmp_path / "out", *rated)
    assert many.exit_code == 0 and (tmp_path / "out" / "cam.1.mp4").is_file()


def test_parts_of_a_series(tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "x", [f"{n}.png" for n in range(12)])
    series = in_order(files, Fraction(10))
    assert read(series, start=Fraction(3, 10), end=Fraction(8, 10)) == [
        (n, Fraction(n - 3, 10)) for n in range(3, 8)
    ]
    assert read(series, every=5) == [(n, Fraction(n, 10)) for n in (0, 5, 10)]
    assert listed_frames(series, Selection(every=5)) == 3
    assert listed_frames(series, Selection(start=Fraction(1, 2))) == 7
    with SeriesReader(series, Selection(max_size=16, every=5)) as reader:
        assert reader.size == (12, 16) and reader.frames == 3 and reader.rate == 2
        assert {f.pixels.shape for f in reader.items()} == {(12, 16, 3)}
    with pytest.raises(InputError, match="no frame in the part asked for"):
        read(series, start=Fraction(2))


def test_a_missing_number_leaves_its_time_and_is_said(tmp_path: Path, graph: Path) -> None:
    files = write_pictures(tmp_path / "x", ["1.png", "2.png", "5.png"])
    report = segment_video(Segmenter(graph), in_order(files, Fraction(10)), tmp_path / "out.mp4")
    assert report.frames == 3 and not report.damage
    assert report.remarks == ("2 numbers between 1.png and 5.png are missing; the frame before stays",)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [float(f.time) for f in container.decode(video=0)] == [0, 0.1, 0.4]


def test_an_unreadable_picture_is_counted_and_named(tmp_path: Path, graph: Path) -> None:
    files = write_pictures(tmp_path / "x", [f"{n}.png" for n in range(9)])
    for file in (files[0], files[4]):
        file.write_bytes(file.read_bytes()[:60])
    result = serve(graph, tmp_path / "x", "-o", tmp_path / "out.mp4", "--fps", 10)
    assert result.exit_code == 1 and "7 frames" in result.stdout
    assert "Damaged: 2 frames could not be decoded; unreadable: 0.png, 4.png" in result.stdout
    for file in files:
        file.write_bytes(b"no picture")
    result = serve(graph, tmp_path / "x", "-o", tmp_path / "none.mp4", "--fps", 10)
    assert result.exit_code == 2 and "no picture that can be decoded, of 9" in result.stderr


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_another_size_is_refused_before_any_work(tmp_path: Path, suffix: str, monkeypatch) -> None:
    files = write_pictures(tmp_path / "x", [f"{n}{suffix}" for n in range(5)])
    write_pictures(tmp_path / "x", [f"3{suffix}"], (24, 64))
    monkeypatch.setattr("serve.media.video.series_reader.read_image", None)
    with pytest.raises(InputError, match=rf"3\{suffix} is 64x24, but the frames before it are 64x48"):
        read(in_order(files))


def test_a_picture_that_is_turned_by_its_header_is_refused_at_its_turn(tmp_path: Path) -> None:
    """Its sides are those of the others, and 0 degrees are all that a header of another format may hide."""
    files = write_pictures(tmp_path / "x", ["0.png", "1.png", "2.png"])
    write_pictures(tmp_path / "x", ["2.png"], SIZE[::-1])
    with pytest.raises(InputError, match=r"2\.png is 48x64, but"):
        read(in_order(files))


def test_frames_are_read_as_pictures_are(tmp_path: Path) -> None:
    """16 bits and grey, as `serve image` reads them."""
    deep = np.full(SIZE, 30000, np.uint16)
    (tmp_path / "x").mkdir()
    cv2.imwrite(str(tmp_path / "x" / "1.png"), deep)
    with SeriesReader(in_order([tmp_path / "x" / "1.png"]), Selection()) as reader:
        (frame,) = reader.items()
    assert frame.pixels.shape == (*SIZE, 3) and np.unique(frame.pixels).tolist() == [round(30000 / 257)]


def test_a_batch_does_a_series_again_only_when_a_picture_changed(tmp_path: Path, graph: Path) -> None:
    files = write_pictures(tmp_path / "x", [f"{n}.png" for n in range(5)])
    out = tmp_path / "out"
    arguments = (graph, tmp_path / "x", "-o", out, "--fps", 10)
    assert serve(*arguments).exit_code == 0
    report = json.loads((out / "report.json").read_text())
    assert report["files"][0]["source"] == str(tmp_path / "x" / "*.png")
    assert "1 skipped" in serve(*arguments).stdout
    for change in (
        lambda: files[3].touch(),
        lambda: files[3].write_bytes(files[2].read_bytes()),
        lambda: write_pictures(tmp_path / "x", ["5.png"]),
        files[1].unlink,
    ):
        change()
        refused = serve(*arguments)
        assert refused.exit_code == 2 and "x.mp4 exists" in refused.stderr
        assert "1 done" in serve(*arguments, "--force").stdout and "1 skipped" in serve(*arguments).stdout
    assert serve(*arguments[:-1], 12).exit_code == 2


def test_an_output_never_replaces_its_input(tmp_path: Path, graph: Path) -> None:
    files = write_pictures(tmp_path / "x", ["1.png", "2.png"])
    result = serve(graph, tmp_path / "x", "-o", tmp_path, "--output", "frames", "--force", "--fps", 10)
    assert result.exit_code == 2 and "is the input itself, or holds it" in result.stderr
    (tmp_path / "clip").mkdir()
    clip = write_clip(tmp_path / "clip" / "clip.mp4")
    result = serve(graph, clip, "-o", tmp_path, "--output", "frames", "--force")
    assert result.exit_code == 2 and "is the input itself, or holds it" in result.stderr
    assert clip.is_file() and all(file.is_file() for file in files)


def test_a_series_that_changes_while_it_is_read(tmp_path: Path, graph: Path, monkeypatch) -> None:
    files = write_pictures(tmp_path / "x", [f"{n}.png" for n in range(9)])
    original = Segmenter.__call__

    def touch(self, *args, **kwargs):
        files[8].touch()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Segmenter, "__call__", touch)
    with pytest.raises(InputError, match=r"x/\*\.png changed while it was read"):
        segment_video(Segmenter(graph), in_order(files), tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_one_file_takes_one_video(tmp_path: Path, graph: Path) -> None:
    write_pictures(tmp_path / "root" / "a", ["1.png"])
    write_pictures(tmp_path / "root" / "b", ["1.png"])
    result = serve(graph, tmp_path / "root", "-o", tmp_path / "out.mp4")
    assert result.exit_code == 2 and "there may be several inputs" in result.stderr


def test_a_number_is_a_webcam_unless_a_file_is_called_so(tmp_path: Path, graph: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert to_address("0") == "/dev/video0" and to_address("12") == "/dev/video12"
    assert to_address("clip.mp4") == "clip.mp4" and to_address("-1") == "-1" and to_address("2024") == "2024"
    assert find_videos(["0", "1"]) == ["/dev/video0", "/dev/video1"]
    assert find_videos(["-"], ["3\n"]) == ["/dev/video3"]
    result = serve(graph, "98", "-o", tmp_path / "x.mp4")
    assert result.exit_code == 2 and "/dev/video98 is not there, so no such webcam" in result.stderr
    write_clip(tmp_path / "98.mp4").rename(tmp_path / "98")
    assert find_videos(["98"]) == [Path("98")]
    assert serve(graph, "98", "-o", tmp_path / "x.mp4").exit_code == 0


def test_a_webcam_is_opened_as_one(monkeypatch) -> None:
    asked: dict[str, Any] = {}

    def opened(path: str, **how: Any) -> Any:
        asked.update(path=path, **how)
        raise av.error.OSError(19, "No such device")

    monkeypatch.setattr("serve.media.video.source.Path.exists", lambda _: True)
    monkeypatch.setattr(av, "open", opened)
    with pytest.raises(InputError, match=r"/dev/video0 gives no video \(No such device\)"):
        open_container("/dev/video0")
    assert asked["path"] == "/dev/video0" and asked["format"] == "v4l2"
