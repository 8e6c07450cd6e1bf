"""`serve image`: what is written, what is said, and which pictures fail."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serve_commands import expect_refusal, files_in, serve
from serve_graphs import PALETTE, halves, write_clip, write_graph


def test_image_writes_labels_and_overlay_of_a_folder(graph: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = serve("image", graph, pictures, "-o", out)
    assert result.exit_code == 0, result.output
    wanted = {f"labels/{stem}.png" for stem in "abc"} | {f"overlay/{stem}.jpg" for stem in "abc"}
    assert files_in(out) == wanted
    labels = np.asarray(Image.open(out / "labels/a.png"))
    np.testing.assert_array_equal(labels, halves().argmax(2))
    assert Image.open(out / "labels/c.png").size == (30, 20)
    assert f"Wrote labels and overlay of 3 picture(s) to {out}" in result.stdout
    assert f"Ran {graph} on cpu: " in result.stdout and "ms per picture" in result.stdout


def test_image_writes_only_what_is_chosen(graph: Path, pictures: Path, tmp_path: Path) -> None:
    result = serve("image", graph, pictures / "a.png", "-o", tmp_path / "out", "--colors")
    assert result.exit_code == 0, result.output
    assert files_in(tmp_path / "out") == {"colors/a.png"}
    colors = np.asarray(Image.open(tmp_path / "out/colors/a.png"))
    np.testing.assert_array_equal(colors, np.asarray(PALETTE, np.uint8)[halves().argmax(2)])


def test_image_takes_patterns_and_opacity(graph: Path, pictures: Path, tmp_path: Path) -> None:
    result = serve("image", graph, pictures / "*.png", "-o", tmp_path / "o", "--overlay", "--opacity", 1)
    assert result.exit_code == 0, result.output
    assert files_in(tmp_path / "o") == {"overlay/a.jpg", "overlay/c.jpg"}
    overlay = np.asarray(Image.open(tmp_path / "o/overlay/a.jpg")).astype(int)
    assert np.abs(overlay[10:60, 5:40] - PALETTE[0]).max() < 12


def test_a_bad_picture_among_good_ones_is_named_and_the_others_are_done(
    graph: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "bad.png").write_bytes((pictures / "a.png").read_bytes()[:60])
    (pictures / "z.psd").touch()
    result = serve("image", graph, pictures, "-o", tmp_path / "out", "--labels")
    assert result.exit_code == 1
    assert "of other kinds: " in result.stderr and "z.psd" in result.stderr
    assert files_in(tmp_path / "out") == {"labels/a.png", "labels/b.png", "labels/c.png"}
    assert f"Left out: {pictures / 'bad.png'} is truncated" in result.stderr
    assert "1 of 4 pictures left out" in result.stderr


def test_pictures_of_one_stem_keep_their_whole_names(graph: Path, pictures: Path, tmp_path: Path) -> None:
    Image.fromarray(halves(40, 50)).save(pictures / "a.jpg")
    result = serve("image", graph, pictures, "-o", tmp_path / "out", "--labels")
    assert result.exit_code == 0, result.output
    wanted = {"labels/a.png.png", "labels/a.jpg.png", "labels/b.png", "labels/c.png"}
    assert files_in(tmp_path / "out") == wanted
    assert Image.open(tmp_path / "out/labels/a.jpg.png").size == (50, 40)
    assert Image.open(tmp_path / "out/labels/a.png.png").size == (96, 72)


def test_pictures_of_one_name_in_two_folders_are_refused(graph: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.fromarray(halves(40, 50)).save(tmp_path / "more" / "a.png")
    result = serve("image", graph, pictures, tmp_path / "more", "-o", tmp_path / "out", "--labels")
    expect_refusal(result, "a.png", "two folders")
    assert not (tmp_path / "out").exists()


def test_files_of_several_pictures_are_named(graph: Path, tmp_path: Path) -> None:
    pages = [Image.fromarray(halves())] * 4
    for name in ("a.gif", "b.tif", "c.png"):
        pages[0].save(
            tmp_path / name, save_all=True, append_images=pages[1 : len(pages) if name < "c" else 1]
        )
    result = serve("image", graph, tmp_path, "-o", tmp_path / "out", "--labels")
    assert result.exit_code == 0, result.output
    assert "Of files that hold several pictures, the first was segmented: " in result.stdout
    assert "b.tif (4)" in result.stdout and "c.png" not in result.stdout


def test_a_single_bad_picture(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    result = serve("image", graph, tmp_path / "bad.png", "-o", tmp_path / "out")
    expect_refusal(result, "bad.png is not a picture")
    assert not (tmp_path / "out").exists()


def test_image_overwrites_only_with_force(graph: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "labels").mkdir(parents=True)
    (out / "labels/b.png").write_text("mine")
    expect_refusal(serve("image", graph, pictures, "-o", out), "labels/b.png exists", "--force")
    assert files_in(out) == {"labels/b.png"} and (out / "labels/b.png").read_text() == "mine"
    assert serve("image", graph, pictures, "-o", out, "--force").exit_code == 0
    assert Image.open(out / "labels/b.png").size == (81, 100)


def test_image_into_a_file_is_refused(graph: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    expect_refusal(serve("image", graph, pictures, "-o", tmp_path / "out"), "is a file")


def test_empty_and_missing_inputs(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for given in (tmp_path / "empty", tmp_path / "missing.png", tmp_path / "*.jpg"):
        expect_refusal(serve("image", graph, given, "-o", tmp_path / "out"), str(given), "holds no picture")
    expect_refusal(
        serve("video", graph, tmp_path / "missing.mp4", "-o", tmp_path / "o.mp4"), "holds no video"
    )


@pytest.mark.parametrize("command", ["image", "video"])
def test_tau_is_checked_before_any_work(graph: Path, tmp_path: Path, command: str) -> None:
    sliding = write_graph(tmp_path / "sliding.onnx", runtime_tau=True)
    Image.fromarray(halves()).save(tmp_path / "a.png")
    source = tmp_path / "a.png" if command == "image" else write_clip(tmp_path / "a.mkv")
    target = tmp_path / ("out" if command == "image" else "out.mp4")
    for tau in (-0.1, 2.5, "nan"):
        expect_refusal(serve(command, sliding, source, "-o", target, "--tau", tau), "between 0 and 2")
    expect_refusal(serve(command, graph, source, "-o", target, "--tau", 0.5), "folded in", "--runtime-tau")
    assert not target.exists()
    assert serve(command, sliding, source, "-o", target, "--tau", 2).exit_code == 0


def test_runtime_tau_reaches_the_graph(tmp_path: Path) -> None:
    sliding = write_graph(tmp_path / "sliding.onnx", runtime_tau=True)
    Image.fromarray(halves()).save(tmp_path / "a.png")
    for tau, expected in ((0, {0, 1}), (2, {2})):
        out = tmp_path / f"out{tau}"
        serve("image", sliding, tmp_path / "a.png", "-o", out, "--labels", "--tau", tau)
        assert set(np.unique(np.asarray(Image.open(out / "labels/a.png")))) == expected


@pytest.mark.parametrize("command", ["image", "video", "info"])
def test_files_that_are_no_graph(tmp_path: Path, command: str) -> None:
    (tmp_path / "text.onnx").write_text("hello\n" * 50)
    Image.fromarray(halves()).save(tmp_path / "a.png")
    source = tmp_path / "a.png" if command == "image" else write_clip(tmp_path / "a.mkv")
    rest = [] if command == "info" else [source, "-o", tmp_path / "out.mp4"]
    expect_refusal(
        serve(command, tmp_path / "text.onnx", *rest), "text.onnx", "can't be opened as an ONNX graph"
    )
    expect_refusal(serve(command, tmp_path / "missing.onnx", *rest), "missing.onnx is not a file")
    stranger = write_graph(tmp_path / "stranger.onnx", metadata={})
    expect_refusal(serve(command, stranger, *rest), "no blda metadata")
    assert not (tmp_path / "out.mp4").exists()
