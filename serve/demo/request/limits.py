"""What the demo refuses by what a file's header says, before it costs anything: too large, too long."""

from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
from PIL import Image as Pillow

from serve.demo.options import Limits
from serve.demo.request.files import Upload
from serve.errors import InputError
from serve.media.images import Image, read_image
from serve.media.video.source import Selection, decoder_threads, find_stream, rate_of

# What a visitor's file may be read as. Other readers of libav (playlists such as HLS and DASH, lists of
# files, numbered pictures, descriptions of streams) go on to open what the visitor's file names: other files
# of this machine, or addresses.
_PICTURES = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
VIDEOS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,ivf,gif"

_PICTURE_BYTES = 18
"""Per pixel, at most: 16-bit colours twice (a decoder's own copy, and turned upright), 8-bit ones twice."""
_REFERENCES = 16
"""Frames that a decoder keeps, at most, to predict others from (H.264; no other codec keeps more)."""
_FRAME_BITS = 64
"""Per pixel of a format that the header does not tell, at most."""
_IN_WORK = 32
"""Scaled frames between decoder and encoder, at most: queues, runs side by side, what is drawn."""
_ALIGNED = 128
"""Decoders round sides up to multiples of up to so many pixels."""
_EDGE, _EDGE_LINES = 64, 280
"""Decoders of MPEG-4 and its kin also hold so many lines, so many pixels longer, as one picture."""
_MEGA = 1e6


Size = tuple[int, int]
"""Height and width."""


class Clip(NamedTuple):
    """A video that may be segmented."""

    frames: int | None
    """How many, None if its file does not say."""
    selection: Selection
    """How it is read: all of it, within the page's limits."""


def read_picture(upload: Upload, limits: Limits, largest: Size | None = None) -> Image:
    """uint8 [H, W, 3] RGB, upright, no side longer than `limits.side`, nor than in `largest`.

    Raises:
        InputError: not a picture, more pixels than `limits.megapixels`, or more memory than
            `limits.memory_mb`.
    """
    width, height = _size_in_header(upload)
    _refuse_pixels(upload.name, width, height, limits)
    _refuse_bytes(upload.name, width * height * _PICTURE_BYTES, limits)
    try:
        image = read_image(upload.path)
    except InputError as error:
        raise InputError(error.message.replace(str(upload.path), upload.name)) from error
    height, width = image.shape[:2]
    scale = min(1.0, limits.side / max(height, width), *_to_fit(height, width, largest))
    if scale < 1:
        height, width = (max(1, int(side * scale)) for side in (height, width))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image


def check_video(upload: Upload, limits: Limits, largest: Size | None = None) -> Clip:
    """What a video is by its header; not a frame is decoded. `largest` is of the frames to be read.

    Raises:
        InputError: not a video in one file, or too many pixels per frame, too long, too many frames, or
            more memory than `limits.memory_mb`.
    """
    options = {"format_whitelist": VIDEOS, "protocol_whitelist": "file"}
    options |= {"max_pixels": str(int(limits.megapixels * _MEGA))}  # for what libav decodes to find out
    try:
        with av.open(str(upload.path), options=options) as container:
            return _check_stream(upload.name, container, limits, largest)
    except av.error.FFmpegError as error:
        raise InputError(
            f"{upload.name} is no video that this page takes: something else, damaged, truncated, or a list "
            "of other files; give one file: MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, Ogg, MXF, IVF or GIF."
        ) from error


def too_many(name: str, frames: int, limits: Limits) -> str:
    """The sentence for a video beyond `limits.frames`."""
    return (
        f"{name} has {frames} frames or more; this demo takes up to {limits.frames}, {limits.frame_rate} for "
        "each second that it may last. Cut it, or use `serve video` on the command line, which has no limit."
    )


def _check_stream(name: str, container: Any, limits: Limits, largest: Size | None) -> Clip:
    stream = find_stream(container, Path(name))
    width, height = stream.codec_context.width, stream.codec_context.height
    if not (width and height):
        raise InputError(
            f"{name} does not say how large its frames are, or they have more than the {limits.megapixels:g} "
            "megapixels that this demo takes; make them smaller, or convert it to MP4."
        )
    _refuse_pixels(name, width, height, limits)

    times = [container.duration / av.time_base if container.duration else 0.0]
    times += [float(stream.duration * stream.time_base)] if stream.duration else []
    rate = rate_of(stream)
    frames = max(stream.frames, round(max(times) * rate)) or None
    seconds = max(*times, float(stream.frames / rate)) if rate else max(times)
    if seconds > limits.seconds:
        raise InputError(
            f"{name} lasts {_duration(seconds)}; this demo takes up to {_duration(limits.seconds)}. Cut it, "
            "or use `serve video` on the command line, which has no limit."
        )
    if frames is not None and frames > limits.frames:
        raise InputError(too_many(name, frames, limits))

    longer = max(width, height)
    # A phone's video is turned after this, so either side may become the other.
    scale = min(
        1,
        limits.video_side / longer,
        *_to_fit(height, width, largest),
        *_to_fit(width, height, largest),
    )
    bits = stream.codec_context.format.padded_bits_per_pixel if stream.codec_context.format else _FRAME_BITS
    stored = width * height * bits / 8 * (_REFERENCES + decoder_threads())
    _refuse_bytes(name, stored + width * height * scale**2 * 3 * _IN_WORK, limits)
    width, height = (-(-side // _ALIGNED) * _ALIGNED for side in (width, height))
    most = max(width * height, (width + _EDGE) * _EDGE_LINES)
    return Clip(frames, Selection(max_size=max(int(longer * scale), 1), max_pixels=most))


def _size_in_header(upload: Upload) -> tuple[int, int]:
    """Width and height, without decoding a pixel."""
    try:
        with Pillow.open(upload.path, formats=_PICTURES) as picture:
            return picture.size
    except Pillow.DecompressionBombError as error:
        raise InputError(f"{upload.name} has far too many pixels for this demo; make it smaller.") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's UnidentifiedImageError is an OSError
        raise InputError(
            f"{upload.name} is not a picture that can be decoded: another format or truncated."
        ) from error


def _to_fit(height: int, width: int, largest: Size | None) -> list[float]:
    """By which factors a picture would have exactly the largest height, and the largest width."""
    return [] if largest is None else [largest[0] / height, largest[1] / width]


def _refuse_pixels(name: str, width: int, height: int, limits: Limits) -> None:
    megapixels = width * height / _MEGA
    if megapixels > limits.megapixels:
        raise InputError(
            f"{name} has {width} x {height} = {megapixels:.0f} megapixels; this demo takes up to "
            f"{limits.megapixels:g}. Make it smaller."
        )


def _refuse_bytes(name: str, needed: float, limits: Limits) -> None:
    if needed > limits.memory_mb * _MEGA:
        raise InputError(
            f"{name} would take {needed / _MEGA:.0f} MB of memory to decode; this demo takes up to "
            f"{limits.memory_mb} MB for one request. Make it smaller."
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
