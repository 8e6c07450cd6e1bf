"""HEIF and AVIF: turned once, read in all depths, refused where they are damaged."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps
from serve_graphs import halves

from serve.errors import InputError
from serve.media.heif import upright
from serve.media.images import count_pictures, find_images, read_image


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
