"""Clips and pictures of every kind that readers may take in two ways: one small file of each."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from PIL import Image

PQ, HLG, BT709, BT2020 = 16, 18, 1, 9
UNKNOWN, LIMITED, FULL = 2, 1, 2
FRAMES = 6


class ClipKind(NamedTuple):
    """How a clip is stored."""

    suffix: str = ".mp4"
    codec: str = "libx264"
    pixels: str = "yuv420p"
    size: tuple[int, int] = (64, 96)
    """Height and width."""
    standard: int = UNKNOWN
    """Matrix and primaries."""
    transfer: int = UNKNOWN
    range: int = 0
    rotation: int | None = None


CLIPS = {
    "hdr": ClipKind(codec="libx265", pixels="yuv420p10le", standard=BT2020, transfer=PQ, range=LIMITED),
    "hlg": ClipKind(codec="libx265", pixels="yuv420p10le", standard=BT2020, transfer=HLG, range=LIMITED),
    "ten bits": ClipKind(".mkv", "libx265", "yuv420p10le", standard=BT709, transfer=BT709, range=LIMITED),
    "untagged hd": ClipKind(size=(720, 128)),
    "tagged hd": ClipKind(size=(720, 128), standard=BT709, range=LIMITED),
    "untagged sd": ClipKind(size=(64, 128)),
    "full range": ClipKind(pixels="yuvj420p", range=FULL),
    "rotated": ClipKind(rotation=90),
    "upside down": ClipKind(suffix=".mov", rotation=180),
    "4:2:2": ClipKind(".mkv", pixels="yuv422p"),
    "odd": ClipKind(".mkv", "ffv1", "yuv444p", (63, 97)),
    "grey": ClipKind(".mkv", "ffv1", "gray", (35, 51)),
    "avi": ClipKind(".avi", "mpeg4"),
    "ts": ClipKind(".ts"),
}
"""By what is special about it."""


def write_kind(path: Path, kind: ClipKind) -> Path:
    """FRAMES frames at 12 per second: slopes of every code in every plane, that move."""
    path = path.with_suffix(kind.suffix)
    height, width = kind.size
    options = {"x265-params": "log-level=error", "crf": "4"} if kind.codec == "libx265" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind.codec, rate=12, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, kind.pixels
        context = stream.codec_context
        context.colorspace = context.color_primaries = kind.standard
        context.color_trc, context.color_range = kind.transfer, kind.range
        if kind.rotation is not None:
            stream.set_display_rotation(kind.rotation)
        for number in range(FRAMES):
            frame = av.VideoFrame(width, height, kind.pixels)
            for plane, seed in zip(frame.planes, range(3), strict=False):
                _fill(plane, number + 7 * seed, 10 if kind.pixels.endswith("10le") else 8)
            frame.pts, frame.time_base = number, Fraction(1, 12)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _fill(plane: av.video.plane.VideoPlane, shift: int, bits: int) -> None:
    kind = np.uint16 if bits > 8 else np.uint8
    rows, columns = np.indices((plane.height, plane.width))
    codes = (5 * rows + 3 * columns + 20 * shift) % 220 + 16
    stored = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
    stored[:, : plane.width] = codes << (bits - 8)
    plane.update(stored.tobytes())


def scene(height: int = 40, width: int = 60) -> np.ndarray:
    """uint8 [H, W, 3] with slopes and edges in all colours."""
    rows, columns = np.indices((height, width))
    picture = np.stack((4 * columns, 6 * rows, 3 * (rows + columns)), 2) % 256
    picture[8:20, 10:30] = (250, 20, 90)
    return picture.astype(np.uint8)


def _pil(mode: str = "RGB", **options: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        Image.fromarray(scene()).convert(mode).save(path, **options)

    return write


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene()).save(path, quality=95, exif=exif)


def _deep(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (40, 60, 3)).astype(np.uint16)
    cv2.imwrite(str(path), noise)


def _deep_grey(path: Path) -> None:
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 65536, (40, 60)).astype(np.uint16))


def _opencv(path: Path) -> None:
    cv2.imwrite(str(path), scene()[..., ::-1])


def _heif(path: Path) -> None:
    import pillow_heif

    pillow_heif.from_pillow(Image.fromarray(scene())).save(path, quality=90)


PICTURES: dict[str, Callable[[Path], None]] = {
    **{f"plain{suffix}": _opencv for suffix in (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")},
    **{f"plain{suffix}": _opencv for suffix in (".webp", ".ppm", ".jp2", ".avif")},
    "PLAIN.JPG": _opencv,
    "plain.gif": _pil(),
    "plain.pgm": _pil("L"),
    "deep.png": _deep,
    "deep.tif": _deep,
    "deep_grey.png": _deep_grey,
    "clear.png": _pil("RGBA"),
    "clear.webp": _pil("RGBA", lossless=True),
    "grey.png": _pil("L"),
    "grey.jpg": _pil("L"),
    "grey_alpha.png": _pil("LA"),
    "palette.png": _pil("P"),
    "ink.jpg": _pil("CMYK"),
    "turned.jpg": _turned,
    "phone.heic": _heif,
    "phone.heif": _heif,
    "phone.hif": _heif,
}
"""What writes it, by the name of the file."""
