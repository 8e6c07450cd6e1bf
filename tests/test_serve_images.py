"""Reading pictures of every sort, writing results, and drawing."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from serve_graphs import card, halves

from serve.demo_options import find_examples
from serve.errors import InputError
from serve.files import check_outputs, replacing
from serve.images import find_images, read_image, write_image
from serve.render import Entry, Painter, below, every_class, legend, present, shares

GRADIENT = np.add.outer(np.arange(40) * 2, np.arange(60) * 2).astype(np.uint8)


def test_reads_rgb_in_the_right_order(tmp_path: Path) -> None:
    Image.fromarray(halves()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), halves())


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(GRADIENT).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png")
    np.testing.assert_array_equal(image, np.stack([GRADIENT] * 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, suffix: str) -> None:
    deep = np.stack([GRADIENT, GRADIENT // 2, 255 - GRADIENT], axis=2).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / f"deep{suffix}"), deep[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / f"deep{suffix}"), deep // 257)


def test_sixteen_bit_grey(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), GRADIENT.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), np.stack([GRADIENT] * 3, axis=2))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    rgba = np.dstack([halves(), np.full(halves().shape[:2], 30, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), halves())


def test_palette_pictures_are_read_in_their_colours(tmp_path: Path) -> None:
    Image.fromarray(halves()).quantize(4).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), halves())


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int, turned) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(halves()).save(tmp_path / "a.jpg", quality=95, exif=exif)
    image = read_image(tmp_path / "a.jpg")
    expected = turned(halves())
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 8


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=rf"cut\{suffix} is not a picture that can be decoded"):
        read_image(path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello\n" * 100)
    with pytest.raises(InputError, match="not a picture"):
        read_image(tmp_path / "text.jpg")
    cv2.imwrite(str(tmp_path / "float.tif"), halves().astype(np.float32))
    with pytest.raises(InputError, match="float32 pixels"):
        read_image(tmp_path / "float.tif")
    with pytest.raises(InputError, match="No such file"):
        read_image(tmp_path / "missing.png")


def test_finds_files_folders_and_patterns_once_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    for name in ("b.png", "a.JPG", "notes.txt", "c.png"):
        (folder / name).touch()
    names = [p.name for p in find_images([str(folder / "c.png"), str(folder), str(folder / "*.png")])]
    assert names == ["c.png", "a.JPG", "b.png"]


def test_what_a_folder_holds_and_is_passed_over_is_counted_and_named(tmp_path: Path, capsys) -> None:
    for name in ("a.png", "b.txt", "c.PSD", "d", "e.mp4", ".DS_Store", "._a.png", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "pictures.png").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert find_images([str(tmp_path)]) == [tmp_path / "a.png"]
    said = "Left out 5 files of other kinds and 2 folders: b.txt, c.PSD, d …\n"
    assert capsys.readouterr() == ("", said)
    assert find_images([str(tmp_path / "a.png"), str(tmp_path)]) == [tmp_path / "a.png"]
    assert capsys.readouterr().err == said, "once, whatever is given beside it"
    # Who names a file, or gives a pattern that meets it, has it tried, whatever it is called.
    assert find_images([str(tmp_path), str(tmp_path / "*.*")])[0] == tmp_path / "a.png"
    assert (
        capsys.readouterr().err
        == "Left out 2 files of other kinds and 2 folders: d, gone.jpg, pictures.png/ …\n"
    )
    assert find_images([str(tmp_path / "d"), str(tmp_path / ".hidden.png")]) == [
        tmp_path / "d",
        tmp_path / ".hidden.png",
    ]
    assert capsys.readouterr().err == ""


def test_nothing_is_said_where_all_is_taken(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / ".git").mkdir()
    find_images([str(tmp_path)])
    assert capsys.readouterr() == ("", "")


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.psd").touch()
    (tmp_path / "2024").mkdir()
    with pytest.raises(
        InputError, match=r"no picture, only 1 file of other kinds and 1 folder: 2024/, a\.psd; "
    ):
        find_images([str(tmp_path)])


def test_the_demo_says_what_it_does_not_offer(tmp_path: Path, capsys) -> None:
    for name in ("a.png", "b.mp4", "c.txt"):
        (tmp_path / name).touch()
    assert find_examples([str(tmp_path)]) == [tmp_path / "a.png", tmp_path / "b.mp4"]
    assert capsys.readouterr().err == "Left out 1 file of other kinds: c.txt\n"
    with pytest.raises(InputError, match=r"c\.txt holds no picture or video"):
        find_examples([str(tmp_path / "c.txt")])


def test_inputs_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for given in (str(tmp_path), str(tmp_path / "*.png"), str(tmp_path / "missing.png")):
        with pytest.raises(InputError, match="holds no picture"):
            find_images([given])


def test_same_stem_twice_is_refused_before_it_overwrites(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png would both be written as a"):
        find_images([str(tmp_path)])


def test_writes_labels_and_colours_exactly(tmp_path: Path) -> None:
    labels = (GRADIENT % 19).astype(np.uint8)
    write_image(tmp_path / "new" / "l.png", labels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "l.png")), labels)
    write_image(tmp_path / "l16.png", labels.astype(np.uint16) * 300)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "l16.png")), labels.astype(int) * 300)
    write_image(tmp_path / "c.png", halves())
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "c.png")), halves())


def test_replacing_leaves_nothing_behind_on_failure(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_text("old")
    for failure in (KeyboardInterrupt(), OSError(28, "No space left on device"), ValueError("x")):
        with pytest.raises(type(failure)) as caught, replacing(target) as temporary:
            temporary.write_text("half")
            raise failure
        assert [p.name for p in tmp_path.iterdir()] == ["out.png"] and target.read_text() == "old"
        if isinstance(failure, OSError):
            assert isinstance(caught.value, OSError) and caught.value.filename == str(target)
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"] and target.read_text() == "new"


def test_existing_output_needs_force(tmp_path: Path) -> None:
    targets = [tmp_path / name for name in ("a", "b", "c")]
    check_outputs(targets, force=False)
    targets[0].touch()
    with pytest.raises(InputError, match=r"a exists; .*--force"):
        check_outputs(targets, force=False)
    targets[1].touch()
    with pytest.raises(InputError, match=r"a and 1 more exist; .*--force"):
        check_outputs(targets, force=False)
    check_outputs(targets, force=True)
    with pytest.raises(InputError, match="a is a file, so nothing can be written below it"):
        check_outputs([targets[0] / "new" / "x.png"], force=True)
    targets[2].mkdir()
    with pytest.raises(InputError, match="c is a folder"):
        check_outputs(targets, force=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_and_overlay_follow_the_palette(dtype: type) -> None:
    palette = [(int(i), int(255 - i), int(i * 7 % 256)) for i in range(256)]
    labels = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(dtype)
    expected = np.asarray(palette, np.uint8)[labels]
    painter = Painter(palette)
    np.testing.assert_array_equal(painter.colors(labels), expected)
    picture = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    np.testing.assert_array_equal(painter.overlay(picture, labels, 0), picture)
    np.testing.assert_array_equal(painter.overlay(picture, labels, 1), expected)
    blended = painter.overlay(picture, labels, 0.25)
    assert np.abs(blended - (0.75 * picture + 0.25 * expected)).max() <= 1


def test_palette_above_256_classes() -> None:
    palette = [(i % 256, i // 256, 9) for i in range(300)]
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    np.testing.assert_array_equal(Painter(palette).colors(labels), np.asarray(palette, np.uint8)[labels])


def test_shares_and_entries_count_pixels() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[:3] = 2
    np.testing.assert_allclose(shares(labels, 3), [0.7, 0, 0.3])
    assert [(e.name, e.share) for e in present(card(), labels)] == [("red", 0.7), ("blue", 0.3)]
    assert [e.text for e in every_class(card())] == ["red", "green", "blue"]
    assert Entry("pole", (1, 2, 3), 0.004).text.split() == ["pole", "<1%"]


@pytest.mark.parametrize("size", [(16, 16), (72, 97), (480, 640), (2160, 3840)])
def test_legend_shows_every_entry_below_the_untouched_picture(size: tuple[int, int]) -> None:
    entries = [Entry(f"class {i}", (200, 10 * i, 255 - 10 * i), 0.05) for i in range(19)]
    picture = np.random.default_rng(0).integers(0, 100, (*size, 3), np.uint8)
    strip = legend(entries, *size)
    whole = below(picture, strip)
    np.testing.assert_array_equal(whole[: size[0], : size[1]], picture)
    for entry in entries:  # a swatch of at least 9 x 9 pixels, and light text on the same lines
        ys, xs = np.nonzero((strip == entry.color).all(2))
        assert len(ys) >= 81 and np.ptp(xs) < size[1]
        right = strip[ys.min() : ys.max() + 1, xs.max() + 2 :]
        assert (right.min(2) > 120).sum() >= 5
