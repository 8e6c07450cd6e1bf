"""Pictures of every sort: read as they look, refused where they are damaged, written exactly."""

from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from serve_graphs import halves

from serve.errors import InputError
from serve.media.images import count_pictures, read_image, write_image

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


def test_writes_labels_and_colours_exactly(tmp_path: Path) -> None:
    labels = (GRADIENT % 19).astype(np.uint8)
    write_image(tmp_path / "new" / "l.png", labels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "l.png")), labels)
    write_image(tmp_path / "l16.png", labels.astype(np.uint16) * 300)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "l16.png")), labels.astype(int) * 300)
    write_image(tmp_path / "c.png", halves())
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "c.png")), halves())
