"""Reading pictures of every sort, writing results, and drawing."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps
from serve_graphs import card, halves

from serve.demo.options import find_examples
from serve.errors import InputError
from serve.images.render import Entry, Painter, below, every_class, legend, present, shares
from serve.media.files import check_outputs
from serve.media.heif import upright
from serve.media.images import count_pictures, find_images, read_image, write_image
from serve.media.whole import replacing

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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".avif", ".heic"])
def test_every_turn_of_every_format_is_made_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    """AVIF and HEIF are turned by boxes of their own; phones' HEIF says the same in Exif once more."""
    picture = halves()
    picture[:30, :30] = (0, 0, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    if suffix == ".heic":
        pillow_heif.from_pillow(Image.fromarray(picture)).save(path, quality=95, exif=exif.tobytes())
        assert b"Exif" in path.read_bytes() and (b"irot" in path.read_bytes()) == (
            orientation in (3, 5, 6, 7, 8)
        )
    else:
        options = {".webp": {"lossless": True}, ".avif": {"quality": 95}}.get(suffix, {})
        Image.fromarray(picture).save(path, exif=exif, **options)
    turned = Image.fromarray(picture)
    turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned))
    image = read_image(path)
    assert image.shape == expected.shape and image.flags.c_contiguous
    assert np.abs(image.astype(int) - expected).mean() < 5  # turned wrongly, it is above 50


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_avif_that_says_its_turn_twice_is_turned_once(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    tiff = np.frombuffer(exif.tobytes().removeprefix(b"Exif\0\0"), np.uint8)
    bgr = np.ascontiguousarray(halves()[..., ::-1])
    data = cv2.imencodeWithMetadata(".avif", bgr, [cv2.IMAGE_METADATA_EXIF], [tiff])[1].tobytes()
    assert b"Exif" in data and b"irot" in data
    (tmp_path / "a.avif").write_bytes(data)
    turned = Image.fromarray(halves())
    turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned)).astype(int)
    image = read_image(tmp_path / "a.avif")
    assert image.shape == expected.shape and np.abs(image - expected).mean() < 8


def test_no_damage_to_the_boxes_of_avif_ends_in_a_traceback(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 7
    Image.fromarray(halves()).save(tmp_path / "a.avif", exif=exif)
    data = (tmp_path / "a.avif").read_bytes()
    shapes = set()
    for position in range(data.index(b"mdat")):
        for value in (0, 1, 255):
            damaged = data[:position] + bytes([value]) + data[position + 1 :]
            shapes.add(upright(damaged, halves()).shape)
        shapes.add(upright(data[:position], halves()).shape)
    assert shapes == {(72, 96, 3), (96, 72, 3)}


@pytest.mark.parametrize(
    ("mode", "suffix"), [("CMYK", ".jpg"), ("CMYK", ".tif"), ("LA", ".png"), ("1", ".png"), ("YCbCr", ".jpg")]
)
def test_other_colours_are_read_as_they_look(tmp_path: Path, mode: str, suffix: str) -> None:
    picture = Image.fromarray(halves()).convert(mode)
    picture.save(tmp_path / f"a{suffix}")
    expected = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(read_image(tmp_path / f"a{suffix}") - expected).mean() < 3


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_transparent_palettes_keep_their_colours(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(halves()).quantize(4).save(tmp_path / f"a{suffix}", transparency=0)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), halves())


def test_sixteen_bits_with_alpha(tmp_path: Path) -> None:
    deep = np.dstack([halves()[..., ::-1].astype(np.uint16) * 257, np.full((72, 96), 30000, np.uint16)])
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), halves())


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif", ".avif", ".heic"])
def test_of_several_pictures_the_first_is_read_and_all_are_counted(tmp_path: Path, suffix: str) -> None:
    first, second = Image.fromarray(halves()), Image.fromarray(255 - halves())
    path = tmp_path / f"a{suffix}"
    if suffix == ".heic":
        pictures = pillow_heif.from_pillow(first)
        pictures.add_from_pillow(second)
        pictures.add_from_pillow(second)
        pictures.save(path, quality=95)
    else:
        first.save(path, save_all=True, append_images=[second, first])
    assert count_pictures(path) == 3
    assert np.abs(read_image(path).astype(int) - halves()).mean() < 5
    write_image(tmp_path / "one.png", halves())
    assert count_pictures(tmp_path / "one.png") == 1
    assert count_pictures(tmp_path / "none.png") == 0
    (tmp_path / "text.png").write_text("no picture")
    assert count_pictures(tmp_path / "text.png") == 0


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_heif_of_ten_bits_grey_or_with_alpha(tmp_path: Path, name: str) -> None:
    """What a file is, its content says: phones' pictures are renamed to .jpg without being converted."""
    path = tmp_path / name
    deep = (halves().astype(np.uint16) * 257).tobytes()
    pillow_heif.from_bytes("RGB;16", (96, 72), deep).save(path, quality=95)
    assert pillow_heif.open_heif(path, convert_hdr_to_8bit=False).mode == "RGB;16"
    image = read_image(path)
    assert image.dtype == np.uint8 and np.abs(image.astype(int) - halves()).mean() < 2
    for mode in ("L", "RGBA"):
        picture = Image.fromarray(halves()).convert(mode)
        pillow_heif.from_pillow(picture).save(path, quality=95)
        image = read_image(path)
        assert image.shape == (72, 96, 3)
        assert np.abs(image - np.asarray(picture.convert("RGB")).astype(int)).mean() < 2


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_heif_and_avif_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path = tmp_path / f"cut{suffix}"
    if suffix == ".heic":
        pillow_heif.from_pillow(noise).save(path, quality=95)
    else:
        noise.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"cut\.\w+ is .* can.* be decoded"):
        read_image(path)
    assert count_pictures(path) <= 1


def test_heif_without_the_extra_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif.from_pillow(Image.fromarray(halves())).save(tmp_path / "a.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"a\.heic is a HEIF picture, .* `pip install 'blda\[heif\]'`"):
        read_image(find_images([str(tmp_path)])[0])
    assert count_pictures(tmp_path / "a.heic") == 0


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=rf"cut\{suffix} is .*(empty|truncated)"):
        read_image(path)


def test_a_progressive_jpeg_with_a_thumbnail_is_told_from_a_truncated_one(tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    _, small = cv2.imencode(".jpg", halves(8, 8))
    _, data = cv2.imencode(".jpg", halves(64, 64), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    thumbnail, plain = small.tobytes(), data.tobytes()  # the thumbnail brings an end marker of its own
    whole = plain[:2] + b"\xff\xe2" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + plain[2:]
    path.write_bytes(whole + b"camera's own trailer")
    assert read_image(path).shape == (64, 64, 3)
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


def test_a_png_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    write_image(path, halves())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_image(path)


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello\n" * 100)
    with pytest.raises(InputError, match="not a picture"):
        read_image(tmp_path / "text.jpg")
    cv2.imwrite(str(tmp_path / "float.tif"), halves().astype(np.float32))
    with pytest.raises(InputError, match="float32 pixels"):
        read_image(tmp_path / "float.tif")
    Image.fromarray(GRADIENT.astype(np.int32)).save(tmp_path / "long.tif")
    with pytest.raises(InputError, match="pixels of other than 8 or 16 bits"):
        read_image(tmp_path / "long.tif")
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
