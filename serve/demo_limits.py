"""What the demo refuses, before it costs anything: too many pixels, too long, not what its name says."""

import html
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

import av
import cv2
import gradio as gr
from PIL import Image as Pillow

from serve.demo_files import Upload
from serve.demo_options import Limits
from serve.errors import InputError
from serve.images import read_image
from serve.render import Image
from serve.segmenter import Segmenter
from serve.video_reader import VideoReader

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_ERROR_SECONDS = 20.0

# What a visitor's file may be read as. Other readers of libav (playlists such as HLS and DASH, lists of
# files, numbered pictures, descriptions of streams) go on to open what the visitor's file names: other files
# of this machine, or addresses.
_PICTURES = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
VIDEOS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,ivf,gif"


def choose(segmenters: Mapping[str, Segmenter], model: str) -> Segmenter:
    """The model of that name; the API passes on whatever it is given."""
    if model not in segmenters:
        raise InputError(f"There is no model {model!r} here; there are {', '.join(segmenters)}.")
    return segmenters[model]


def fraction(opacity: float) -> float:
    """An opacity in [0, 1]."""
    if not isinstance(opacity, int | float) or not 0 <= opacity <= 1:
        raise InputError(f"The opacity is {opacity!r}, but must be between 0 and 1.")
    return opacity


def read_picture(upload: Upload, limits: Limits) -> Image:
    """uint8 [H, W, 3] RGB, upright, no side longer than `limits.side`.

    Raises:
        InputError: not a picture, or more pixels than `limits.megapixels`.
    """
    _refuse_pixels(upload.name, *_size_in_header(upload), limits)
    try:
        image = read_image(upload.path)
    except InputError as error:
        raise InputError(error.message.replace(str(upload.path), upload.name)) from error
    scale = limits.side / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image


def check_video(upload: Upload, limits: Limits) -> int | None:
    """Frames in the video, None if its file does not say.

    Raises:
        InputError: not a video in one file, too many pixels per frame, or too long.
    """
    _refuse_playlist(upload)
    try:
        with VideoReader(upload.path, formats=VIDEOS) as reader:
            height, width = reader.size
            frames, rate = reader.frames, reader.rate
    except InputError as error:
        raise InputError(error.message.replace(str(upload.path), upload.name)) from error
    _refuse_pixels(upload.name, width, height, limits)
    if frames is not None and frames / rate > limits.seconds:
        raise InputError(too_long(upload.name, float(frames / rate), limits))
    return frames


def too_long(name: str, seconds: float, limits: Limits) -> str:
    """The sentence for a video beyond `limits.seconds`."""
    return (
        f"{name} lasts {_duration(seconds)}; this demo takes up to {_duration(limits.seconds)}. Cut it, "
        "or use `serve video` on the command line, which has no limit."
    )


def told(work: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Wrap an event handler: what a person can mend appears on the page in a sentence, not in a traceback."""

    @wraps(work)
    def handler(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return work(*args, **kwargs)
        except InputError as error:
            message = error.message
        except OSError as error:
            message = f"The server could not write its result: {error.strerror or error}."
        raise gr.Error(html.escape(message), duration=_ERROR_SECONDS, print_exception=False)

    return handler


def _refuse_playlist(upload: Upload) -> None:
    """Equal bytes under an equal name are taken for the same format whenever they are opened again."""
    try:
        av.open(str(upload.path), options={"format_whitelist": VIDEOS, "protocol_whitelist": "file"}).close()
    except av.error.FFmpegError as error:
        raise InputError(
            f"{upload.name} is no video that this page takes: something else, damaged, truncated, or a list "
            "of other files; give one file: MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, Ogg, MXF, IVF or GIF."
        ) from error


def _size_in_header(upload: Upload) -> tuple[int, int]:
    """Width and height, without decoding a pixel."""
    try:
        with Pillow.open(upload.path, formats=_PICTURES) as picture:
            return picture.size
    except Pillow.DecompressionBombError as error:
        raise InputError(f"{upload.name} has far too many pixels for this demo; make it smaller.") from error
    except OSError as error:  # Pillow's UnidentifiedImageError is one
        raise InputError(
            f"{upload.name} is not a picture that can be decoded: another format or truncated."
        ) from error


def _refuse_pixels(name: str, width: int, height: int, limits: Limits) -> None:
    megapixels = width * height / 1e6
    if megapixels > limits.megapixels:
        raise InputError(
            f"{name} has {width} x {height} = {megapixels:.0f} megapixels; this demo takes up to "
            f"{limits.megapixels:g}. Make it smaller."
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
