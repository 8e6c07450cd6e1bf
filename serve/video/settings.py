"""What to make of a video: checked as a whole before any work starts."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from serve.errors import InputError
from serve.media.video.source import Selection
from serve.video.shares import Format, require_parquet

Output = Literal["overlay", "colors", "side-by-side", "labels", "frames"]
Codec = Literal["h264", "hevc", "av1"]

OUTPUTS: tuple[str, ...] = get_args(Output)
CODECS: tuple[str, ...] = get_args(Codec)
SUFFIXES: dict[str, str] = {
    "overlay": ".mp4",
    "colors": ".mp4",
    "side-by-side": ".mp4",
    "labels": ".mkv",
    "frames": "",
}
"""What the name of each output ends in; `frames` is a folder."""
LOSSLESS = ("labels", "frames")

_X26_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)


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


ENCODERS: dict[str, Encoder] = {
    "h264": Encoder("libx264", 20, 51, "veryfast", _X26_PRESETS, {"tune": "zerolatency"}),
    "hevc": Encoder("libx265", 24, 51, "ultrafast", _X26_PRESETS, {"tune": "zerolatency"}, tag="hvc1"),
    "av1": Encoder(
        "libsvtav1", 32, 63, "10", tuple(str(n) for n in range(14)), {"svtav1-params": "pred-struct=1"}
    ),
}


@dataclass(frozen=True)
class Settings:
    """How one video is segmented and written."""

    output: Output = "overlay"
    """"overlay": frame, colours, legend. "colors": the colours alone. "side-by-side": input, uncorrected and
    corrected overlay, for graphs with the output `uncorrected_labels`. "labels": each grey value is a class
    number, lossless FFV1 in Matroska. "frames": the same as one PNG per frame in a folder, with their times
    in frames.csv."""
    opacity: float = 0.5
    """Of the colours over the frame, in [0, 1]."""
    codec: Codec = "h264"
    crf: int | None = None
    """Quality; less is better and larger. None is the codec's default."""
    preset: str | None = None
    """Speed of the encoder; None is the codec's default."""
    tau: float | None = None
    """Strength of the correction, see `Segmenter`."""
    selection: Selection = field(default_factory=Selection)
    smooth: float = 0.0
    """Time constant, in seconds, over which scores are averaged; 0 is off."""
    shares: Format | None = None
    """Also write each class's share of every frame to a table beside the output, in this format."""
    reconnect: float = 30.0
    """How long, in seconds, to try to get a live source back that broke off; 0 is not at all."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            InputError: a value outside its range, an option that this output has no use for, or a package
                that is missing.
        """
        if self.shares == "parquet":
            require_parquet()
        encoder = ENCODERS[self.codec]
        if self.output in LOSSLESS and (self.codec != "h264" or self.crf is not None or self.preset):
            raise InputError(
                f"--output {self.output} is lossless and has a codec of its own; leave --codec, --crf and "
                "--preset out."
            )
        if self.crf is not None and not 0 <= self.crf <= encoder.worst:
            raise InputError(
                f"--crf {self.crf} is not in the range of {self.codec}, which is 0 to {encoder.worst}."
            )
        if self.preset is not None and self.preset not in encoder.presets:
            raise InputError(
                f"--preset {self.preset} is none of {self.codec}'s, which are {', '.join(encoder.presets)}."
            )
        if self.smooth < 0:
            raise InputError(f"--smooth {self.smooth:g} is negative; give a time in seconds, such as 0.1.")
        if not self.reconnect >= 0:  # also catches nan
            raise InputError(f"--reconnect {self.reconnect:g} is no time; give seconds, or 0 not to try.")
        chosen = self.selection
        if chosen.end is not None and chosen.end <= chosen.start:
            raise InputError(
                f"--end {float(chosen.end):g} is not after --start {float(chosen.start):g}; exchange them."
            )
