"""Clips with something to lose: frames that differ and tell their numbers, with sound; and their ruin."""

import random
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

RATE = 24
HEIGHT, WIDTH = 96, 128
_BITS = 8
_SOUND = {".avi": "mp3", ".mpg": "mp2"}
_KEY = 12


def picture(number: int) -> np.ndarray:
    """uint8 [H, W, 3]: blocks that move, and above them the number in black and white bits."""
    blocks = np.random.default_rng(1).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    shown = np.roll(blocks.repeat(8, 0).repeat(8, 1), 2 * number, axis=1)
    bits = [255 * (number >> bit & 1) for bit in range(_BITS)]
    shown[:16] = np.repeat(bits, WIDTH // _BITS)[None, :, None]
    return shown


def number_of(shown: np.ndarray) -> int:
    """The number that a decoded picture tells."""
    bits = shown[2:14].reshape(12, _BITS, -1).mean((0, 2)) > 127
    return int((bits << np.arange(_BITS)).sum())


def write_moving(
    path: Path,
    frames: int = 72,
    *,
    sound: bool = True,
    b_frames: int = 2,
    begin: Fraction | int = 0,
    skip: dict[int, Fraction] | None = None,
) -> Path:
    """A clip at RATE frames per second, of `frames` frames.

    begin: seconds at which its first frame is shown, on its own clock.
    skip: seconds by which the clock leaps ahead before the frame of that number, a key frame.
    """
    suffix = path.suffix
    b_frames = 0 if suffix == ".avi" else b_frames
    written = {"movflags": "faststart"} if suffix == ".mp4" else {}
    if begin < 0:
        written["avoid_negative_ts"] = "disabled"
    clock, heard = _Clock(Fraction(begin), skip or {}), 0
    with av.open(str(path), "w", options=written) as container:
        video = _add_video(container, suffix, b_frames)
        audio = None
        if sound:
            audio = container.add_stream(_SOUND.get(suffix, "aac"), rate=48000, layout="mono")
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number % 2**_BITS), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(clock.set(video.encode(frame)))
            while audio is not None and Fraction(heard, 48000) < Fraction(number + 1, RATE):
                container.mux(clock.set(audio.encode(_tone(heard))))
                heard += 1024
        container.mux(clock.set(video.encode(None)))
        if audio is not None:
            container.mux(clock.set(audio.encode(None)))
    return path


def _add_video(container: Any, suffix: str, b_frames: int) -> Any:
    options = {"g": str(_KEY), "bf": str(b_frames)}
    codec = "mpeg2video" if suffix == ".mpg" else "libx264"
    if codec == "libx264":
        options |= {"crf": "20", "x264-params": "scenecut=0"}
    video = container.add_stream(codec, rate=RATE, options=options)
    video.height, video.width, video.pix_fmt = HEIGHT, WIDTH, "yuv420p"
    video.codec_context.time_base = Fraction(1, RATE)
    if codec == "mpeg2video":
        video.bit_rate = 2_000_000
    return video


def _tone(start: int) -> av.AudioFrame:
    wave = (8000 * np.sin(np.arange(start, start + 1024) / 20)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
    return frame


class _Clock(NamedTuple):
    begin: Fraction
    skip: dict[int, Fraction]

    def set(self, packets: list[Any]) -> list[Any]:
        for packet in packets:
            number = packet.pts * packet.time_base * RATE
            leap = sum(by for first, by in self.skip.items() if number >= first)
            shift = round((self.begin + leap) / packet.time_base)
            packet.pts += shift
            packet.dts += shift
        return packets


def ruin(source: Path, target: Path, *, begin: float = 0.5, share: float = 0.05) -> Path:
    """The same file with this share of its bytes, from `begin` of it on, overwritten by chance."""
    data = bytearray(source.read_bytes())
    first, count = int(len(data) * begin), int(len(data) * share)
    data[first : first + count] = random.Random(0).randbytes(count)
    target.write_bytes(data)
    return target


def join(target: Path, *clips: Path) -> Path:
    """As `cat` does."""
    target.write_bytes(b"".join(clip.read_bytes() for clip in clips))
    return target
