"""What a video can become, and how it can be encoded. Nothing heavy is imported: the command line reads it.

How an output is drawn or stored is in serve/video/draw.py and serve/video/sink.py, under the same name.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Output(NamedTuple):
    """A kind of output."""

    about: str
    suffix: str = ".mp4"
    """What its name ends in; empty is a folder."""
    lossless: bool = False
    """It has a codec of its own, and no sound."""
    uncorrected: bool = False
    """It shows the labels without the correction too."""


OUTPUTS: dict[str, Output] = {
    "overlay": Output("frame, colours, legend"),
    "colors": Output("the colours alone"),
    "side-by-side": Output("input, uncorrected and corrected overlay", uncorrected=True),
    "labels": Output("class numbers as a lossless grey FFV1 video (.mkv)", ".mkv", lossless=True),
    "frames": Output("class numbers as a folder of PNG frames, times in frames.csv", "", lossless=True),
}


@dataclass(frozen=True)
class Encoder:
    """What libav needs to know of one codec."""

    library: str
    crf: int
    """Default quality: about the same picture for all codecs."""
    worst: int
    """Largest crf."""
    preset: str
    """Default speed: near real time at 1280x720 on two cores."""
    presets: tuple[str, ...]
    undelayed: dict[str, str]
    """Options for frames that leave the encoder as soon as they entered it."""
    tag: str = ""
    """Four-letter code in the mp4, where players insist on one."""


_X26_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow"),
)
_QUICK = {"tune": "zerolatency"}
_NUMBERS = tuple(map(str, range(14)))

ENCODERS: dict[str, Encoder] = {
    "h264": Encoder("libx264", 20, 51, "veryfast", _X26_PRESETS, _QUICK),
    "hevc": Encoder("libx265", 24, 51, "ultrafast", _X26_PRESETS, _QUICK, tag="hvc1"),
    "av1": Encoder("libsvtav1", 32, 63, "10", _NUMBERS, {"svtav1-params": "pred-struct=1"}),
}
